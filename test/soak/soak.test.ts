/** What a soak is judged by, from data alone: registers and counters, slopes, samples as text, and the page. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { REPOSITORY } from "../rest/server.ts";
import { pageOf, type Run, readRun, verdictOf } from "./page.ts";
import { CLOCK_MS_MAX, Counter, LATE_MS_MAX, Register } from "./register.ts";
import { csvOf, FIGURES, type FigureName, type Sample, samplesOf } from "./samples.ts";
import { nameOf, valueNamed } from "./values.ts";
import { judge, slopeOf } from "./verdict.ts";

describe("a register", () => {
  test("holds what was acknowledged, and nothing else", () => {
    const register = new Register();
    assert.equal(register.read(null, 0, 1), null);
    register.acknowledged("a", 1, 2);
    assert.equal(register.read("a", 3, 4), null);
    assert.match(register.read("b", 5, 6) ?? "", /b is there in place of a/);
    register.acknowledged("c", 7, 8);
    assert.match(register.read("a", 9, 10) ?? "", /a is there in place of c/);
    register.acknowledged("d", 11, 12);
    assert.match(register.read(null, 13, 14) ?? "", /nothing is there in place of d/);
    register.acknowledged(null, 15, 16);
    assert.match(register.read("d", 17, 18) ?? "", /d is there in place of nothing/);
  });

  test("may hold a write that nobody answered, once, also after a later one", () => {
    const register = new Register();
    register.acknowledged("a", 1, 2);
    register.unknown("b", 3);
    register.acknowledged("c", 4, 5);
    assert.equal(register.read("c", 6, 7), null);
    assert.equal(register.read("b", 8, 9), null);
    assert.match(register.read("c", 10, 11) ?? "", /c is there in place of b/);
    register.acknowledged("d", 12, 13);
    assert.match(register.read("b", 14, 15) ?? "", /b is there/, "it has happened already");
  });

  test("does not hold one that is older than any process stands still", () => {
    const register = new Register();
    register.unknown("a", 0);
    register.acknowledged("b", LATE_MS_MAX, LATE_MS_MAX + 1);
    assert.match(register.read("a", LATE_MS_MAX + 2, LATE_MS_MAX + 3) ?? "", /a is there in place of b/);
  });

  test("may be empty after a delete that nobody answered", () => {
    const register = new Register();
    register.acknowledged("a", 1, 2);
    register.unknown(null, 3);
    assert.equal(register.read("a", 4, 5), null);
    assert.equal(register.read(null, 6, 7), null);
    assert.match(register.read("a", 8, 9) ?? "", /a is there in place of nothing/);
  });

  test("is empty after its end of life, not before, and stays so", () => {
    const register = new Register();
    const ends = 100_000;
    register.acknowledged("a", 0, 10, ends);
    assert.equal(register.read("a", 20, 30), null);
    assert.match(new Register().read("a", 0, 1) ?? "", /a is there in place of nothing/);
    const early = new Register();
    early.acknowledged("a", 0, 10, ends);
    assert.match(early.read(null, 20, 30) ?? "", /nothing is there in place of a/);
    const late = new Register();
    late.acknowledged("a", 0, 10, ends);
    const over = ends + 11 + CLOCK_MS_MAX;
    assert.match(late.read("a", over, over) ?? "", /which has ended/);
    assert.equal(register.read(null, ends, ends), null);
    assert.match(register.read("a", ends, ends) ?? "", /a is there in place of nothing/);
  });
});

test("a counter has every acknowledged step, and at most one for each that nobody answered", () => {
  const counter = new Counter();
  assert.equal(counter.acknowledged(1), null);
  counter.unknown();
  assert.equal(counter.read(1), null);
  assert.equal(counter.acknowledged(3), null);
  assert.equal(counter.read(3), null);
  assert.match(counter.read(4) ?? "", /it counts 4, not 3 to 3/);
  assert.match(counter.acknowledged(4) ?? "", /it counts 4, not 5 to 5/);
});

test("a value names itself, and a torn one is told", () => {
  for (const name of ["json-9-1", "bytes-0-2", "bytes-5000-3"]) {
    const { body } = valueNamed(name);
    assert.equal(nameOf(body), name);
    assert.notEqual(nameOf(body.subarray(0, -1)), name);
  }
  const { body } = valueNamed("bytes-5000-3");
  body[4000] ^= 1;
  assert.equal(nameOf(body), "bytes-5000-3, torn");
});

const sample = (seconds: number, node: number, figures: Partial<Record<FigureName, number>>): Sample => ({
  ...{ seconds, node, run: 1 },
  ...(Object.fromEntries(FIGURES.map((name) => [name, 100])) as Record<FigureName, number>),
  ...figures,
  errors: {},
});

test("a slope is that of most pairs, whatever a peak says", () => {
  const points = Array.from({ length: 9 }, (_, x) => [x, 2 * x] as const);
  assert.equal(slopeOf(points), 2);
  assert.equal(slopeOf([...points, [4.5, 1e9]]), 2);
  assert.ok(Number.isNaN(slopeOf([[1, 1]])));
});

test("what grows in the second half is not flat; what grew before is", () => {
  const MIB = 2 ** 20;
  const soak = (ownAt: (seconds: number) => number): Sample[] =>
    Array.from({ length: 121 }, (_, index) => index * 30).flatMap((seconds) =>
      [0, 1].map((node) => sample(seconds, node, { ownBytes: node === 0 ? ownAt(seconds) : seconds * MIB })),
    );
  const own = (samples: Sample[]) => judge(samples).filter(({ figure }) => figure === "ownBytes");
  const [flat, ...others] = own(soak((seconds) => Math.min(seconds, 1800) * MIB));
  assert.deepEqual(others, [], "a worker that is killed is not judged by its memory");
  assert.ok(flat.isFlat && flat.growth === 0 && flat.median === 1800 * MIB);
  const [growing] = own(soak((seconds) => 200 * MIB + seconds * (MIB / 60)));
  assert.ok(!growing.isFlat && Math.abs(growing.growth - 30 * MIB) < 1);
  const [untold] = own(soak(() => Number.NaN));
  assert.ok(!untold.isFlat, "what could not be told is not flat");
  assert.equal(judge(soak(() => 1)).filter(({ figure }) => figure === "diskBytes").length, 2);
});

test("samples come back from their text", () => {
  const samples = [
    { ...sample(10, 0, { getP99Ms: 1.25 }), errors: { no_quorum: 3, "watch ended, 503": 1 } },
    sample(10, 1, { heapBytes: Number.NaN }),
  ];
  const again = samplesOf(csvOf(samples));
  assert.deepEqual(again[1], samples[1]);
  assert.deepEqual(again[0], { ...samples[0], errors: { no_quorum: 3, "watch ended 503": 1 } });
  assert.throws(() => samplesOf("seconds,other\n"), /no samples/);
});

test("docs/soak.md is what its committed samples make it", (t) => {
  const folder = path.join(REPOSITORY, "docs/soak");
  if (!existsSync(folder)) return t.skip("there is no docs/soak");
  const { run, samples } = readRun(folder);
  assert.equal(readFileSync(path.join(REPOSITORY, "docs/soak.md"), "utf8"), pageOf(run, samples));
  const wrong: Run = { ...run, minutes: 60, wrong: ["a is lost"] };
  assert.match(verdictOf(wrong, []), /1 answers were wrong/);
  assert.match(pageOf(wrong, samples), /a is lost/);
  assert.match(verdictOf({ ...run, minutes: 3 }, []), /too short/);
});
