/**
 * `POST /_admin/backup` and `minivault restore` of the program as it is shipped: beside 64 connections that write, with
 * several shard threads and fronts, on another file system, on a full disk, killed in between.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { smallDisk } from "../small-disk.ts";
import { Load } from "./backup-load.ts";
import { call, closeConnections, content, type Reply, sha256 } from "./client.ts";
import {
  removeFolder,
  runProgram,
  type Server,
  startServer,
  temporaryFolder,
  waitUntil,
  withServer,
} from "./server.ts";

const folder = temporaryFolder();
const later: (() => void)[] = [];
after(() => {
  closeConnections();
  for (const remove of later) remove();
  removeFolder(folder);
});

const backup = (server: Server, directory: string, headers: Record<string, string> = {}): Promise<Reply> =>
  call(server.port, "POST", `/_admin/backup?directory=${encodeURIComponent(directory)}`, {
    headers: { "Content-Length": "0", ...headers },
    agent: false,
  });

/** The last line of an answer in lines. */
// biome-ignore lint/suspicious/noExplicitAny: tests read documents of any form
function lastOf(reply: Reply): any {
  return JSON.parse(reply.text.trimEnd().split("\n").at(-1) as string);
}

async function restored(copy: string, name: string): Promise<string> {
  const to = path.join(folder, name);
  const { status, output } = await runProgram(["restore", copy, to]);
  assert.equal(status, 0, output);
  assert.match(output, /^restored \d+ slabs, as they were at \S+Z, to /m);
  return to;
}

async function isSound(directory: string): Promise<void> {
  const { status, output } = await runProgram(["verify", directory]);
  assert.equal(status, 0, output);
}

