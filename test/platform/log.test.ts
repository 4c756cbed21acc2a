import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, test } from "node:test";
import { createLog, LOG_LEVELS } from "../../src/platform/log.ts";

function collect(level: string | undefined, terminal: boolean) {
  const lines: string[] = [];
  return { lines, log: createLog(level, terminal, (line) => lines.push(line)) };
}

describe("log", () => {
  test("JSON lines: level as a word, time in ISO 8601, no process noise", () => {
    const { lines, log } = collect(undefined, false);
    log.info({ port: 3000 }, "listening");
    assert.equal(lines.length, 1);
    assert.ok(lines[0].endsWith("}\n"));
    const { time, ...rest } = JSON.parse(lines[0]);
    assert.deepEqual(rest, { level: "info", port: 3000, msg: "listening" });
    assert.equal(new Date(time).toISOString(), time);
  });

  test("levels: what is below is left out; unknown and absent ones count as info", () => {
    const counts = { debug: 5, info: 4, warn: 3, error: 2, silent: 0, loud: 4 };
    for (const [level, count] of [...Object.entries(counts), [undefined, 4] as const]) {
      const { lines, log } = collect(level, false);
      log.debug("1");
      log.info("2");
      log.warn("3");
      log.error("4");
      log.fatal("5");
      assert.equal(lines.length, count, String(level));
    }
    assert.deepEqual(Object.keys(counts).slice(0, 5), [...LOG_LEVELS]);
  });

  test("a terminal gets one readable line", () => {
    const { lines, log } = collect("info", true);
    log.warn(
      { data: "/tmp/x", text: 'two "words"', keys: 5, list: ["a"], empty: "", nothing: null },
      "slow disk",
    );
    assert.match(
      lines[0],
      /^\d{4}-\d\d-\d\dT[\d:.]+Z WARN {2}slow disk data=\/tmp\/x text="two \\"words\\"" keys=5 list=\["a"\] empty="" nothing=null\n$/,
    );
    log.info({ port: 1 });
    assert.match(lines[1], /Z INFO {3}port=1\n$/, "no message");
  });

  test("a terminal gets a stack on lines of its own", () => {
    const { lines, log } = collect("info", true);
    const error = new Error("broken");
    log.error({ stack: error.stack }, "it failed");
    log.error(error);
    for (const text of lines) {
      const [first, second, third] = text.split("\n");
      assert.match(first, /ERROR (it failed|broken)$/);
      assert.match(second, /^ {4}Error: broken$/);
      assert.match(third, /^ {4}at .*log\.test\.ts/);
    }
  });

  test("a client's bytes cannot steer the terminal", () => {
    const { lines, log } = collect("info", true);
    log.info({ key: "\x1b[2J\u202e\u2028" }, "a\r\nb\x07");
    assert.match(lines[0], /a\\u000d\\u000ab\\u0007 key=/);
    assert.equal(lines[0].replace(/[\p{Cc}\p{Cf}\p{Zl}]/gu, ""), lines[0].slice(0, -1));
  });

  test("standard error: whole lines, written before an exit; a closed one is no failure", (t) => {
    const directory = mkdtempSync(path.join(tmpdir(), "minivault-log-"));
    t.after(() => rmSync(directory, { recursive: true }));
    const script = path.join(directory, "script.ts");
    writeFileSync(
      script,
      `import { createLog } from ${JSON.stringify(path.resolve(__dirname, "../../src/platform/log.ts"))};
      const log = createLog("info", false);
      for (let i = 0; i < 2000; i++) log.info({ i, text: "x".repeat(100) }, "line");
      process.exit(7);`,
    );
    const run = (command: string) =>
      spawnSync("sh", ["-c", command, "sh", process.execPath, "--import", "tsx", script], {
        encoding: "utf8",
        cwd: path.resolve(__dirname, "../.."),
      });
    // What becomes of a pipe whose reader is slow is in line-writer.test.ts.
    const written = path.join(directory, "log");
    assert.equal(run(`exec "$@" 2>${written}`).status, 7);
    const stdout = readFileSync(written, "utf8");
    const lines = stdout.trimEnd().split("\n");
    assert.equal(lines.length, 2000);
    for (const [index, line] of lines.entries()) assert.equal(JSON.parse(line).i, index);
    assert.equal(run('exec "$@" 2>&-').status, 7);
    if (process.platform === "linux") assert.equal(run('exec "$@" 2>/dev/full').status, 7);
  });
});
