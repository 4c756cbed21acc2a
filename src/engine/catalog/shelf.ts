/**
 * The runs of a catalog in their files, and the manifest that names them with the places in the logs up to
 * where they have every key.
 */
import fs from "node:fs";
import { sentenceOf } from "../../platform/system-error.ts";
import type { StoreIdentity } from "../directory/store-file.ts";
import { type FileIo, isDiskFull } from "../slabs/io.ts";
import { keysDirectory, readManifest, strayFiles, writeManifest } from "./runs/manifest.ts";
import type { KeyRun } from "./runs/run.ts";
import { type FillRun, filesOf, RunFiles } from "./runs/run-files.ts";

/** After a failed write the files are left alone for so long. */
const RETRY_MS = 5000;

export interface ShelfSetup {
  dataDirectory: string;
  store: StoreIdentity;
  io: FileIo;
  /** Nothing can be written. */
  readOnly: boolean;
  warn: (message: string) => void;
}

/** What the manifest says. */
interface Content {
  runs: readonly KeyRun[];
  /** For each shard a place in its log. */
  watermarks: readonly number[];
  /** Beyond the watermarks, and in the runs, is every key. */
  complete: boolean;
}

export class Shelf implements Content {
  private readonly setup: ShelfSetup;
  private readonly directory: string;
  private readonly files: RunFiles;
  private notBeforeMs = 0;
  diskFull = false;
  /** What `read` has found is damage, and not only out of date. */
  isDamaged = false;
  /** What the system said when a run was opened; null: nothing. */
  cause: unknown = null;
  runs: readonly KeyRun[] = [];
  watermarks: readonly number[] = [];
  complete = false;

  constructor(setup: ShelfSetup) {
    const { dataDirectory, store, io } = setup;
    this.setup = setup;
    this.directory = keysDirectory(dataDirectory);
    this.files = new RunFiles({ io, directory: this.directory, salt: store.salt, next: 1 });
  }

  private get storeId(): string {
    return Buffer.from(this.setup.store.id).toString("hex");
  }

  /** Reads the manifest and opens its runs. Answers why that cannot be; an empty text: there are none yet. */
  read(): string | null {
    const { store, readOnly } = this.setup;
    if (!fs.existsSync(this.directory)) return "";
    const manifest = readManifest(this.directory);
    if (manifest === null) return "";
    if (typeof manifest === "string") return this.damage(manifest);
    if (manifest.store !== this.storeId) return "it belongs to another store";
    if (manifest.watermarks.length !== store.shards) return "it has another number of shards";
    // A start by a program that keeps no catalog came between, or files were put back from a copy.
    if (manifest.incarnation !== store.incarnation - (readOnly ? 0 : 1))
      return `it was written in start ${manifest.incarnation}, and this is start ${store.incarnation}`;
    this.files.next = manifest.next;
    try {
      this.runs = manifest.runs.map((files) => this.files.open(files));
    } catch (error) {
      // Also what the system says: all that is in them can be had from the slabs.
      this.cause = error;
      return this.damage(sentenceOf(error as Error));
    }
    this.complete = manifest.complete;
    this.watermarks = manifest.watermarks;
    return null;
  }

  private damage(text: string): string {
    this.isDamaged = true;
    return text;
  }

  /**
   * Makes this what is there, and writes it down; where that fails, the next start finds what was there
   * before, or begins anew.
   */
  begin(content: Content): void {
    Object.assign(this, content);
    if (this.setup.readOnly) return;
    try {
      fs.mkdirSync(this.directory, { recursive: true, mode: 0o700 });
      this.note(content);
      this.clean();
    } catch (error) {
      this.failed(error, "the catalog of keys cannot be noted");
    }
  }

  /** Makes this what is there once it is on the disk. Throws what the disk says. */
  install(content: Content): void {
    this.note(content);
    Object.assign(this, content);
    this.diskFull = false;
  }

  private note({ runs, watermarks, complete }: Content): void {
    writeManifest(this.setup.io, this.directory, {
      store: this.storeId,
      incarnation: this.setup.store.incarnation,
      complete,
      next: this.files.next,
      runs: runs.map(filesOf),
      watermarks: [...watermarks],
    });
  }

  /** Removes files that no run needs, of a process that was killed or of a catalog that was given up. */
  private clean(): void {
    const named = new Set(this.runs.flatMap(filesOf));
    for (const file of strayFiles(this.directory, named)) fs.rmSync(file, { force: true });
  }

  /** Notes that a write has failed. */
  failed(error: unknown, what: string): void {
    this.diskFull = isDiskFull(error);
    // A full disk is told by /health; it is tried again until there is room.
    if (!this.diskFull) this.setup.warn(`${what}: ${sentenceOf(error as Error)}`);
    this.notBeforeMs = performance.now() + RETRY_MS;
  }

  /** Whether something may be written now. */
  get mayWrite(): boolean {
    return !this.setup.readOnly && performance.now() >= this.notBeforeMs;
  }

  /** There may be room on the disk again. */
  retryNow(): void {
    this.notBeforeMs = 0;
  }

  /** Writes keys into new files, which nothing names yet: see RunFiles. */
  write(fill: FillRun): Promise<KeyRun | "empty" | null> {
    return this.files.write(fill);
  }

  /** Removes the files of runs that the manifest does not name any more. */
  remove(runs: readonly KeyRun[]): void {
    for (const run of runs) this.files.remove(run);
  }
}
