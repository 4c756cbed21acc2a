/**
 * Commands on backups and data directories that are damaged, or with few descriptors: nothing says that it is done while something is missing, waits
 * for ever, shows a stack, or leaves half of a result under its name.
 */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { builtProgram, cleanEnvironment, removeFolder, temporaryFolder, withServer } from "../rest/server.ts";

const folder = temporaryFolder();
after(() => removeFolder(folder));
const copy = path.join(folder, "copy");
const KEYS = 9;
let program = "";

interface Ended {
  status: number | null;
  text: string;
}

/** @param files how many may be open */
function run(words: string[], files?: number): Promise<Ended> {
  const limited = files === undefined ? [] : ["sh", "-c", `ulimit -n ${files}; exec "$@"`, "sh"];
  const [command, ...more] = [...limited, process.execPath, program, ...words];
  const child = spawn(command, more, {
    env: cleanEnvironment(),
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 60_000,
  });
  let text = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (piece) => {
      text += piece;
    });
  return new Promise((resolve) =>
    child.once("close", (status) => {
      assert.doesNotMatch(text, /\n {4}at /, words.join(" "));
      resolve({ status, text });
    }),
  );
}

before(async () => {
  program = await builtProgram();
  const data = path.join(folder, "data");
  fs.cpSync(path.join(__dirname, "../golden/v4"), data, { recursive: true });
  fs.chmodSync(data, 0o700);
  await withServer({ data }, async ({ url }) => {
    const made = await run(["backup", copy, "-url", url]);
    assert.equal(made.status, 0, made.text);
  });
});

let copies = 0;
/** A copy of the backup in which something is changed. */
function changed(change: (directory: string) => void): string {
  const own = path.join(folder, `own-${copies++}`);
  fs.cpSync(copy, own, { recursive: true });
  change(own);
  return own;
}

function flip(file: string, at: number): void {
  const bytes = fs.readFileSync(file);
  bytes[at] ^= 8;
  fs.writeFileSync(file, bytes);
}

const SLABS = [1, 2, 3].map((sequence) => `shard-000/000000000${sequence}.slab`);
const LOST: [string, (file: string) => void][] = [
  ["missing", (file) => fs.rmSync(file)],
  ["cut by one byte", (file) => fs.truncateSync(file, fs.statSync(file).size - 1)],
  ["all zeros", (file) => fs.writeFileSync(file, Buffer.alloc(fs.statSync(file).size))],
];

for (const [how, damage] of LOST)
  test(`damaged copies: one with a slab that is ${how} is restored only when that is asked for`, async () => {
    await Promise.all(
      SLABS.map(async (slab) => {
        const own = changed((directory) => damage(path.join(directory, slab)));
        const to = `${own}-restored`;
        const refused = await run(["restore", own, to]);
        assert.equal(refused.status, 1, refused.text);
        assert.match(refused.text, /1 slabs are missing, cut or damaged in .*-incomplete/);
        assert.ok(refused.text.includes(slab), refused.text);
        assert.deepEqual(fs.existsSync(to) ? fs.readdirSync(to) : [], []);
      }),
    );
    const own = changed((directory) => damage(path.join(directory, SLABS[1])));
    const to = `${own}-restored`;
    const restored = await run(["restore", own, to, "-incomplete"]);
    assert.equal(restored.status, 0, restored.text);
    assert.ok(restored.text.includes(`${SLABS[1]} is missing, cut or damaged`), restored.text);
    assert.equal((await run(["verify", to])).status, 1, "and its loss stays known");
  });

test("damaged copies: an end that a start makes anew takes nothing, and is restored", async () => {
  const own = changed((directory) => flip(path.join(directory, SLABS[0]), 16 * 1024 - 3));
  const restored = await run(["restore", own, `${own}-restored`]);
  assert.equal(restored.status, 0, restored.text);
});

