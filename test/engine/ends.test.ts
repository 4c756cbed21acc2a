/** Values that end, in one shard: what is told is on the disk first, and what is over takes no room. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { dropTombstone, prepare } from "../../src/engine/shard/replica.ts";
import { FIGURE } from "../../src/engine/slabs/figures.ts";
import { nodeIo } from "../../src/engine/slabs/io.ts";
import { endOf } from "../../src/format/end.ts";
import { endedTrailer, withEnd } from "../../src/format/fields/end.ts";
import { metadataTrailer } from "../../src/format/fields/metadata.ts";
import { NO_TRAILER, readFields, writeFields } from "../../src/format/fields/trailer.ts";
import type { Ballot } from "../../src/format/record.ts";
import type { Outcome } from "../../src/rules/write.ts";
import { Harness, type HarnessOptions, inDirectory } from "./harness.ts";

const START = Date.UTC(2026, 5, 1);

/** A shard with a clock that the test sets. */
async function withClock(
  work: (vault: Harness, clock: { ms: number }, reopen: () => Promise<Harness>) => Promise<void>,
  options: HarnessOptions = {},
): Promise<void> {
  await inDirectory(async (directory) => {
    const clock = { ms: START };
    const open = () =>
      Harness.open(directory, { ...options, now: () => clock.ms, monotonic: () => clock.ms });
    const vault = await open();
    await work(vault, clock, open);
  });
}

const ballot = (clockHigh: number): Ballot => ({ clockLow: 5, clockHigh, node: 9, incarnation: 1 });
const state = (vault: Harness, key: string) => vault.read(key).state;

test("ends: the trailer has the end first, and a mark keeps what nobody knows", () => {
  const other = { type: 0x7fff, bytes: Buffer.from("from the future") };
  const described = Buffer.concat([metadataTrailer([["x-meta-a", "b"]]), writeFields([other])]);
  for (const trailer of [NO_TRAILER, described]) {
    const ending = withEnd(trailer, START);
    assert.equal(endOf(ending), START);
    assert.deepEqual(readFields(ending)?.length, (readFields(trailer)?.length ?? 0) + 1);
    assert.equal(endOf(withEnd(ending, START + 1)), START + 1);
    assert.deepEqual([...withEnd(ending, 0)], [...trailer]);
  }
  const kept = readFields(endedTrailer(withEnd(described, START)));
  assert.deepEqual(
    kept?.map(({ type }) => type),
    [1, 0x7fff],
  );
  // Shorter ones, and others of the type's number, are none.
  assert.equal(endOf(Uint8Array.of(1, 0, 4, 0, 1, 2, 3, 4)), 0);
  assert.equal(endOf(writeFields([{ type: 1, bytes: Buffer.alloc(4) }, other])), 0);
});

test("ends: what has ended is not there for conditions, and that is on the disk when it is told", () =>
  withClock(async (vault, clock, reopen) => {
    const outcomes: Record<string, Outcome> = {};
    for (const key of ["post", "match", "delete", "touch", "keep", "read"])
      assert.equal(vault.put(key, "value", { end: START + 1000 }).error, null);
    clock.ms = START + 999;
    assert.equal(vault.put("post", "again", { verb: "post" }).error, "exists");
    clock.ms = START + 1000;
    outcomes.post = vault.put("post", "again", { verb: "post", end: START + 5000 });
    outcomes.match = vault.put("match", "again", { ifMatch: "*" });
    outcomes.delete = vault.remove("delete");
    outcomes.touch = vault.touch("touch", START + 9000);
    outcomes.keep = vault.put("keep", "for ever", { keepsEnd: true });
    outcomes.read = vault.end("read", clock.ms);
    assert.deepEqual([outcomes.post.error, outcomes.post.created], [null, true]);
    assert.equal(outcomes.match.error, "precondition_failed");
    assert.deepEqual([outcomes.delete.error, outcomes.delete.deleted], [null, false]);
    assert.ok(outcomes.delete.ballot !== null, "the version of what has ended");
    assert.equal(outcomes.touch.error, "not_found");
    assert.deepEqual([outcomes.keep.error, outcomes.keep.created], [null, true]);
    assert.equal(outcomes.read.error, null);
    await vault.crash();
    // The clock is set back, and the node begins anew.
    clock.ms = START;
    const later = await reopen();
    for (const key of ["match", "delete", "touch", "read"]) assert.equal(state(later, key), "absent", key);
    const kept = later.read("keep");
    assert.ok(kept.state === "found" && endOf(kept.trailer) === 0);
    const posted = later.read("post");
    assert.ok(posted.state === "found" && endOf(posted.trailer) === START + 5000);
    await later.shard.close();
  }));

