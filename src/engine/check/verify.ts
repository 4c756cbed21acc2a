/**
 * Reads a whole data directory and says what in it is damaged. Writes nothing; the caller holds the
 * directory's lock.
 *
 * Every record of every slab is read, also those that count no more: damage there does no harm, but tells of
 * a disk that does. The bytes after the last record of an open slab are no damage: what was being written
 * when the node ended, which the next start overwrites.
 */

import fs from "node:fs";
import path from "node:path";
import { demandDescriptors } from "../../platform/system-error.ts";
import { readStoreOrBackup } from "../directory/backup-file.ts";
import { type StoreIdentity, shardDirectory } from "../directory/store-file.ts";
import { startsProblem } from "../feed/starts.ts";
import { listSlabs } from "../slabs/files.ts";
import { verifyCatalog } from "./catalog/verify-catalog.ts";
import { Findings, type VerifyReport, type VerifySummary } from "./findings.ts";
import { verifyShard } from "./verify-shard.ts";

/** Checks a data directory. Null: there is none of minivault. `loadHash` must have finished. */
export async function verifyDirectory(
  directory: string,
  report: VerifyReport,
): Promise<VerifySummary | null> {
  const summary: VerifySummary = {
    shards: 0,
    slabs: 0,
    records: 0,
    bytes: 0,
    manifests: 0,
    chunks: 0,
    keys: 0,
    tombstones: 0,
    damage: 0,
  };
  const counted: VerifyReport = {
    ...report,
    damage: (damage) => {
      summary.damage++;
      report.damage(damage);
    },
  };
  const wholeStore = (text: string): VerifySummary => {
    counted.damage({ file: "STORE", offset: null, kind: "store", key: null, text });
    summary.keys = summary.tombstones = null;
    return summary;
  };
  let store: StoreIdentity | null;
  try {
    store = readStoreOrBackup(directory);
  } catch (error) {
    demandDescriptors(error);
    return wholeStore((error as Error).message);
  }
  if (store === null)
    return fs.existsSync(shardDirectory(directory, 0))
      ? wholeStore("it is missing; restore it from a copy, the slabs need it")
      : null;
  summary.shards = store.shards;
  const missing: number[] = [];
  const present: number[] = [];
  for (let shard = 0; shard < store.shards; shard++)
    (fs.existsSync(shardDirectory(directory, shard)) ? present : missing).push(shard);
  const total = present.reduce(
    (sum, shard) =>
      sum + listSlabs(shardDirectory(directory, shard)).length * (store as StoreIdentity).slabBytes,
    0,
  );
  for (const shard of missing) {
    const file = path.relative(directory, shardDirectory(directory, shard));
    // The first start may have ended before it had made them all.
    if (store.incarnation <= 1 && !store.complete) report.note(`${file} was never made`);
    else counted.damage({ file, offset: null, kind: "shard", key: null, text: "the folder is missing" });
  }
  for (const shard of present)
    await verifyShard(new Findings(directory, store, shard, counted, summary), total);
  const problem = startsProblem(directory, store);
  if (problem !== null) report.note(problem);
  // Of slabs that are not sound nobody knows which keys there must be.
  if (summary.damage === 0 && missing.length === 0)
    await verifyCatalog(directory, store, {
      damage: (text) =>
        counted.damage({ file: "keys", offset: null, kind: "list of all keys", key: null, text }),
      note: (text) => report.note(text),
      turn: async () => report.progress(summary.bytes, total),
    });
  return summary;
}