describe("backup: of a node that serves", () => {
  for (const sync of ["always", "os"] as const)
    test(`beside 64 connections that write, over three shards, -sync ${sync}: one moment, with all that was acknowledged before`, async () => {
      const name = `moment-${sync}`;
      const copy = path.join(folder, `${name}-copy`);
      const large = content(5, 3_000_000);
      let before: number[] = [];
      let after: number[] = [];
      await withServer({ sync, flags: ["-threads", "3"] }, async (server) => {
        await call(server.port, "PUT", "/large", { body: large });
        await call(server.port, "PUT", "/kept", {
          body: '{"value": 12345678901234567890}',
          headers: { "Content-Type": "application/json" },
        });
        await call(server.port, "PUT", "/gone", { body: "x" });
        await call(server.port, "DELETE", "/gone");
        const load = new Load([server.port], 64);
        await load.until(3);
        before = [...load.answered];
        const reply = await backup(server, copy);
        after = [...load.sent];
        await load.until(Math.max(...after) + 1);
        await load.stop();
        assert.equal(reply.status, 200, reply.text);
        const { success, directory, problems } = lastOf(reply);
        assert.deepEqual([success, directory, problems], [true, copy, []]);
        assert.ok(!fs.existsSync(path.join(server.data, "backup.new")));
        // The node goes on as if nothing had been, also over a restart.
        await server.stop();
        await isSound(server.data);
      });
      await isSound(copy);
      const data = await restored(copy, name);
      await isSound(data);
      await withServer({ data, sync }, async ({ port }) => {
        assert.equal(sha256((await call(port, "GET", "/large")).body), sha256(large));
        assert.equal((await call(port, "GET", "/kept")).text, '{"value":12345678901234567890}');
        assert.equal((await call(port, "GET", "/gone")).status, 404);
        for (const [lane, number] of before.entries()) {
          const [first, second] = await Promise.all(
            ["first", "second"].map(async (key) => Number((await call(port, "GET", `/${key}/${lane}`)).text)),
          );
          assert.ok(second >= number, `lane ${lane}: ${number} was acknowledged, the copy has ${second}`);
          assert.ok(first <= after[lane], `lane ${lane}: ${first} was not sent before the backup had ended`);
          assert.ok(first === second || first === second + 1, `lane ${lane}: ${first} and ${second}`);
        }
        assert.equal((await call(port, "PUT", "/new", { body: "x" })).status, 201);
      });
      await isSound(copy);
    });

  test("nothing starts on a copy, verify and inspect read it, and what is no copy is not restored", async () => {
    const copy = path.join(folder, "tools");
    await withServer({}, async (server) => {
      await call(server.port, "PUT", "/k", { body: "v" });
      assert.equal((await backup(server, copy)).status, 200);
      for (const [from, to, status] of [
        [server.data, "tools-1", 2],
        [path.join(folder, "none"), "tools-2", 2],
        [copy, "../minivault-none/x/y", 1],
      ] as const) {
        const said = await runProgram(["restore", from, path.join(folder, to)]);
        assert.equal(said.status, status, said.output);
        assert.match(said.output, /^minivault restore: [^\n]+\n$/);
      }
      const full = await runProgram(["restore", copy, server.data]);
      assert.equal(full.status, 1, full.output);
      assert.match(full.output, /is not empty/);
    });
    const start = await runProgram(["-data", copy, "-port", "0"]);
    assert.equal(start.status, 1);
    assert.match(start.output, /is a backup, and nothing starts on one: minivault restore/);
    assert.deepEqual(fs.readdirSync(copy).sort(), ["BACKUP", "shard-000"]);
    for (const command of ["upgrade", "accept-loss"]) {
      const refused = await runProgram([command, copy]);
      assert.equal(refused.status, 2);
      assert.match(refused.output, /is a backup, and nothing starts on one: minivault restore/);
    }
    const said = await runProgram(["inspect", path.join(copy, "BACKUP")]);
    assert.equal(said.status, 0, said.output);
    assert.ok(!/"hashSecret":"[0-9a-f]/.test(said.output), "no secret is shown");
    const slab = fs
      .readdirSync(path.join(copy, "shard-000"))
      .find((name) => name.endsWith(".slab")) as string;
    const records = await runProgram(["inspect", path.join(copy, "shard-000", slab)]);
    assert.match(records.output, /value .*key "k".*checksum "good"/);
    const json = await runProgram(["restore", copy, path.join(folder, "tools-3"), "-json"]);
    assert.deepEqual(Object.keys(JSON.parse(json.output)), [
      "directory",
      "began",
      "slabs",
      "missing",
      "taken",
    ]);
    const file = path.join(copy, "shard-000", slab);
    const bytes = fs.readFileSync(file);
    bytes[4096 + 50] ^= 1;
    fs.writeFileSync(file, bytes);
    assert.equal((await runProgram(["verify", copy])).status, 1);
  });

  test("two at once: one is made, the other one refused", async () => {
    await withServer({}, async (server) => {
      await call(server.port, "PUT", "/k", { body: content(1, 20_000_000) });
      const names = Array.from({ length: 6 }, (_, index) => path.join(folder, `twice-${index}`));
      const replies = await Promise.all(names.map((name) => backup(server, name)));
      const made = replies.filter((reply) => lastOf(reply).success === true);
      assert.ok(made.length >= 1);
      for (const [index, reply] of replies.entries()) {
        assert.equal(fs.existsSync(names[index]), made.includes(reply));
        if (made.includes(reply)) continue;
        assert.equal(lastOf(reply).code, "conflict");
        // Who had to wait was told so by lines: then the last one says it alone.
        if (!reply.text.trimEnd().includes("\n")) assert.equal(reply.status, 409);
      }
      // Into one folder the second never comes.
      assert.equal((await backup(server, names[replies.indexOf(made[0])])).status, 409);
    });
  });

  test("wrong requests, and who may not", async () => {
    const file = path.join(folder, "tokens");
    const token = async (name: string, ...words: string[]) =>
      JSON.parse((await runProgram(["token", name, "-json", ...words])).output) as {
        token: string;
        line: string;
      };
    const reader = await token("reader", "-prefix", "", "-allow", "read,list,write,delete,metrics");
    const operator = await token("operator", "-allow", "admin");
    fs.writeFileSync(file, `${reader.line}\n${operator.line}\n`, { mode: 0o600 });
    await withServer({ flags: ["-tokens", file, "-audit", path.join(folder, "audit")] }, async (server) => {
      const copy = path.join(folder, "allowed");
      const as = ({ token }: { token: string }) => ({ Authorization: `Bearer ${token}` });
      assert.equal((await backup(server, copy)).status, 401);
      assert.equal((await backup(server, copy, as(reader))).status, 403);
      assert.ok(!fs.existsSync(copy));
      for (const target of [
        "",
        "?directory=",
        "?directory=relative",
        `?directory=${copy}&directory=${copy}`,
      ]) {
        const reply = await call(server.port, "POST", `/_admin/backup${target}`, {
          headers: { "Content-Length": "0", ...as(operator) },
        });
        assert.deepEqual([reply.status, reply.json().code], [400, "bad_request"], target);
      }
      const withBody = await call(server.port, "POST", `/_admin/backup?directory=${copy}`, {
        headers: as(operator),
        body: "x",
      });
      assert.equal(withBody.status, 400);
      const asked = await call(server.port, "GET", `/_admin/backup?directory=${copy}`, {
        headers: as(operator),
      });
      assert.equal(asked.status, 405);
      assert.ok(!fs.existsSync(copy));
      assert.equal((await backup(server, copy, as(operator))).status, 200);
      // It is written behind the answers.
      await waitUntil("the audit has it", () =>
        /"operator".*_admin\/backup.*200/.test(fs.readFileSync(path.join(folder, "audit"), "utf8")),
      );
    });
  });

  test("any front thread takes it", async () => {
    await withServer({ flags: ["-fronts", "3"] }, async (server) => {
      await call(server.port, "PUT", "/k", { body: "v" });
      for (let i = 0; i < 6; i++) {
        const reply = await backup(server, path.join(folder, `front-${i}`));
        assert.equal(reply.status, 200, reply.text);
        assert.equal((await backup(server, path.join(folder, `front-${i}`))).status, 409);
      }
    });
  });
});

describe("backup: what the disk does", () => {
  const shared = "/dev/shm";
  const otherDisk =
    fs.existsSync(shared) && fs.statSync(shared).dev !== fs.statSync(folder).dev
      ? fs.mkdtempSync(`${shared}/minivault-test-`)
      : null;
  if (otherDisk !== null) later.push(() => removeFolder(otherDisk));

  test("on another file system all is copied", {
    skip: otherDisk === null && "there is no other one here",
  }, async () => {
    await withServer({}, async (server) => {
      await call(server.port, "PUT", "/large", { body: content(1, 150_000_000) });
      const here = lastOf(await backup(server, path.join(folder, "same-disk")));
      const there = path.join(otherDisk as string, "copy");
      const reply = lastOf(await backup(server, there));
      assert.ok(here.linked > 0);
      assert.deepEqual([reply.success, reply.linked, reply.slabs], [true, 0, here.slabs]);
      await isSound(there);
      assert.ok(!fs.existsSync(path.join(server.data, "backup.new")));
    });
  });

  test("a full one: 507, nothing is left, and the node goes on", async (t) => {
    const disk = await smallDisk(8 * 1024 * 1024);
    if (typeof disk === "string") return t.skip(disk);
    try {
      await withServer({}, async (server) => {
        await call(server.port, "PUT", "/k", { body: content(1, 30_000_000) });
        const reply = await backup(server, path.join(disk.path, "copy"));
        const { success, code } = lastOf(reply);
        assert.deepEqual([success, code], [false, "disk_full"], reply.text);
        assert.deepEqual(fs.readdirSync(disk.path), []);
        assert.ok(!fs.existsSync(path.join(server.data, "backup.new")));
        assert.equal((await call(server.port, "PUT", "/after", { body: "x" })).status, 201);
        const again = path.join(folder, "after-full");
        assert.equal((await backup(server, again)).status, 200);
        await isSound(again);
      });
    } finally {
      await disk.remove();
    }
  });

  test("killed at any time: a folder is whole or says that it is not, the node starts and cleans up, and the same backup made again is whole", async () => {
    const server = await startServer();
    try {
      await call(server.port, "PUT", "/large", { body: content(1, 40_000_000) });
      const base = otherDisk ?? folder;
      for (const afterMs of [0, 8, 20]) {
        const copy = path.join(base, `killed-${afterMs}`);
        const asked = backup(server, copy).then(
          () => {},
          () => {},
        );
        // Whichever step it is in by then.
        if (afterMs > 0) while (!fs.existsSync(copy)) await new Promise((resolve) => setImmediate(resolve));
        await sleep(afterMs);
        await server.kill();
        await asked;
        await server.restart();
        assert.ok(!fs.existsSync(path.join(server.data, "backup.new")));
        assert.equal((await call(server.port, "GET", "/large")).body.length, 40_000_000);
        if (!fs.existsSync(copy)) continue;
        const isWhole = fs.existsSync(path.join(copy, "BACKUP"));
        if (isWhole) await isSound(copy);
        else if (fs.readdirSync(copy).length > 0) {
          const said = await runProgram(["restore", copy, path.join(folder, "never")]);
          assert.notEqual(said.status, 0, said.output);
          assert.ok(!fs.existsSync(path.join(folder, "never")));
        }
        const again = await backup(server, copy);
        assert.equal(again.status, isWhole ? 409 : 200, again.text);
        if (!isWhole) assert.equal(lastOf(again).success, true, again.text);
        await isSound(copy);
      }
    } finally {
      await server.dispose();
    }
  });
});