test("ends: nobody is told while that cannot be written", () =>
  inDirectory(async (directory) => {
    let fails = false;
    let now = START;
    const io = {
      ...nodeIo,
      fdatasync: (fd: number) => {
        if (fails) throw Object.assign(new Error("EIO: i/o error"), { code: "EIO" });
        nodeIo.fdatasync(fd);
      },
    };
    const vault = await Harness.open(directory, { io, now: () => now });
    vault.put("a", "value", { end: START + 10 });
    now = START + 20;
    fails = true;
    assert.notEqual(vault.end("a", now).error, null);
    assert.equal(vault.put("a", "x", { ifMatch: "*" }).error, "write_stopped");
    await vault.crash();
    fails = false;
    now = START;
    const later = await Harness.open(directory, { io, now: () => now });
    // Nobody was told.
    assert.notEqual(state(later, "a"), "damaged");
    await later.shard.close();
  }));

test("ends: a touch keeps the value, its type and what else is kept with it; a large one stays where it is", () =>
  withClock(async (vault, clock, reopen) => {
    const large = Buffer.alloc(30_000, "large");
    const trailer = metadataTrailer([["content-language", "eo"]]);
    vault.put("small", "text", { contentType: "text/plain", trailer, end: START + 1000 });
    vault.upload("large", large, { contentType: "image/png", trailer });
    const { appendedBytes } = vault.shard.log.appender;
    const first = vault.touch("small", START + 5000);
    assert.equal(vault.touch("large", START + 7000).error, null);
    assert.ok(vault.shard.log.appender.appendedBytes - appendedBytes < 2000, "no byte of it was copied");
    assert.equal(vault.touch("small", 0, { ifMatch: '"0"' }).error, "precondition_failed");
    assert.equal(vault.touch("nothing", START + 5000).error, "not_found");
    assert.equal(vault.touch("nothing", START + 5000, { ifMatch: "*" }).error, "not_found");
    assert.equal(vault.figure("ending"), 2);
    const small = vault.read("small");
    assert.ok(small.state === "found" && small.value.toString() === "text");
    assert.deepEqual(small.trailer, Buffer.from(withEnd(trailer, START + 5000)));
    assert.equal(small.etag, vault.etag(first));
    // Chunks move, and those of a touched value with them.
    for (let i = 0; i < 1000; i++)
      vault.put(i % 10 === 0 ? `kept ${i}` : `churn ${i % 3}`, Buffer.alloc(900, i));
    await vault.sealed();
    await vault.settle();
    assert.ok(vault.figure("compactedBytes") > 30_000, `${vault.figure("compactedBytes")} bytes compacted`);
    assert.equal(vault.touch("large", 0).error, null);
    await vault.crash();
    clock.ms += 60_000;
    const later = await reopen();
    const read = later.read("large");
    assert.ok(read.state === "found" && read.value.equals(large));
    assert.deepEqual(read.trailer, Buffer.from(trailer));
    await later.shard.close();
  }));

