/** minikeyvalue's rule for lists that are too long, with as many keys as it takes told by a catalog that makes them up. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { justAfter } from "../../../src/engine/catalog/runs/listing.ts";
import type { CatalogAnswer, CatalogQuestion } from "../../../src/shards/catalog/messages.ts";
import { withFront } from "../harness.ts";

const KEYS_MAX = 1_000_001;

const keyOf = (number: number): Uint8Array => new Uint8Array(Buffer.from(String(number).padStart(8, "0")));

/** Keys 0 to `count`, by their numbers in order. */
function catalogOf(count: number, breaksAt = Number.POSITIVE_INFINITY) {
  const asked: string[] = [];
  const ask = async (question: CatalogQuestion): Promise<CatalogAnswer> => {
    asked.push(question.kind);
    const { low } = question.range;
    const text = Buffer.from(low).toString();
    const from = text === "" ? 0 : Number(text.slice(0, 8)) + (text.length > 8 ? 1 : 0);
    const most = question.kind === "names" ? question.limit : 400_000;
    const to = Math.min(count, from + most);
    if (from >= breaksAt) return { kind: "refused", code: "no_quorum", detail: "" };
    const left = to === count ? null : { ...question.range, low: justAfter(keyOf(to - 1)) };
    const ended = { keys: [], nowMs: 0 };
    if (question.kind === "count") return { kind: "count", ended, count: to - from, left };
    const keys = Array.from({ length: to - from }, (_, i) => keyOf(from + i));
    return { kind: "names", ended, keys, left };
  };
  return { ask, asked };
}

test("mkv lists: more keys than it lists at once are 413, unless a limit says how many", async () => {
  await withFront({ compat: "mkv" }, async ({ call, vault }) => {
    const catalog = catalogOf(KEYS_MAX + 1);
    Object.assign(vault, { catalog });
    const all = await call("GET", "/?list");
    assert.equal(all.status, 413, all.text);
    assert.match(all.text, /limit/);
    assert.deepEqual(catalog.asked, ["names", "count", "count", "count"]);
    assert.equal((await call("GET", `/?list&limit=${KEYS_MAX + 1}`)).status, 413);
    const some = JSON.parse((await call("GET", "/?list&limit=5000")).text);
    assert.deepEqual([some.keys.length, some.next], [5000, "/00005000"]);
  });
});

test("mkv lists: as many as it lists at once come whole", async () => {
  await withFront({ compat: "mkv" }, async ({ call, vault }) => {
    Object.assign(vault, { catalog: catalogOf(KEYS_MAX) });
    const { keys, next } = JSON.parse((await call("GET", "/?list")).text);
    assert.deepEqual([keys.length, keys[0], keys.at(-1), next], [KEYS_MAX, "/00000000", "/01000000", ""]);
  });
});

test("mkv lists: one that breaks off is no answer", async () => {
  await withFront({ compat: "mkv" }, async ({ call, vault }) => {
    Object.assign(vault, { catalog: catalogOf(9000, 4000) });
    await assert.rejects(call("GET", "/?list&limit=8000"));
    Object.assign(vault, { catalog: catalogOf(9000, 0) });
    assert.equal((await call("GET", "/?list&limit=8000")).status, 503);
  });
});
