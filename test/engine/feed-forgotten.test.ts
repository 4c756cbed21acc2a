/** A delete that is forgotten while somebody reads on towards it: whoever reads learns that it may have missed something. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { endsOf, isTold, LogChanges } from "../../src/engine/feed/log-changes.ts";
import { dropTombstone } from "../../src/engine/shard/replica.ts";
import type { Ballot } from "../../src/format/record.ts";
import { ballotOfMillis } from "../../src/format/version.ts";
import { Harness, inDirectory } from "./harness.ts";

const RECORDS = 1000;

function ballot(number: number): Ballot {
  return { ...ballotOfMillis(Date.UTC(2026, 0, 1) + number), node: 7, incarnation: 1 };
}

function accept(vault: Harness, key: string, at: Ballot, value: string | null): void {
  const write = { ...vault.write(key, { verb: value === null ? "delete" : "put" }), ballot: at };
  const outcome = vault.shard.apply({ ...write, operationHigh: 2 }, Buffer.from(value ?? ""));
  vault.shard.commit();
  assert.equal(outcome.error, null);
}

function forget(vault: Harness, key: string, at: Ballot): void {
  const { bytes, hashA, hashB } = vault.hashes(key);
  const outcome = dropTombstone(vault.shard.batch, { key: bytes, hashA, hashB }, at);
  vault.shard.commit();
  assert.equal(outcome.register?.verdict, "yes");
}

test("feed: a delete that is forgotten just before it is read is not passed over without a word", () =>
  inDirectory(async (directory) => {
    const vault = await Harness.open(directory, { replicated: true, readers: 1 });
    const memories = [vault.memory];
    const changes = (places = endsOf(memories)) => new LogChanges([vault.reader], memories, places);
    accept(vault, "key", ballot(1), "x");
    const before = endsOf(memories);
    const reader = changes(before);
    accept(vault, "key", ballot(2), null);
    const after = endsOf(memories);
    const others = changes(after);
    forget(vault, "key", ballot(2));
    const take = (): void => {};
    assert.ok(reader.read(RECORDS, take));
    assert.ok(reader.areDeletesGone(), "it has read past the place where the delete was");
    assert.ok(!isTold(before, memories));
    // Who was behind it has missed nothing.
    assert.ok(others.read(RECORDS, take));
    assert.ok(!others.areDeletesGone());
    assert.ok(isTold(after, memories));
    // What comes next is no reason, nor are deletes that were told.
    accept(vault, "key", ballot(3), "y");
    accept(vault, "key", ballot(4), null);
    assert.ok(others.read(RECORDS, take));
    assert.ok(!others.areDeletesGone());
    forget(vault, "key", ballot(4));
    assert.ok(others.read(RECORDS, take));
    assert.ok(!others.areDeletesGone());
    assert.ok(isTold(endsOf(memories), memories));
    await vault.shard.close();
  }));