test("ends: what is over is marked by itself, its bytes come back, and after a restart, too", () =>
  withClock(
    async (vault, clock, reopen) => {
      for (let i = 0; i < 300; i++)
        vault.put(`key ${i}`, Buffer.alloc(900, i), i % 3 === 0 ? {} : { end: START + 1000 + i });
      vault.upload("large", Buffer.alloc(50_000, "x"), { end: START + 1000 });
      vault.put("key 1", "replaced, for ever");
      vault.put("key 2", "replaced, for a while", { end: START + 100_000 });
      vault.touch("key 4", 0);
      vault.remove("key 5");
      assert.equal(vault.figure("ending"), 200 - 3 + 1);
      clock.ms = START + 999;
      await vault.settle();
      assert.equal(vault.figure("marked"), 0, "nothing before its time");
      const before = vault.figure("liveBytes");
      clock.ms = START + 1100;
      await vault.settle();
      await vault.sealed();
      const marked = vault.figure("marked");
      assert.ok(marked > 30 && marked < 150, `${marked} marked`);
      assert.ok(vault.figure("liveBytes") < before - 50_000, "the large one's chunks are dead, too");
      assert.equal(state(vault, "large"), "absent");
      await vault.crash();
      const later = await reopen();
      await later.settle();
      assert.equal(later.figure("ending"), 198 - marked);
      clock.ms = START + 2000;
      await later.settle();
      assert.equal(later.figure("ending"), 1);
      for (const key of ["key 0", "key 1", "key 2", "key 3", "key 4"])
        assert.equal(state(later, key), "found", key);
      for (const key of ["key 5", "key 7", "key 298"]) assert.equal(state(later, key), "absent", key);
      await later.shard.close();
      const last = await reopen();
      assert.equal(state(last, "large"), "absent");
      assert.equal(state(last, "key 4"), "found");
      await last.shard.close();
    },
    { snapshotEntriesMin: 1 },
  ));

test("ends: values that are replaced again and again leave little in the calendar", () =>
  withClock(async (vault, clock) => {
    for (let round = 0; round < 150; round++) {
      for (let i = 0; i < 1000; i++) vault.stage(`key ${i % 10}`, "x", { end: START + 10_000_000 });
      vault.shard.commit();
      vault.shard.idle(16 * 1024);
    }
    await vault.settle();
    assert.equal(vault.figure("ending"), 10);
    assert.ok(vault.figure("calendar") <= 65_536 + 1000, `${vault.figure("calendar")} entries`);
    clock.ms += 20_000_000;
    await vault.settle();
    assert.equal(vault.figure("ending"), 0);
    assert.equal(vault.figure("calendar"), 0);
    await vault.shard.close();
  }));

test("ends: an upload's end may be given when it is whole, and directories of older versions refuse them", async () => {
  await withClock(async (vault) => {
    assert.equal(vault.upload("large", Buffer.alloc(20_000), { end: START + 50 }).error, null);
    assert.equal(vault.figure("ending"), 1);
    await vault.shard.close();
  });
});

test("ends, replica: a mark ranks above its value and below every other ballot, and not under a promise", () =>
  withClock(
    async (vault, clock) => {
      const { shard } = vault;
      const done = (outcome: Outcome) => {
        shard.commit();
        return outcome.register;
      };
      const ref = (key: string) => {
        const { bytes, hashA, hashB } = vault.hashes(key);
        return { key: bytes, hashA, hashB };
      };
      const trailer = withEnd(NO_TRAILER, START + 1000);
      const accept = (key: string, at: number, what: "value" | "ended" | "tombstone") =>
        done(
          shard.apply(
            {
              ...vault.write(key, { verb: what === "value" ? "put" : "delete", trailer }),
              ...{ ballot: ballot(at), ended: what === "ended" },
            },
            Buffer.from("value"),
          ),
        );
      assert.equal(accept("a", 10, "value")?.verdict, "yes");
      const prepared = done(prepare(shard.batch, ref("a"), ballot(5)));
      assert.equal(prepared?.verdict, "no");
      const marked = accept("a", 10, "ended");
      assert.deepEqual([marked?.verdict, marked?.end, marked?.ended], ["yes", START + 1000, false]);
      assert.equal(state(vault, "a"), "absent");
      assert.equal(accept("a", 10, "ended")?.verdict, "already");
      assert.equal(accept("a", 10, "value")?.verdict, "already", "the value is not back");
      assert.equal(state(vault, "a"), "absent");
      const told = done(prepare(shard.batch, ref("a"), ballot(20)));
      assert.deepEqual(
        [told?.verdict, told?.tombstone, told?.ended, told?.end],
        ["yes", true, true, START + 1000],
      );
      // Above b a promise stands now.
      assert.equal(accept("b", 10, "value")?.verdict, "yes");
      assert.equal(done(prepare(shard.batch, ref("b"), ballot(20)))?.verdict, "yes");
      assert.equal(accept("b", 10, "ended")?.verdict, "no");
      // By itself a shard marks only up to the time that it is given, and nothing that is promised away.
      assert.equal(accept("c", 10, "value")?.verdict, "yes");
      clock.ms = START + 5000;
      await vault.settle();
      assert.equal(vault.figure("marked"), 1);
      const figures = new Float64Array(vault.memory.figures);
      figures[FIGURE.endTime] = START + 999;
      await vault.settle();
      assert.equal(vault.figure("marked"), 1);
      figures[FIGURE.endTime] = START + 1000;
      await vault.settle();
      assert.equal(state(vault, "c"), "absent");
      assert.equal(state(vault, "b"), "found");
      assert.deepEqual(shard.sweep.takeOverdue(9), ["b"]);
      assert.deepEqual(shard.sweep.takeOverdue(9), []);
      // Collected is exactly what was named.
      const drop = (at: number, ended: boolean) =>
        done(dropTombstone(shard.batch, ref("c"), ballot(at), ended));
      assert.equal(drop(10, false)?.verdict, "no");
      assert.equal(drop(9, true)?.verdict, "no");
      assert.equal(drop(10, true)?.verdict, "yes");
      assert.equal(accept("c", 10, "value")?.verdict, "no", "the floor keeps it away");
      await shard.close();
    },
    { replicated: true },
  ));

