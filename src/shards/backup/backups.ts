/**
 * Backups of a store that serves. All shard threads stop between two batches; when the last has stopped, what
 * has been answered is in what they told, and nothing else is: that is the moment of the copy. Then they go
 * on, a few milliseconds later.
 */
import path from "node:path";
import type { ShardCut } from "../../engine/backup/cut.ts";
import { clearTarget, leaveTarget, type Target, takeTarget } from "../../engine/backup/target.ts";
import { type BackupSummary, failedBackup, writeBackup } from "../../engine/backup/write-backup.ts";
import { readStoreText, type StoreIdentity } from "../../engine/directory/store-file.ts";
import type { StoreText } from "../../engine/directory/store-text.ts";
import { VaultError } from "../../util/errors.ts";
import type { ShardThread } from "../thread/pool.ts";

export type { BackupSummary };

/** Told how many slabs of how many are in the copy. */
export type BackupReport = (doneSlabs: number, slabs: number) => void;

/** Makes backups of one store. */
export type RunBackup = (directory: string, report: BackupReport) => Promise<BackupSummary>;

export interface BackupsSetup {
  dataDirectory: string;
  store: StoreIdentity;
  threads: readonly Pick<ShardThread, "cut" | "resume" | "releaseSlabs">[];
  /** Why nothing can be written; null: it can. */
  readOnly: string | null;
}

export class Backups {
  private readonly setup: BackupsSetup;
  private running: Promise<unknown> | null = null;
  private closing = false;

  constructor(setup: BackupsSetup) {
    this.setup = setup;
  }

  /**
   * Makes a backup in a folder that is new or empty, or has what is left of one that was ended.
   * @returns when all of it is on the disk
   * @throws VaultError with a sentence for a person: then nothing is left of it
   */
  async run(directory: string, report: BackupReport): Promise<BackupSummary> {
    const { readOnly } = this.setup;
    if (this.closing) throw new VaultError("stopping");
    if (readOnly !== null)
      throw new VaultError(
        "unavailable",
        `a copy of a store that cannot be written is made by cp: ${readOnly}`,
      );
    if (this.running !== null)
      throw new VaultError("conflict", "another backup is being made; try again when it is done");
    const run = this.make(directory, report);
    this.running = run;
    try {
      return await run;
    } finally {
      this.running = null;
    }
  }

  private async make(directory: string, report: BackupReport): Promise<BackupSummary> {
    const began = Date.now();
    const source = path.resolve(this.setup.dataDirectory);
    const target = await takeTarget(directory, source, "backup").catch((error) => {
      throw failedBackup(error, directory);
    });
    try {
      return await this.fill(target, began, report);
    } finally {
      await leaveTarget(target, "backup");
    }
  }

  private async fill(target: Target, began: number, report: BackupReport): Promise<BackupSummary> {
    const { dataDirectory, store } = this.setup;
    const { text, cuts } = await this.moment().catch(async (error) => {
      await clearTarget(target);
      throw error;
    });
    let released: Promise<unknown> = Promise.resolve();
    const release = (): void => {
      released = this.releaseAll();
    };
    const isGivenUp = (): boolean => this.closing;
    try {
      return await writeBackup({
        ...{ dataDirectory, store, text, cuts, target, began, release, report, isGivenUp },
      });
    } finally {
      await released;
    }
  }

  /** The store, and what all shards consist of at one moment; slabs are held then. */
  private async moment(): Promise<{ text: StoreText; cuts: ShardCut[] }> {
    const { dataDirectory } = this.setup;
    const text = readStoreText(dataDirectory);
    if (text === null) throw new VaultError("write_stopped", `${dataDirectory} has lost its file STORE`);
    return { text, cuts: await this.cutAll() };
  }

  /** What all shards consist of at one moment; slabs are held then. */
  private async cutAll(): Promise<ShardCut[]> {
    const { threads } = this.setup;
    const results = await Promise.allSettled(threads.map((thread) => thread.cut()));
    const wereHeld = await Promise.all(
      threads.map((thread, i) => (results[i].status === "fulfilled" ? thread.resume() : false)),
    );
    const failure = results.find((result) => result.status === "rejected");
    if (failure === undefined && wereHeld.every((held) => held))
      return results.flatMap((result) => (result.status === "fulfilled" ? result.value : []));
    await Promise.all(
      threads.map((thread, i) => (results[i].status === "fulfilled" ? thread.releaseSlabs() : undefined)),
    );
    throw (
      failure?.reason ??
      new VaultError("overloaded", "a disk is so slow that the shards have no moment in common; try again")
    );
  }

  private releaseAll(): Promise<unknown> {
    return Promise.all(this.setup.threads.map((thread) => thread.releaseSlabs()));
  }

  /** Gives up what is under way, and takes no more. */
  async close(): Promise<void> {
    this.closing = true;
    await this.running?.catch(() => {});
  }
}