test("damaged copies: a large value whose chunk is damaged is left out of an archive, and all else is in it", async () => {
  const own = changed((directory) => flip(path.join(directory, SLABS[1]), 4096 + 40));
  const archive = `${own}.tar`;
  const saved = await run(["export", archive, "-copy", own]);
  assert.equal(saved.status, 1, saved.text);
  assert.match(saved.text, new RegExp(`saved ${KEYS - 1} keys .*\\n1 records could not be read`));
  // Another copy of the same values has it.
  const whole = await run(["export", `${own}-2.tar`, "-copy", own, "-copy", copy]);
  assert.match(whole.text, new RegExp(`saved ${KEYS} keys`));
  const names = (file: string): string[] =>
    execFileSync("tar", ["-tf", file], { encoding: "utf8" }).trim().split("\n");
  assert.deepEqual([names(archive).length, names(`${own}-2.tar`).length], [KEYS - 1, KEYS]);
});

test("copies: a target of an archive that has no room is named", {
  skip: !fs.existsSync("/dev/full") && "there is no /dev/full",
}, async () => {
  const { status, text } = await run(["export", "/dev/full", "-copy", copy]);
  assert.equal(status, 1);
  assert.match(text, /^minivault export: cannot write \/dev\/full: the disk has no room, .*\n$/);
});

test("damaged copies: a pipe or a folder in the place of a file is named, and not waited for", {
  skip: process.platform === "win32" ? "no named pipes here" : false,
}, async () => {
  for (const place of ["BACKUP", "shard-000/slabs.list", SLABS[0], "manifest.json"]) {
    const own = changed((directory) => {
      fs.rmSync(path.join(directory, place), { force: true });
      execFileSync("mkfifo", [path.join(directory, place)]);
    });
    const words = place === "manifest.json" ? [] : [["restore", own, `${own}-restored`]];
    for (const command of [...words, ["export", `${own}.tar`, "-copy", own]]) {
      const refused = await run(command);
      assert.equal(refused.status, 1, `${command}: ${refused.text}`);
      assert.ok(refused.text.includes(path.join(own, place)), refused.text);
    }
    assert.ok(!fs.existsSync(`${own}.tar`));
  }
});

test("few descriptors: verify, restore, export and upgrade name the limit, and call nothing damaged or done", {
  skip: process.platform === "linux" ? false : "the least that Node.js needs is another one elsewhere",
}, async () => {
  let refusals = 0;
  // With fewer Node.js itself does not start.
  for (const files of [18, 19, 20, 21, 22, 24]) {
    const old = path.join(folder, `old-${files}`);
    fs.cpSync(path.join(__dirname, "../golden/v2"), old, { recursive: true });
    const to = path.join(folder, `few-${files}`);
    for (const words of [
      ["verify", path.join(folder, "data")],
      ["restore", copy, to],
      ["export", `${to}.tar`, "-copy", copy],
      ["upgrade", old],
    ]) {
      const { status, text } = await run(words, files);
      // Null: Node.js itself has not started.
      if (status === 0 || status === null) continue;
      refusals++;
      assert.equal(status, 1, `${files} ${words}: ${text}`);
      assert.match(text, /\(ulimit -n\)/, `${files} ${words}`);
      assert.doesNotMatch(text, /damaged/, `${files} ${words}`);
    }
    if (fs.existsSync(`${to}.tar`)) assert.equal((await run(["verify", copy])).status, 0);
    if (fs.existsSync(path.join(to, "STORE"))) assert.equal((await run(["verify", to])).status, 0);
  }
  assert.ok(refusals > 0);
});

test("damaged directories: a damaged FEED file, which costs watchers their places, is noted by verify", async () => {
  const own = path.join(folder, "feed");
  fs.cpSync(path.join(folder, "data"), own, { recursive: true });
  const sound = await run(["verify", own]);
  assert.doesNotMatch(sound.text, /note/);
  fs.appendFileSync(path.join(own, "FEED"), "x");
  const noted = await run(["verify", own]);
  assert.equal(noted.status, 0, noted.text);
  assert.match(
    noted.text,
    /note: places in the feed of changes from earlier starts are too old: .*FEED is damaged/,
  );
});
