/** What verifying a store has to say, and of which shard. */
import path from "node:path";
import { type StoreIdentity, shardDirectory } from "../directory/store-file.ts";
import { slabName } from "../slabs/files.ts";

/** Something that is damaged. */
export interface Damage {
  /** Relative to the data directory. */
  file: string;
  /** Byte in the file; null: all of it. */
  offset: number | null;
  /** What is there: a type of record, "header", "footer", … */
  kind: string;
  /** The key as text; null where it is not known. */
  key: string | null;
  text: string;
}

export interface VerifySummary {
  shards: number;
  slabs: number;
  records: number;
  bytes: number;
  manifests: number;
  chunks: number;
  /** What a start would serve; null: that cannot be told. */
  keys: number | null;
  tombstones: number | null;
  damage: number;
}

export interface VerifyReport {
  damage(damage: Damage): void;
  /** Something worth knowing that is no damage. */
  note(text: string): void;
  progress(doneBytes: number, totalBytes: number): void;
}

/** What is said of one shard. */
export class Findings {
  readonly root: string;
  readonly directory: string;
  readonly store: StoreIdentity;
  readonly shard: number;
  readonly report: VerifyReport;
  readonly summary: VerifySummary;
  /** Slabs of which it was said that they are missing or not the ones that were there. */
  readonly named = new Set<number>();
  /** Whether all slabs can be read, so that a start and its maps can do so too. */
  isReadable = true;

  constructor(
    root: string,
    store: StoreIdentity,
    shard: number,
    report: VerifyReport,
    summary: VerifySummary,
  ) {
    this.root = root;
    this.directory = shardDirectory(root, shard);
    this.store = store;
    this.shard = shard;
    this.report = report;
    this.summary = summary;
  }

  /** A file of the shard. */
  file(name: string): string {
    return path.join(this.directory, name);
  }

  slabFile(sequence: number): string {
    return this.file(slabName(sequence));
  }

  damage(file: string, offset: number | null, kind: string, key: string | null, text: string): void {
    this.report.damage({ file: path.relative(this.root, file), offset, kind, key, text });
  }

  /** Something of a file that is no damage. */
  note(file: string, text: string): void {
    this.report.note(`${path.relative(this.root, file)}: ${text}`);
  }
}
