/**
 * Writing a backup of a store that is in use: links of its full slabs, copies of the open ones up to where
 * they were at one moment. FORMAT.md, "BACKUP", has the steps and what each is for.
 *
 * Until every slab has a second name, no slab may be dropped: `release` says when it may again. The second
 * name of what is yet to be copied lies in a folder of the data directory, where a link can always be made;
 * on file systems without links slabs are held until all are copied.
 */
import fs from "node:fs";
import path from "node:path";
import { UNIT_BYTES } from "../../format/offsets.ts";
import type { ListedSlab } from "../../format/slab-list.ts";
import { isOutOfDescriptors, sentenceOf } from "../../platform/system-error.ts";
import { VaultError } from "../../util/errors.ts";
import { writeBackupFile } from "../directory/backup-file.ts";
import { type StoreIdentity, shardDirectory } from "../directory/store-file.ts";
import type { StoreText } from "../directory/store-text.ts";
import { LIST_NAMES, slabListFile } from "../list/copies.ts";
import { slabName } from "../slabs/files.ts";
import { isDiskFull } from "../slabs/io.ts";
import type { ShardCut } from "./cut.ts";
import { copyBeginning, copyWhole, syncFolder, writeNew } from "./file-copy.ts";
import { clearTarget, type Target } from "./target.ts";

/** In the data directory: second names of slabs that are to be copied. */
export const STAGING = "backup.new";

export interface BackupJob {
  dataDirectory: string;
  store: StoreIdentity;
  text: StoreText;
  /** Of all shards, at one moment. */
  cuts: readonly ShardCut[];
  target: Target;
  /** When it was asked for, in milliseconds since 1970. */
  began: number;
  /** Slabs may be dropped again. Called once. */
  release: () => void;
  report: (doneSlabs: number, slabs: number) => void;
  /** Whether it is to be given up. */
  isGivenUp: () => boolean;
}

export interface BackupSummary {
  directory: string;
  began: number;
  ended: number;
  slabs: number;
  /** Of these, those that share their blocks with the store. */
  linked: number;
  /** Of the records in them. */
  bytes: number;
  /** What is missing or damaged in the store, and so in the copy. */
  problems: string[];
}

/** A slab whose records are to be copied, from a name that stays. */
interface ToCopy {
  cut: ShardCut;
  slab: ListedSlab;
  from: string;
  to: string;
  /** Null: all of it. */
  endBytes: number | null;
}

/**
 * Writes the backup into a folder that was taken for it, and that its caller leaves.
 * @throws VaultError: nothing is left of it then
 */
export async function writeBackup(job: BackupJob): Promise<BackupSummary> {
  const { target, cuts } = job;
  const writer = new BackupWriter(job);
  try {
    const copies: ToCopy[] = [];
    for (const cut of cuts) copies.push(...(await writer.link(cut)));
    await writer.copyAll(copies);
    for (const cut of cuts) await writer.finishShard(cut);
    writer.demandWanted();
    const summary = { ...writer.summary, ended: Date.now() };
    writeBackupFile(target.directory, { store: job.text, began: job.began, ended: summary.ended });
    await syncFolder(path.dirname(target.directory));
    return summary;
  } catch (error) {
    writer.letGo();
    // What cannot be removed shows by BACKUP.new that it is not finished.
    await clearTarget(target).catch(() => {});
    throw failedBackup(error, target.directory);
  } finally {
    writer.letGo();
    clearStaging(job.dataDirectory);
  }
}

/** Removes what a backup that was ended has left in the data directory. */
export function clearStaging(dataDirectory: string): void {
  fs.rmSync(path.join(dataDirectory, STAGING), { recursive: true, force: true });
}

/** Why there is no backup. */
export function failedBackup(error: unknown, directory: string): VaultError {
  if (error instanceof VaultError) return error;
  if (isDiskFull(error))
    return new VaultError(
      "disk_full",
      `the disk has no room for the backup ${directory}; what was written is removed`,
    );
  if (isOutOfDescriptors(error)) return new VaultError("overloaded", sentenceOf(error as Error));
  return new VaultError("internal", `the backup failed: ${sentenceOf(error as Error)}`);
}

/** Why a link cannot be made where a copy can. */
const NO_LINK: ReadonlySet<string> = new Set(["EXDEV", "EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"]);

/** False: this needs a copy. */
async function link(from: string, to: string): Promise<boolean> {
  try {
    await fs.promises.link(from, to);
    return true;
  } catch (error) {
    if (NO_LINK.has((error as NodeJS.ErrnoException).code ?? "")) return false;
    throw error;
  }
}

