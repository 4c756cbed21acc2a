/** Runs benchmarks in their tiny form. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

export const ROOT = path.join(__dirname, "../..");
const RUN_MS_MAX = 300_000;

export interface Run {
  text: string;
  status: number;
}

export function runBenchmark(file: string, ...words: string[]): Promise<Run> {
  return runAlone(process.execPath, "--import", "tsx", path.join("native-bench", file), ...words);
}

/** Runs a benchmark with a temporary folder of its own, and checks that it leaves nothing there. */
export async function runAlone(program: string, ...words: string[]): Promise<Run> {
  const folder = mkdtempSync(path.join(tmpdir(), "minivault-test-"));
  try {
    const result = await new Promise<Run>((resolve) => {
      execFile(
        program,
        words,
        { cwd: ROOT, timeout: RUN_MS_MAX, env: { ...process.env, TMPDIR: folder } },
        (error, stdout, stderr) =>
          resolve({
            text: stdout + stderr,
            status: error === null ? 0 : typeof error.code === "number" ? error.code : -1,
          }),
      );
    });
    const left = readdirSync(folder).filter((name) => name.startsWith("minivault-"));
    assert.deepEqual(left, [], result.text);
    return result;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export function assertRows(text: string, rows: readonly RegExp[]): void {
  for (const row of rows) assert.match(text, row);
  assert.doesNotMatch(text, /\bNaN\b|undefined/);
}
