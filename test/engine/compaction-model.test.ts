/** A full disk comes back, whatever fills it, and compaction comes to rest: played through in a model, over random mixtures. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { LIVE_FRACTION_MAX } from "../../src/engine/compaction/choose.ts";
import { Random, randomSeed } from "../random.ts";
import { MIB, Model } from "./compaction-model.ts";

/** Mixtures in which the spare slab lacked a step for ever, though the open slab had almost all of its blocks left. */
const FOUND = [783572116];
/** In the long form many more. */
const MIXTURES = Number(process.env.MIXTURES ?? 24);
/** 64 bytes of each record are not its value's. */
const VALUE_BYTES = [180, 1100, 10_000, 100_000, 400_000, 900_000];
/** Idle turns of 50 ms. */
const TURNS_MAX = 20_000;
/** What is copied for what is freed. */
const WORK_MAX = LIVE_FRACTION_MAX / (1 - LIVE_FRACTION_MAX);

test("compaction model: writes come back after deletes, compaction ends, and its work is bounded", (t) => {
  let worst = 0;
  for (const seed of [...FOUND, randomSeed(t)]) worst = Math.max(worst, playMixtures(new Random(seed)));
  t.diagnostic(`at most ${worst.toFixed(2)} bytes copied for one that was freed`);
});

/** Answers the most that was copied for a byte that was freed. */
function playMixtures(random: Random): number {
  let worst = 0;
  for (let mixture = 0; mixture < MIXTURES; mixture++) {
    const shards = 1 + random.below(4);
    const valueBytes = VALUE_BYTES[random.below(VALUE_BYTES.length)];
    // Of many small values there are fewer, in smaller slabs.
    const isSmall = valueBytes < 2000;
    const slabBytes = (isSmall ? 16 : [32, 64][random.below(2)]) * MIB;
    const diskBytes = (isSmall ? 30 + random.below(100) : 150 + random.below(1500)) * MIB * shards;
    const share = [0.5, 0.67, 0.9, 1][random.below(4)];
    const isTaken = random.below(2) === 0;
    const what = `mixture ${mixture}: ${shards} shards on ${diskBytes / MIB} MiB, slabs of ${slabBytes / MIB} MiB, values of ${valueBytes}, ${share} deleted, ${isTaken ? "others fill the rest" : "alone"}`;
    const model = new Model(diskBytes, shards, slabBytes, valueBytes, random);
    model.fill();
    if (isTaken) model.othersTake();
    let refused = 0;
    for (const shard of model.shards) {
      const count = Math.floor(shard.values * share);
      for (let done = 0, tries = 0; done < count && tries < 400; ) {
        // Between idle turns come some deletes.
        const until = Math.min(count, done + Math.max(1, Math.ceil(count / 200)));
        while (done < until && shard.remove()) done++;
        if (done < until) {
          refused++;
          tries++;
        }
        for (const other of model.shards) other.idle();
        model.disk.nowMs += 50;
      }
    }
    const turns = model.settle(TURNS_MAX);
    const state = `${what}: ${refused} deletes refused, ${Math.round(model.sum((shard) => shard.deadBytes) / MIB)} MiB dead, ${Math.round(model.disk.freeBytes / MIB)} free, ${Math.round(model.sum((shard) => shard.copiedBytes) / MIB)} copied, ${Math.round(model.sum((shard) => shard.freedBytes) / MIB)} freed, ${turns} turns`;
    assert.ok(turns < TURNS_MAX, `no rest: ${state}`);
    assert.ok(
      model.shards.every(({ isWritable }) => isWritable),
      `still full: ${state}`,
    );
    assert.equal(
      model.sum((shard) => shard.misfits),
      0,
      `a victim did not fit: ${state}`,
    );
    const copied = model.sum((shard) => shard.copiedBytes);
    const freed = model.sum((shard) => shard.freedBytes);
    assert.ok(copied <= WORK_MAX * freed, `too much work: ${state}`);
    if (freed > 0) worst = Math.max(worst, copied / freed);
    for (const shard of model.shards) assert.ok(shard.put(), state);
  }
  return worst;
}