class BackupWriter {
  readonly summary: Omit<BackupSummary, "ended">;
  private readonly job: BackupJob;
  private readonly staging: string;
  private done = 0;
  private readonly total: number;
  /** Something is copied under the name that the store may take away. */
  private mustHold = false;
  private isReleased = false;

  constructor(job: BackupJob) {
    this.job = job;
    this.staging = path.join(job.dataDirectory, STAGING);
    this.total = job.cuts.reduce((sum, { list }) => sum + list.slabs.length, 0);
    const directory = job.target.directory;
    this.summary = { directory, began: job.began, slabs: 0, linked: 0, bytes: 0, problems: [] };
  }

  /** Lets slabs be dropped. */
  letGo(): void {
    if (this.isReleased) return;
    this.isReleased = true;
    this.job.release();
  }

  /** Gives each slab of a shard a second name; answers what is to be copied. */
  async link(cut: ShardCut): Promise<ToCopy[]> {
    const { job, staging } = this;
    await fs.promises.mkdir(shardDirectory(job.target.directory, cut.shard), { mode: 0o700 });
    await fs.promises.mkdir(staging, { mode: 0o700, recursive: true });
    const copies: ToCopy[] = [];
    for (const slab of cut.list.slabs) {
      this.demandWanted();
      try {
        const copy = await this.linkSlab(cut, slab);
        if (copy === null) await this.counted(cut, slab);
        else copies.push(copy);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
        this.missing(cut, slab.sequence);
      }
    }
    return copies;
  }

  /** Null: a link is enough. */
  private async linkSlab(cut: ShardCut, slab: ListedSlab): Promise<ToCopy | null> {
    const name = slabName(slab.sequence);
    const from = path.join(shardDirectory(this.job.dataDirectory, cut.shard), name);
    const to = this.placeOf(cut, slab);
    const isOpen = slab.sequence === cut.open;
    if (!isOpen && (await link(from, to))) {
      this.summary.linked++;
      return null;
    }
    const kept = path.join(this.staging, `${cut.shard}-${name}`);
    const endBytes = isOpen ? slab.endUnit * UNIT_BYTES : null;
    if (await link(from, kept)) return { cut, slab, from: kept, to, endBytes };
    this.mustHold = true;
    return { cut, slab, from, to, endBytes };
  }

  private placeOf({ shard }: ShardCut, { sequence }: ListedSlab): string {
    return path.join(shardDirectory(this.job.target.directory, shard), slabName(sequence));
  }

  private missing(cut: ShardCut, sequence: number): void {
    if (!cut.damaged.includes(sequence))
      throw new VaultError(
        "disk_full",
        "the disk of the data directory got full during the backup, which had to go; add space, or delete keys, and try again",
      );
    this.summary.problems.push(`slab ${sequence} of shard ${cut.shard} is missing in the store, too`);
    this.done++;
  }

  /** @param isCut its file was shorter than its records; left out: the copy shows it */
  private async counted(cut: ShardCut, slab: ListedSlab, isCut?: boolean): Promise<void> {
    const { summary } = this;
    const bytes = slab.endUnit * UNIT_BYTES;
    const name = `slab ${slab.sequence} of shard ${cut.shard}`;
    if (isCut ?? (await fs.promises.stat(this.placeOf(cut, slab))).size < bytes)
      summary.problems.push(`${name} is cut in the store, too`);
    else if (cut.damaged.includes(slab.sequence))
      summary.problems.push(`${name} is damaged in the store, too`);
    summary.slabs++;
    summary.bytes += bytes;
    this.job.report(++this.done, this.total);
  }

  async copyAll(copies: readonly ToCopy[]): Promise<void> {
    if (!this.mustHold) this.letGo();
    const { slabBytes } = this.job.store;
    for (const { cut, slab, from, to, endBytes } of copies) {
      this.demandWanted();
      if (endBytes === null) {
        await copyWhole(from, to);
        await this.counted(cut, slab);
      } else {
        const copied = await copyBeginning(from, to, endBytes, slabBytes);
        await this.counted(cut, slab, copied < endBytes);
      }
    }
    this.letGo();
  }

  /** The lists, which are the last of a shard. */
  async finishShard({ shard, list }: ShardCut): Promise<void> {
    const { job } = this;
    const directory = shardDirectory(job.target.directory, shard);
    const file = slabListFile({ shard, storeId: job.store.slabId }, list);
    for (const name of LIST_NAMES) await writeNew(path.join(directory, name), file);
    await syncFolder(directory);
  }

  /** @throws VaultError when nobody wants it any more, or the folder is somebody else's */
  demandWanted(): void {
    if (this.job.target.isLost)
      throw new VaultError(
        "conflict",
        "another process has taken the folder over meanwhile: name another one",
      );
    if (this.job.isGivenUp()) throw new VaultError("stopping", "the node is stopping; the backup is removed");
  }
}
