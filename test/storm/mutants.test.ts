/**
 * Whether the suite would notice: each mutation of test/sim/source-mutants.ts is applied to a copy of the source, and the part of the suite that it names must
 * fail on it, within a minute. Without a mutation those parts pass. ONLY=N applies the Nth alone.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { SOURCE_MUTANTS, type SourceMutant } from "../sim/source-mutants.ts";

const ROOT = path.join(__dirname, "../..");
const NOTICED_MS_MAX = 60_000;
/** Where time is simulated nothing hangs, and being slow is no sign. */
const SIMULATED_MS_MAX = 600_000;
const COPIED = ["src", "test", "native-bench", "package.json", "tsconfig.json", "esbuild.config.mjs"];

describe("mutants of the source", () => {
  let copy: string;

  before(() => {
    copy = mkdtempSync(path.join(tmpdir(), "minivault-mutants-"));
    for (const name of COPIED) cpSync(path.join(ROOT, name), path.join(copy, name), { recursive: true });
    symlinkSync(path.join(ROOT, "node_modules"), path.join(copy, "node_modules"));
    symlinkSync(path.join(ROOT, "native"), path.join(copy, "native"));
  });
  after(() => rmSync(copy, { recursive: true, force: true }));

  /** Runs a part of the suite on the copy. Ended by the clock counts as noticed: it hangs. */
  const passes = ({ test: file, name, env: told }: SourceMutant): Promise<boolean> =>
    new Promise((resolve, reject) => {
      const words = [
        "--import",
        "tsx",
        "--test",
        ...(name === undefined ? [] : [`--test-name-pattern=${name}`]),
      ];
      const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !/^NODE_TEST_/.test(key)));
      const child = spawn(process.execPath, [...words, path.join("test", file)], {
        cwd: copy,
        env: { ...env, HISTORIES: "40000", ...told },
        stdio: "ignore",
        timeout: told === undefined ? NOTICED_MS_MAX : SIMULATED_MS_MAX,
        killSignal: "SIGKILL",
      });
      child.once("error", reject);
      child.once("close", (status, signal) => {
        if (signal !== null && told !== undefined) reject(new Error("the simulation took too long to tell"));
        else resolve(status === 0);
      });
    });

  const partOf = ({ test, name = "", env = {} }: SourceMutant) =>
    [test, name, ...Object.values(env)].join(" ");
  const parts = new Map(SOURCE_MUTANTS.map((mutant) => [partOf(mutant), mutant]));
  for (const [part, mutant] of parts)
    test(`mutants: without one, ${part} passes`, async () => {
      assert.equal(await passes(mutant), true);
    });

  SOURCE_MUTANTS.forEach((mutant, index) => {
    if (process.env.ONLY !== undefined && Number(process.env.ONLY) !== index) return;
    test(`mutants: ${index}, ${mutant.file}: «${mutant.from}»`, async () => {
      const file = path.join(copy, "src", mutant.file);
      const text = readFileSync(file, "utf8");
      assert.equal(text.split(mutant.from).length, 2, "the text stands exactly once in the file");
      writeFileSync(
        file,
        text.replace(mutant.from, () => mutant.to),
      );
      try {
        assert.equal(await passes(mutant), false, `test/${mutant.test} did not notice`);
      } finally {
        writeFileSync(file, text);
      }
    });
  });
});
