/** Deletes that a replica forgets, since all replicas have them: what the feed of its changes then tells, and from which places. */
import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import type { Ballot } from "../../../src/format/record.ts";
import { ballotOfMillis } from "../../../src/format/version.ts";
import type { LocalVault } from "../../../src/shards/vault/local-vault.ts";
import { openVault } from "../../../src/shards/vault/open.ts";
import { temporaryDirectory } from "../../engine/harness.ts";
import { ask, changesOf } from "./follow-model.ts";

const NOW = Date.now();

function ballot(number: number): Ballot {
  return { ...ballotOfMillis(NOW - 100_000 + number), node: 9, incarnation: 1 };
}

const keyOf = (name: string) => ({ bytes: Buffer.from(name), length: name.length });

function open(dataDirectory: string): Promise<LocalVault> {
  return openVault({
    ...{ dataDirectory, sync: "os", threads: 1, replicated: true, historyMs: 3_600_000 },
    warn: () => {},
    fatal: (error) => assert.fail(error),
  });
}

/** Writes, or deletes, a key as a replica does. */
async function accept(vault: LocalVault, name: string, at: Ballot, value: string | null): Promise<void> {
  const head = {
    ...{ key: keyOf(name), ballot: at, operationLow: 5, operationHigh: at.clockLow },
    ...{ json: false, contentType: "", trailer: new Uint8Array(0) },
  };
  await new Promise<void>((resolve) => {
    const body = value === null ? null : Buffer.from(value);
    assert.ok(vault.accept(head, body, ({ error }) => resolve(assert.equal(error, null))));
  });
}

function forget(vault: LocalVault, name: string, at: Ballot): Promise<boolean> {
  return new Promise((resolve, reject) =>
    vault.replica.dropTombstone(keyOf(name), at, false, (error, dropped) =>
      error === null ? resolve(dropped) : reject(new Error(error)),
    ),
  );
}

async function placeOf(vault: LocalVault): Promise<string> {
  const now = await ask(vault, {});
  assert.equal(now.kind, "changes", "code" in now ? now.code : "");
  return "place" in now ? now.place : "";
}

/** Keys that are told from a place on; or why none are. */
async function toldSince(vault: LocalVault, since: string): Promise<string[] | string> {
  const answer = await ask(vault, { since, catchesUp: true });
  return answer.kind === "refused"
    ? answer.code
    : changesOf(answer).map(({ event, key }) => `${event} ${key}`);
}

test("feed: a delete that a replica has forgotten makes the places before it too old, and no others", async () => {
  const scratch = temporaryDirectory();
  const folder = path.join(scratch.path, "first");
  let vault = await open(folder);
  try {
    await accept(vault, "deleted", ballot(1), "x");
    const before = await placeOf(vault);
    await accept(vault, "deleted", ballot(2), null);
    const after = await placeOf(vault);
    await accept(vault, "kept", ballot(3), "y");
    assert.deepEqual(await toldSince(vault, before), ["delete deleted", "put kept"]);
    assert.equal(await forget(vault, "deleted", ballot(2)), true);
    const forgotten = await placeOf(vault);
    await accept(vault, "later", ballot(4), "z");
    const check = async (afterIs: string[] | string): Promise<void> => {
      await placeOf(vault);
      assert.equal(await toldSince(vault, before), "place_too_old");
      assert.deepEqual(await toldSince(vault, after), afterIs);
      assert.deepEqual(await toldSince(vault, forgotten), ["put later"]);
    };
    await check(["put kept", "put later"]);
    // As kill -9 leaves it: what was forgotten since the list of slabs was written is not in it.
    const copy = path.join(scratch.path, "second");
    cpSync(folder, copy, { recursive: true, filter: (file) => !path.basename(file).startsWith("LOCK") });
    await vault.close();
    vault = await open(folder);
    await check(["put kept", "put later"]);
    await vault.close();
    vault = await open(copy);
    await check("place_too_old");
  } finally {
    await vault.close();
    scratch.remove();
  }
});
