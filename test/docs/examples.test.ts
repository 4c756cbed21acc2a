/**
 * What README.md and the pages of docs show is what really happens: each command of a block marked `console` is run on a real node, one after
 * the other, and prints what stands below it. Words behind `console` are flags of the node that these blocks talk to; a page has one
 * node for each set of flags. Left aside is what is another one each time (LASTING), and what a page leaves out with "…".
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { content, hasCurl, WITHOUT_CURL } from "../rest/client.ts";
import {
  builtProgram,
  cleanEnvironment,
  REPOSITORY,
  removeFolder,
  temporaryFolder,
  withServer,
} from "../rest/server.ts";

/** What the examples upload. */
const PHOTO = content(1, 100_000);

/** What is another one at each run, and what takes its place before the comparison. */
const LASTING: readonly [RegExp, string][] = [
  [/\r/g, ""],
  [/^(Date|Last-Modified): \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/gm, "$1: a date"],
  [/\b[0-9a-f]{32}\b/g, "a version"],
  [/^uWebSockets: \d+$/gm, "uWebSockets: a number"],
  [/"version":"[^"]+"/g, '"version":"a version"'],
  [/"uptimeSeconds":\d+/g, '"uptimeSeconds":0'],
];

interface Example {
  command: string;
  output: string;
}

interface Page {
  name: string;
  /** The examples in their order, by the flags of their node. */
  examples: Map<string, Example[]>;
}

function readPage(name: string): Page {
  const text = fs.readFileSync(path.join(REPOSITORY, name), "utf8");
  const examples = new Map<string, Example[]>();
  for (const [, flags, block] of text.matchAll(/^```console ?([^\n]*)\n(.*?)^```$/gms)) {
    const ofNode = examples.get(flags) ?? [];
    examples.set(flags, ofNode);
    for (const part of block.split(/^\$ /m).slice(1)) {
      const end = part.indexOf("\n");
      ofNode.push({ command: part.slice(0, end), output: part.slice(end + 1) });
    }
  }
  return { name, examples };
}

function lasting(output: string): string {
  return LASTING.reduce((text, [pattern, instead]) => text.replace(pattern, instead), output).trim();
}

/** Whether a node printed what a page says. */
function matches(printed: string, written: string): boolean {
  const parts = lasting(written)
    .split("…")
    .map((part) => part.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`, "s").test(lasting(printed));
}

const pages = ["README.md", ...fs.readdirSync(path.join(REPOSITORY, "docs")).map((file) => `docs/${file}`)]
  .filter((name) => name.endsWith(".md"))
  .map(readPage);

test("docs: the comparison sees what differs", () => {
  assert.ok(matches('{"a":1,"b":[2]}\n', '{"a":1,…}'));
  assert.ok(matches("Date: Mon, 23 Nov 2026 00:38:10 GMT\r\n", "Date: Tue, 24 Nov 2026 01:39:11 GMT\n"));
  assert.ok(!matches('{"a":2,"b":[2]}', '{"a":1,…}'));
  assert.ok(!matches("HTTP/1.1 200 OK", "HTTP/1.1 201 Created"));
});

test("docs: README.md and docs/api.md have examples", () => {
  for (const [name, count] of [
    ["README.md", 3],
    ["docs/api.md", 15],
  ] as const) {
    const page = pages.find((one) => one.name === name);
    const found = [...(page?.examples.values() ?? [])].flat().length;
    assert.ok(found >= count, `${name} has ${found} examples`);
  }
});

for (const { name, examples } of pages) {
  for (const [flags, ofNode] of examples) {
    const title = `docs: the commands in ${name} print what it says${flags === "" ? "" : `, with ${flags}`}`;
    test(title, hasCurl ? {} : { skip: WITHOUT_CURL }, (t) =>
      withServer({ flags: flags === "" ? [] : flags.split(" ") }, async ({ port }) => {
        const cwd = temporaryFolder();
        t.after(() => removeFolder(cwd));
        fs.writeFileSync(path.join(cwd, "photo.jpg"), PHOTO);
        fs.cpSync(path.join(REPOSITORY, "test/golden/v2"), path.join(cwd, "golden"), { recursive: true });
        const program = await builtProgram();
        for (const { command, output } of ofNode) {
          assert.match(command, /localhost:3000|^minivault |golden/, `${command}: it is about this program`);
          const line = command
            .replaceAll("localhost:3000", `127.0.0.1:${port}`)
            .replace(/^minivault /, `"${process.execPath}" "${program}" `)
            // No progress of curl's, and no settings of this user's.
            .replaceAll(/\bcurl (?=-|\w+[.:]|\d)/g, "curl -q -s --noproxy '*' ");
          const url = `http://127.0.0.1:${port}`;
          const env = cleanEnvironment({ MINIVAULT_PORT: String(port), MINIVAULT_URL: url });
          const { stdout, stderr } = spawnSync("sh", ["-c", line], { cwd, env, encoding: "utf8" });
          // Through the answer of a 304, which has no body, or of a file, curl says nothing on standard error; a command that takes a
          // while on a busy machine says how far it is.
          assert.equal(stderr.replaceAll(/^\w+: \d.*\n/gm, ""), "", command);
          if (!matches(stdout, output)) assert.equal(lasting(stdout), lasting(output), command);
        }
        const copy = path.join(cwd, "copy.jpg");
        if (fs.existsSync(copy))
          assert.ok(fs.readFileSync(copy).equals(PHOTO), "what came back is what was sent");
      }),
    );
  }
}
