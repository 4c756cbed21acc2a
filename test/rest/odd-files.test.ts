/**
 * Things that stand where the node's files have to be: directories, named pipes, links to nothing. The start, and `minivault verify`, end with one
 * sentence that names the thing, and never wait; a link to the real file is good. And the golden directories are served as what they are.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { demandForms } from "../../src/platform/private-directory.ts";
import { BIG } from "../golden/store.ts";
import { call, closeConnections } from "./client.ts";
import {
  builtProgram,
  cleanEnvironment,
  commandLine,
  removeFolder,
  runProgram,
  temporaryFolder,
  withServer,
} from "./server.ts";

const folder = temporaryFolder();
after(() => {
  closeConnections();
  removeFolder(folder);
});
let directories = 0;

function golden(version: string): string {
  const data = path.join(folder, `data-${directories++}`);
  fs.cpSync(path.join(__dirname, "../golden", version), data, { recursive: true });
  fs.chmodSync(data, 0o700);
  return data;
}

const FILES = [
  ...["STORE", "STORE.new", "LOCK.free", "CLUSTER", "CEILING", "LIVES", "FEED", "BACKUP"],
  ...[
    "0000000001.slab",
    "0000000002.slab",
    "slabs.list",
    "slabs.copy",
    "index.snapshot",
    "index.snapshot.new",
  ].map((name) => `shard-000/${name}`),
  ...["shard-000/spare.new", "shard-000/0000000009.slab.new"],
  ...["keys/CATALOG", "keys/CATALOG.new", "keys/0000000001.keys", "keys/0000000001.keys.new"],
];
const FOLDERS = ["shard-000", "hints", "keys"];
/** Tried with the program itself: what is read first of all, and last. */
const STARTED = ["CLUSTER", "shard-000/0000000001.slab", "keys/CATALOG"];

const FORMS: [string, (place: string) => void, RegExp][] = [
  ["a directory", (place) => fs.mkdirSync(place), /is a directory, and a file of the node has to be there/],
  [
    "a link to nothing",
    (place) => fs.symlinkSync("nowhere", place),
    /is a symbolic link to what is not there/,
  ],
];
if (process.platform === "linux")
  FORMS.push([
    "a named pipe",
    (place) => execFileSync("mkfifo", [place]),
    /is neither a file nor a directory, and a (file|directory) of the node has to be there/,
  ]);

for (const [form, make, sentence] of FORMS)
  test(`odd files: ${form} in the place of each file is refused with a sentence that names it`, async () => {
    const program = await builtProgram();
    const places = form === "a directory" ? FILES : [...FILES, ...FOLDERS];
    for (const place of places) {
      const data = golden("v2");
      fs.rmSync(path.join(data, place), { recursive: true, force: true });
      fs.mkdirSync(path.join(data, path.dirname(place)), { recursive: true, mode: 0o700 });
      make(path.join(data, place));
      const named = (message: string): void => {
        assert.ok(message.startsWith(path.join(data, place)), `${place}: ${message}`);
        assert.match(message, sentence);
        assert.match(message, /move it away/);
      };
      assert.throws(
        () => demandForms(data),
        ({ message }: Error) => {
          named(message);
          return true;
        },
      );
      if (!STARTED.includes(place)) continue;
      const { status, output } = await runProgram(commandLine({}, data));
      assert.equal(status, 1, `${place}: ${output}`);
      const { msg } = JSON.parse(output.split("\n").find((line) => line.includes('"fatal"')) ?? "{}");
      named(msg);
      const verified = spawnSync(process.execPath, [program, "verify", data], {
        encoding: "utf8",
        env: cleanEnvironment(),
      });
      assert.equal(verified.status, 1);
      assert.match(verified.stderr, sentence);
    }
  });

for (const version of ["v1", "v2"])
  test(`odd files: the golden directory ${version} is served, also with links to files elsewhere`, async () => {
    const data = golden(version);
    for (const place of ["shard-000/0000000001.slab", "STORE"]) {
      fs.renameSync(path.join(data, place), `${data}-${path.basename(place)}`);
      fs.symlinkSync(`${data}-${path.basename(place)}`, path.join(data, place));
    }
    await withServer({ data }, async ({ port }) => {
      assert.equal((await call(port, "GET", "/greeting")).text, '{"value":"hello"}');
      assert.equal((await call(port, "GET", "/replaced")).text, "second");
      assert.equal((await call(port, "GET", "/deleted")).status, 404);
      // Its pieces are smaller than those of any store that this release makes.
      assert.ok((await call(port, "GET", "/big")).body.equals(BIG));
      for (const [range, from, to] of [
        ["bytes=0-0", 0, 1],
        ["bytes=1000-1099", 1000, 1100],
        ["bytes=500-5499", 500, 5500],
        ["bytes=-700", BIG.length - 700, BIG.length],
      ] as const) {
        const part = await call(port, "GET", "/big", { headers: { range } });
        assert.equal(part.status, 206);
        assert.ok(part.body.equals(BIG.subarray(from, to)), range);
      }
    });
  });
