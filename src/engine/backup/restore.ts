/**
 * Making a data directory of a backup: a store of its own, with the same keys and another identity, so that
 * it never stands in for the one that it was copied from. FORMAT.md, "BACKUP".
 */
import fs from "node:fs";
import path from "node:path";
import { demandForms } from "../../platform/private-directory.ts";
import { VaultError } from "../../util/errors.ts";
import { type BackupFacts, noBackup, readBackupFile, UNFINISHED_BACKUP } from "../directory/backup-file.ts";
import { identityOf, shardDirectory, writeRestoredStore } from "../directory/store-file.ts";
import { LIST_NAMES, readSlabList } from "../list/copies.ts";
import { slabName } from "../slabs/files.ts";
import { nodeIo } from "../slabs/io.ts";
import { copyWhole, syncFolder } from "./file-copy.ts";
import { clearTarget, leaveTarget, type Target, takeTarget } from "./target.ts";
import { isWholeSlab, sizeOf } from "./whole-slab.ts";

export interface RestoreOptions {
  /** Also of a backup that lacks slabs, or parts of some: what was in them answers 500. */
  incomplete: boolean;
  /** Whether it is to be given up. */
  isGivenUp: () => boolean;
  report: (doneFiles: number, files: number) => void;
}

export interface RestoreSummary {
  directory: string;
  /** When the backup was begun, in milliseconds since 1970. */
  began: number;
  slabs: number;
  /** Slabs that are not there, cut, or do not end as they are listed. */
  missing: string[];
}

/**
 * Copies a backup into a directory that is new or empty, or that a restore which was ended has left.
 * `loadHash` must have finished.
 * @throws Error with a sentence for a person; nothing is left in the directory then
 */
export async function restoreBackup(
  copy: string,
  directory: string,
  options: RestoreOptions,
): Promise<RestoreSummary> {
  demandForms(copy);
  const facts = readBackupFile(copy);
  if (facts === null) throw new VaultError("bad_request", noBackup(copy));
  const target = await takeTarget(path.resolve(directory), copy, "restore");
  try {
    return await fill(target, copy, facts, options);
  } finally {
    await leaveTarget(target, "restore");
  }
}

/** Puts everything into the directory, or nothing. */
async function fill(
  target: Target,
  copy: string,
  facts: BackupFacts,
  { incomplete, isGivenUp, report }: RestoreOptions,
): Promise<RestoreSummary> {
  const store = identityOf(facts.store);
  const files: [from: string, to: string][] = [];
  const missing: string[] = [];
  let slabs = 0;
  try {
    for (let shard = 0; shard < store.shards; shard++) {
      const from = shardDirectory(copy, shard);
      const to = shardDirectory(target.directory, shard);
      const { content } = readSlabList(from, { shard, storeId: store.slabId });
      if (content === null)
        throw new Error(`${from} has no whole list of slabs: minivault verify tells more`);
      for (const listed of content.slabs) {
        const name = slabName(listed.sequence);
        const file = path.join(from, name);
        const size = sizeOf(file);
        if (!isWholeSlab(file, size, store, shard, listed))
          missing.push(path.join(path.basename(from), name));
        if (size < 0) continue;
        files.push([path.join(from, name), path.join(to, name)]);
        slabs++;
      }
      for (const name of LIST_NAMES)
        if (fs.existsSync(path.join(from, name))) files.push([path.join(from, name), path.join(to, name)]);
    }
    if (missing.length > 0 && !incomplete)
      throw new Error(
        `${missing.length} slabs are missing, cut or damaged in ${copy}, the first: ${missing[0]}; minivault verify tells more; -incomplete restores the rest, and what was in them answers 500`,
      );
    await copyFiles(files, report, isGivenUp);
    await syncFolder(target.directory);
    writeRestoredStore(nodeIo, target.directory, facts.store);
    fs.rmSync(path.join(target.directory, UNFINISHED_BACKUP));
    await syncFolder(target.directory);
    await syncFolder(path.dirname(target.directory));
  } catch (error) {
    await clearTarget(target);
    throw error;
  }
  return { directory: target.directory, began: facts.began, slabs, missing };
}

async function copyFiles(
  files: readonly (readonly [string, string])[],
  report: RestoreOptions["report"],
  isGivenUp: RestoreOptions["isGivenUp"],
): Promise<void> {
  const folders = new Set(files.map(([, to]) => path.dirname(to)));
  for (const folder of folders) await fs.promises.mkdir(folder, { mode: 0o700 });
  for (const [done, [from, to]] of files.entries()) {
    if (isGivenUp()) throw new Error("interrupted: nothing is restored");
    await copyWhole(from, to);
    report(done + 1, files.length);
  }
  for (const folder of folders) await syncFolder(folder);
}
