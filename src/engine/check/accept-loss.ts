/**
 * Living on without what is lost for good: what a start would miss of a data directory, and taking it off the
 * lists of slabs, so that it is missed no more. The caller holds the directory's lock. `loadHash` must have
 * finished.
 *
 * What is left then counts as if it were all: of each key the newest record that is there, and a key without
 * one is absent. An older value, or a key that was deleted, may come back where the newer record was in what
 * is lost; that is what is accepted.
 */
import fs from "node:fs";
import path from "node:path";
import { ERRORS } from "../../util/errors.ts";
import { INDEX_PARTITIONS } from "../../util/hash.ts";
import { openStoreFile, readStoreFile, type StoreIdentity, shardDirectory } from "../directory/store-file.ts";
import { SCAN_END } from "../index/reader.ts";
import { Shard } from "../shard/shard.ts";
import { FIGURE, slotOfSequence } from "../slabs/figures.ts";
import { listSlabs, slabName } from "../slabs/files.ts";
import { type FileIo, nodeIo } from "../slabs/io.ts";
import { SNAPSHOT_NAME } from "../snapshot/snapshot-read.ts";
import { createShardMemory } from "../state/memory.ts";

/** Entries of the index that are looked at in one step. */
const SCAN_ENTRIES = 4096;

/** What a start would miss of one shard. */
export interface ShardLoss {
  shard: number;
  /** What it would say of it, in sentences. */
  findings: string[];
  /** Slabs that are gone, or not as they were, rising. */
  slabs: number[];
  /** Keys that had their newest record there; null: nobody knows which keys, or how many. */
  keys: number | null;
}

/**
 * Reads the slabs as the next start would, and changes nothing.
 * @returns the shards that miss something; null: there is no store
 * @throws Error why a start would fail
 */
export function surveyLoss(directory: string): ShardLoss[] | null {
  const found = readStoreFile(directory);
  if (found === null) return null;
  // As the next start: what only the snapshot of the last stop tells counts, too.
  const store = { ...found, incarnation: found.incarnation + 1 };
  const losses: ShardLoss[] = [];
  for (let shard = 0; shard < store.shards; shard++) {
    if (!fs.existsSync(shardDirectory(directory, shard))) {
      if (!found.complete) continue;
      losses.push({ shard, findings: [`the folder of shard ${shard} is missing`], slabs: [], keys: null });
      continue;
    }
    const loss = surveyShard(directory, store, shard);
    if (loss !== null) losses.push(loss);
  }
  return losses;
}

function surveyShard(directory: string, store: StoreIdentity, shard: number): ShardLoss | null {
  const findings: string[] = [];
  const { state } = Shard.examine(
    { ...setupOf(directory, store, shard), warn: (message) => findings.push(message) },
    () => {},
  );
  const { figures, slabs, index } = state;
  const isInDoubt = figures[FIGURE.doubtSequence] !== 0;
  if (!isInDoubt && figures[FIGURE.missingSlabs] === 0) return null;
  const lost = [...slabs.all()].filter((slab) => slab.damaged).map((slab) => slab.sequence);
  const slots = new Set(lost.map(slotOfSequence));
  let keys = 0;
  for (let partition = 0; partition < INDEX_PARTITIONS && !isInDoubt; partition++)
    for (let from = 0; from < SCAN_END; ) {
      const page = index.scan(partition, from, SCAN_ENTRIES);
      for (const slot of page.slots) if (slots.has(slot)) keys++;
      from = page.next;
    }
  return { shard, findings, slabs: lost.sort((a, b) => a - b), keys: isInDoubt ? null : keys };
}

/**
 * Takes the losses off the lists of slabs. A crash in between leaves each shard as it was, or settled.
 * @param warn told what a start has to say
 * @throws Error why it could not be done
 */
export async function acceptLoss(
  directory: string,
  losses: readonly ShardLoss[],
  warn: (message: string) => void,
  io: FileIo = nodeIo,
): Promise<void> {
  const store = openStoreFile(io, directory, { shards: 1 });
  for (const { shard } of losses) {
    clearWay(shardDirectory(directory, shard), store.slabBytes, io);
    // The index points to what is lost: the next start builds it from what is left.
    const snapshotEntriesMin = Number.POSITIVE_INFINITY;
    const setup = { ...setupOf(directory, store, shard), io, warn, snapshotEntriesMin };
    const opened = Shard.open(setup, () => {});
    const { error, detail } = opened.settleLoss();
    await opened.close();
    if (error !== null)
      throw new Error(
        `the loss in shard ${shard} could not be noted: ${detail || ERRORS[error].message}; what was lost is missed as before`,
      );
  }
}

function setupOf(dataDirectory: string, store: StoreIdentity, shard: number) {
  const memory = createShardMemory(0);
  return { dataDirectory, shard, store, sync: "always", memory, now: Date.now } as const;
}

/**
 * Removes the snapshot, which knows the lost records and not what they replaced; gives slabs that were cut
 * their size again, with zeros where no record is any more; and removes those of which nothing is left.
 */
function clearWay(directory: string, slabBytes: number, io: FileIo): void {
  if (!fs.existsSync(directory)) return;
  const snapshot = path.join(directory, SNAPSHOT_NAME);
  if (fs.existsSync(snapshot)) io.unlink(snapshot);
  for (const sequence of listSlabs(directory)) {
    const file = path.join(directory, slabName(sequence));
    const { size } = fs.statSync(file);
    if (size >= slabBytes) continue;
    if (size === 0) {
      io.unlink(file);
      continue;
    }
    const fd = io.open(file, "r+");
    try {
      io.ftruncate(fd, slabBytes);
      io.fsync(fd);
    } finally {
      io.close(fd);
    }
  }
  io.syncDirectory(directory);
}