test("ends, replica: a touch changes exactly the version that it names", () =>
  withClock(
    async (vault) => {
      const { shard } = vault;
      const write = (key: string, at: number, more: object) => {
        const outcome = shard.apply(
          { ...vault.write(key, { contentType: "text/plain" }), ballot: ballot(at), ...more },
          Buffer.from("value"),
        );
        shard.commit();
        return outcome;
      };
      const trailer = withEnd(NO_TRAILER, START + 1000);
      const touch = (base: number, at: number) =>
        write("a", at, { verb: "touch", base: ballot(base), trailer });
      write("a", 10, {});
      assert.equal(touch(9, 20).error, "not_found");
      assert.equal(touch(10, 20).register?.verdict, "yes");
      assert.equal(touch(10, 20).register?.verdict, "already");
      assert.equal(touch(10, 30).error, "not_found", "it is another version now");
      assert.equal(touch(20, 20).register?.verdict, "already");
      assert.equal(touch(20, 15).register?.verdict, "no");
      const read = vault.read("a");
      assert.ok(
        read.state === "found" && read.value.toString() === "value" && endOf(read.trailer) === START + 1000,
      );
      await shard.close();
    },
    { replicated: true },
  ));

test("ends: marks go as tombstones do, and compaction writes them in place of what is over", () =>
  withClock(async (vault, clock, reopen) => {
    const KEYS = 11_000;
    for (let i = 0; i < KEYS; i++) vault.stage(`key ${i}`, "x".repeat(40), { end: START + 1000 });
    vault.shard.commit();
    for (let i = 0; i < 50; i++) vault.put(`kept ${i}`, "for ever");
    clock.ms = START + 2000;
    await vault.settle();
    assert.equal(vault.figure("marked"), KEYS);
    assert.equal(vault.figure("keys"), 50);
    for (let round = 0; round < 10; round++) {
      for (let i = 0; i < 100; i++) vault.stage(`churn ${i % 5}`, Buffer.alloc(900, i));
      vault.shard.commit();
      await vault.sealed();
      await vault.settle();
    }
    // Fewer than that are not worth the work.
    assert.ok(vault.figure("tombstones") < 10_000, `${vault.figure("tombstones")} marks are left`);
    await vault.crash();
    clock.ms = START;
    const later = await reopen();
    for (let i = 0; i < KEYS; i++) assert.equal(state(later, `key ${i}`), "absent");
    for (let i = 0; i < 50; i++) assert.equal(state(later, `kept ${i}`), "found");
    await later.shard.close();
  }));

test("ends: a slab that is being sealed when a start looks through it is not passed over", () =>
  inDirectory(async (directory) => {
    const now = () => START;
    const first = await Harness.open(directory, { now });
    for (let i = 0; i < 20; i++) first.put(`ends ${i}`, "x", { end: START + 1000 });
    await first.crash();
    const second = await Harness.open(directory, { now });
    // Nothing is awaited: the slab's table is on its way to the disk.
    const { sequence } = second.shard.log.appender;
    for (let i = 0; second.shard.log.appender.sequence === sequence; i++)
      second.put(`fill ${i}`, "y".repeat(4000));
    while (second.shard.idle(64 * 1024));
    assert.equal(second.figure("ending"), 20);
    await second.shard.close();
  }));
