import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { rangeOf } from "../../../src/engine/catalog/runs/listing.ts";
import { Tries } from "../../../src/server/lines/tries.ts";
import { askOn, type ListSource } from "../../../src/server/list/list-source.ts";
import type { CatalogAnswer } from "../../../src/shards/catalog/messages.ts";
import type { ErrorCode } from "../../../src/util/errors.ts";

const YES = (): boolean => true;
const QUESTION = { kind: "count", range: rangeOf(new Uint8Array(0)) } as const;
const COUNTED: CatalogAnswer = { kind: "count", ended: { keys: [], nowMs: 0 }, count: 3, left: null };

/** Answers each question with the next of these: a refusal, or the count. */
function sourceOf(...answers: (ErrorCode | null)[]): { source: ListSource; asked: () => number } {
  let asked = 0;
  const ask = async (): Promise<CatalogAnswer> => {
    const code = answers[asked++];
    return code === null ? COUNTED : { kind: "refused", code, detail: "" };
  };
  return { source: { ask: ask as ListSource["ask"] }, asked: () => asked };
}

describe("what was begun is tried again", () => {
  it("where a list is refused for a while: the machine is busy, a replica is away", async () => {
    const { source, asked } = sourceOf("building", "overloaded", "no_quorum", null);
    assert.deepEqual(await askOn(source, QUESTION, null, YES), COUNTED);
    assert.equal(asked(), 4);
  });

  it("not where somebody has to do something first, or trying again changes nothing", async () => {
    for (const code of ["corrupt", "internal", "stopping", "disk_full", "write_stopped"] as const) {
      const { source, asked } = sourceOf(code, null);
      const answer = await askOn(source, QUESTION, null, YES);
      assert.deepEqual([answer.kind, "code" in answer && answer.code, asked()], ["refused", code, 1]);
    }
  });

  it("only as long as somebody waits", async () => {
    let waits = 2;
    const { source, asked } = sourceOf("building", "building", "building", null);
    const answer = await askOn(source, QUESTION, null, () => --waits > 0);
    assert.deepEqual([answer.kind, asked()], ["refused", 2]);
  });

  it("not for ever", async (t) => {
    let nowMs = 0;
    t.mock.method(performance, "now", () => nowMs);
    const tries = new Tries(YES);
    assert.equal(await tries.again("building"), true);
    nowMs = 61_000;
    assert.equal(await tries.again("building"), false);
  });

  it("also after other refusals, where they are named", async () => {
    assert.equal(await new Tries(YES).again("unknown_outcome"), false);
    assert.equal(await new Tries(YES, ["unknown_outcome"]).again("unknown_outcome"), true);
  });
});
