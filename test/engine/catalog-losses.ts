/**
 * The catalog over a disk that remembers: a process that is killed, and power that is lost, at each step of flushes, merges, manifests and starts. Whatever is
 * left opens with every key that the index has, in order.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { Slices } from "../../src/engine/catalog/slices.ts";
import { nodeIo } from "../../src/engine/slabs/io.ts";
import { type Diagnostic, Random } from "../random.ts";
import { randomKey, Store, sorted } from "./catalog-store.ts";
import { inDirectory, MEMORY_FOLDER, temporaryDirectory } from "./harness.ts";
import { RecordedDisk, writeImage } from "./recorded-disk.ts";

const STEPS = 60;

export interface CatalogLossOptions {
  seed: number;
  /** Runs go on until this many images were opened. */
  images: number;
  /** Of the images of a run one in so many is opened. */
  oneIn: number;
}

/** Opens images of a data directory until there were enough of them. */
export async function catalogLosses(
  t: Diagnostic,
  { seed, images, oneIn }: CatalogLossOptions,
): Promise<void> {
  const random = new Random(seed);
  let opened = 0;
  let anew = 0;
  for (let run = 1; opened < images; run++)
    await inDirectory(async (directory) => {
      const count = 1 + random.below(2);
      const keys = new Set<string>();
      // Made before the record begins: it knows no folders.
      await (await Store.open(directory, count)).close();
      const disk = new RecordedDisk(directory);
      const work = { flushes: 0, merges: 0 };
      for (let starts = 0; starts < 2; starts++) {
        const store = await Store.open(directory, count, false, nodeIo, disk.io);
        await life(store, random, keys);
        const { flushes, merges } = store.catalog.figures();
        work.flushes += flushes;
        work.merges += merges;
        await (random.below(2) === 0 ? store.close() : store.crash());
      }
      assert.ok(work.flushes > 0, "nothing was written");
      for (const { moment, survival, image } of disk.images(random, 3)) {
        if (opened >= images) break;
        if (random.below(oneIn) > 0) continue;
        opened++;
        const what = `run ${run}, loss at ${moment} of ${disk.now}, what was not certain: ${survival}`;
        anew += await openImage(image, count, keys, what);
      }
    });
  t.diagnostic(`${opened} images opened, ${anew} of them built the order anew`);
}

/** Writes and work, so that runs are written and merged while keys come and go. */
async function life(store: Store, random: Random, keys: Set<string>): Promise<void> {
  const write = (): void => {
    const key = randomKey(random);
    keys.add(key);
    if (random.below(4) === 0) store.shardOf(key).remove(key);
    else store.shardOf(key).put(key, random.bytes(random.below(300)));
  };
  for (let step = 0; step < STEPS; step++) {
    for (let i = 0; i < 12; i++) write();
    store.catalog.absorb(new Slices());
    if (step % 10 === 9) {
      const work = store.catalog.work();
      write();
      await work;
    }
    if (step % 25 === 24) {
      for (const harness of store.shards) await harness.settle();
      store.catalog.logs.release();
    }
  }
}

/** Opens what is left; answers whether its order had to be built anew. */
async function openImage(
  image: ReadonlyMap<string, Buffer>,
  count: number,
  keys: ReadonlySet<string>,
  what: string,
): Promise<number> {
  const directory = temporaryDirectory(MEMORY_FOLDER);
  try {
    writeImage(new Map(image), directory.path);
    fs.mkdirSync(path.join(directory.path, "keys"), { recursive: true });
    const store = await Store.open(directory.path, count);
    const check = (when: string): void => {
      const wanted = [...keys].filter((key) => store.shardOf(key).read(key).state === "found");
      assert.deepEqual(store.list(), sorted(wanted), `${what}${when}`);
    };
    check("");
    // What goes on from there is whole as well.
    for (let i = 0; i < 3; i++) {
      const [key] = [...keys].slice(i * 7);
      if (key !== undefined) store.shardOf(key).put(key, "again");
    }
    await store.catalog.work();
    check(", after more writes");
    const { builds } = store.catalog.figures();
    await store.crash();
    return Math.min(1, builds);
  } finally {
    directory.remove();
  }
}
