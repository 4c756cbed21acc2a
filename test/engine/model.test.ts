/**
 * The engine against a Map: random operations, restarts, crashes and compactions.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { randomSeed } from "../random.ts";
import { Harness, temporaryDirectory } from "./harness.ts";

interface Entry {
  value: Buffer;
  etag: string;
}

const KEYS = 12;
const key = fc.integer({ min: 0, max: KEYS - 1 }).map((n) => `key ${n} ${"k".repeat(n * 20)}`);
const size = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 0, max: 300 }) },
  { weight: 2, arbitrary: fc.integer({ min: 3000, max: 6000 }) },
  { weight: 1, arbitrary: fc.integer({ min: 20_000, max: 90_000 }) },
);

const command = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      kind: fc.constant("write" as const),
      key,
      size,
      verb: fc.constantFrom("put" as const, "post" as const),
      match: fc.constantFrom("", "current", "stale", "*"),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("delete" as const),
      key,
      match: fc.constantFrom("", "current", "stale"),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("abandon" as const), key, size }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("idle" as const), steps: fc.integer({ min: 1, max: 8 }) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom("restart" as const, "crash" as const) }) },
);

async function run(
  commands: readonly (typeof command extends fc.Arbitrary<infer T> ? T : never)[],
): Promise<void> {
  const directory = temporaryDirectory();
  const model = new Map<string, Entry>();
  let vault = await Harness.open(directory.path, { snapshotEntriesMin: 1 });
  let counter = 0;
  const check = (name: string): void => {
    const read = vault.read(name);
    const entry = model.get(name);
    if (entry === undefined) assert.equal(read.state, "absent", name);
    else {
      assert.ok(read.state === "found", `${name} is ${read.state}`);
      assert.equal(read.etag, entry.etag);
      assert.ok(read.value.equals(entry.value), `${name} has a wrong value`);
    }
  };
  try {
    for (const step of commands) {
      if (step.kind === "write" || step.kind === "delete") {
        const entry = model.get(step.key);
        const ifMatch =
          step.match === "current"
            ? (entry?.etag ?? "")
            : step.match === "stale"
              ? `"${"0".repeat(32)}"`
              : step.match;
        const holds = ifMatch === "" || (entry !== undefined && (ifMatch === "*" || ifMatch === entry.etag));
        if (step.kind === "delete") {
          const outcome = vault.remove(step.key, { ifMatch });
          assert.equal(outcome.error, holds ? null : "precondition_failed");
          if (!holds) continue;
          assert.equal(outcome.deleted, entry !== undefined);
          model.delete(step.key);
        } else {
          const value = Buffer.alloc(step.size, `${++counter} `);
          const condition = { verb: step.verb, ifMatch };
          const outcome =
            step.size > 4096
              ? vault.upload(step.key, value, condition)
              : vault.put(step.key, value, condition);
          const expected = !holds
            ? "precondition_failed"
            : step.verb === "post" && entry !== undefined
              ? "exists"
              : null;
          assert.equal(outcome.error, expected);
          if (expected !== null) continue;
          assert.equal(outcome.created, entry === undefined);
          model.set(step.key, { value, etag: vault.etag(outcome) });
        }
        check(step.key);
      } else if (step.kind === "abandon") vault.abandon(step.key, Buffer.alloc(step.size, "x"));
      else if (step.kind === "idle") {
        for (let i = 0; i < step.steps; i++) vault.shard.idle(8192);
        await new Promise((resolve) => setImmediate(resolve));
      } else {
        if (step.kind === "restart") await vault.shard.close();
        else await vault.crash();
        vault = await Harness.open(directory.path, { snapshotEntriesMin: 1 });
        assert.equal(vault.figure("keys"), model.size);
        assert.deepEqual(vault.warnings, []);
        for (let n = 0; n < KEYS; n++) check(`key ${n} ${"k".repeat(n * 20)}`);
      }
    }
    await vault.settle();
    for (let n = 0; n < KEYS; n++) check(`key ${n} ${"k".repeat(n * 20)}`);
    assert.ok(vault.figure("liveBytes") >= 0);
    const accounted = vault.figure("liveBytes");
    await vault.shard.close();
    vault = await Harness.open(directory.path, { snapshotEntriesMin: 1 });
    assert.equal(vault.figure("liveBytes"), accounted, "live bytes are the same when counted anew");
    await vault.shard.close();
  } finally {
    directory.remove();
  }
}

test("model: the engine answers like a Map, over restarts, crashes and compactions", async (t) => {
  const seed = randomSeed(t);
  const numRuns = Number(process.env.RUNS ?? 40);
  await fc.assert(fc.asyncProperty(fc.array(command, { minLength: 20, maxLength: 150 }), run), {
    seed,
    numRuns,
    endOnFailure: false,
  });
});
