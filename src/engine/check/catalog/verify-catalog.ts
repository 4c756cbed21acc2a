/**
 * Compares the catalog of keys with the index that a start would build: every key of the index is in a run,
 * or in the log beyond the watermarks. Changes nothing on the disk.
 */

import { TYPE_FORGOTTEN } from "../../../format/offsets.ts";
import { typeOf } from "../../../format/record.ts";
import { demandDescriptors } from "../../../platform/system-error.ts";
import { hashBOf, hashKey, shardOf } from "../../../util/hash.ts";
import { Catalog } from "../../catalog/catalog.ts";
import { RunDamage } from "../../catalog/runs/run.ts";
import { Shelf } from "../../catalog/shelf.ts";
import { Slices } from "../../catalog/slices.ts";
import type { StoreIdentity } from "../../directory/store-file.ts";
import { Shard } from "../../shard/shard.ts";
import { FIGURE } from "../../slabs/figures.ts";
import { readOnlyIo } from "../../slabs/io.ts";
import { createShardMemory, type ShardMemory } from "../../state/memory.ts";

export interface CatalogReport {
  /** What is damaged, or missing, in the catalog. */
  damage(text: string): void;
  /** Something worth knowing that is no damage. */
  note(text: string): void;
  /** Called now and then. */
  turn(): Promise<void>;
}

/** Checks the catalog of a store whose slabs are sound. */
export async function verifyCatalog(
  dataDirectory: string,
  store: StoreIdentity,
  report: CatalogReport,
): Promise<void> {
  const quiet = { dataDirectory, store, io: readOnlyIo, readOnly: true, warn: () => {} };
  const shelf = new Shelf(quiet);
  const problem = shelf.read();
  demandDescriptors(shelf.cause);
  if (problem !== null) {
    if (shelf.isDamaged) report.damage(problem);
    else if (problem !== "") report.note(`the next start builds the list of all keys anew: ${problem}`);
    return;
  }
  const memories = Array.from({ length: store.shards }, (_, shard) => examine(dataDirectory, store, shard));
  const held = memories.map((memory) => memory.held[0]);
  const catalog = new Catalog({ ...quiet, memories, held });
  const slices = new Slices();
  while (!catalog.absorb(slices)) {
    if (catalog.state === "blind") return report.damage("the logs cannot be followed to their ends");
    await report.turn();
  }
  try {
    await compare(catalog, store, memories, report);
  } catch (error) {
    if (!(error instanceof RunDamage)) throw error;
    report.damage(`${error.message}; the next list builds all runs anew`);
  }
}

function examine(dataDirectory: string, store: StoreIdentity, shard: number): ShardMemory {
  const memory = createShardMemory(1);
  const setup = { dataDirectory, shard, store, memory, sync: "always" as const, now: Date.now };
  Shard.examine({ ...setup, warn: () => {} }, () => {});
  return memory;
}

/** Counts the keys that are in both: the catalog has each once, and so has the index. */
async function compare(
  catalog: Catalog,
  store: StoreIdentity,
  memories: readonly ShardMemory[],
  report: CatalogReport,
): Promise<void> {
  const found = new Array<number>(store.shards).fill(0);
  const slices = new Slices();
  const keys = catalog.keys();
  for (keys.seek(new Uint8Array(0), 0); keys.valid; keys.advance()) {
    const { bytes, from, to } = keys.current;
    const key = bytes.subarray(from, to);
    const hashA = hashKey(key, key.length, 0);
    const hashB = hashBOf(key, key.length, store.keyHash);
    const shard = shardOf(hashA, hashB, store.shards);
    const lookup = catalog.logs.lookups[shard];
    lookup.find(key, key.length, hashA, hashB);
    if (lookup.located && typeOf(lookup.map, lookup.unit) !== TYPE_FORGOTTEN) found[shard]++;
    if (slices.isOver) {
      await report.turn();
      slices.begin();
    }
  }
  for (const [shard, { figures }] of memories.entries()) {
    const counted = new Float64Array(figures);
    const held = counted[FIGURE.keys] + counted[FIGURE.tombstones];
    if (found[shard] !== held)
      report.damage(`shard ${shard} has ${held} keys and tombstones, and the runs know ${found[shard]}`);
  }
}
