/** What a node finds around it: rights, owners, file systems that take nothing. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, describe, test } from "node:test";
import { smallDisk } from "../small-disk.ts";
import {
  builtProgram,
  commandLine,
  launch,
  printedPort,
  removeFolder,
  runProgram,
  type ServerOptions,
  temporaryFolder,
  untilLogged,
  waitUntil,
  withServer,
} from "./server.ts";

const folder = temporaryFolder();
after(() => removeFolder(folder));
const isRoot = process.getuid?.() === 0;
const OTHER_USER = 43210;
const needsRoot = { skip: isRoot ? false : "only root can give files to other users" };
const needsUsers = { skip: process.getuid === undefined ? "no users here" : false };
let directories = 0;
const directory = (): string => path.join(folder, `data-${directories++}`);

/** A directory that a node has used, with one key in it. */
async function usedDirectory(options: ServerOptions = {}): Promise<string> {
  const data = directory();
  await withServer({ data, ...options }, async (server) => {
    assert.equal(await put(server, "k"), 201);
    await server.stop();
  });
  return data;
}

async function put(server: { url: string }, key: string): Promise<number> {
  return (await fetch(`${server.url}/${key}`, { method: "PUT", body: `value of ${key}` })).status;
}

async function get(server: { url: string }, key: string): Promise<string> {
  const response = await fetch(`${server.url}/${key}`);
  return `${response.status} ${await response.text()}`;
}

/** Starts where /health may be 503, and answers the URL. */
async function startAnyhow(options: ServerOptions & { data: string }) {
  const program = await launch(commandLine(options, options.data), options);
  await waitUntil("it listens", () => {
    if (program.child.exitCode !== null) throw new Error(program.output());
    return printedPort(program.output()) !== null;
  });
  return {
    url: `http://127.0.0.1:${printedPort(program.output())}`,
    log: () => program.output(),
    async stop() {
      program.child.kill("SIGTERM");
      return (await program.ended).status;
    },
  };
}

async function refusal(words: string[], options: ServerOptions = {}): Promise<string> {
  const { status, output } = await runProgram(words, options);
  assert.equal(status, 1, output);
  const fatal = output.split("\n").filter((line) => line.includes('"fatal"'));
  assert.equal(fatal.length, 1, output);
  return JSON.parse(fatal[0]).msg;
}

/** Everything in a directory whose mode lets others in. */
function openToOthers(top: string): string[] {
  return [".", ...(fs.readdirSync(top, { recursive: true }) as string[])].filter(
    (name) => (fs.lstatSync(path.join(top, name)).mode & 0o077) !== 0,
  );
}

describe("data directory", needsUsers, () => {
  for (const mode of [0o777, 0o1720])
    test(`one that others may write to is refused: ${mode.toString(8)}, by workers and masters, whether or not it was used`, async () => {
      const used = await usedDirectory();
      const fresh = directory();
      fs.mkdirSync(fresh);
      for (const data of [used, fresh])
        for (const flags of data === used ? [[]] : [[], ["-mode", "master"]]) {
          fs.chmodSync(data, mode);
          const sentence = await refusal(commandLine({ flags }, data));
          assert.ok(
            sentence.startsWith(
              `the data directory ${data} cannot be used, since native code and values are read from it: other users may write to it (its mode is `,
            ),
            sentence,
          );
          assert.ok(
            sentence.includes(`; chmod go-w ${data}, or choose a directory of its own with -data`),
            sentence,
          );
        }
      assert.deepEqual(fs.readdirSync(fresh), [], "nothing was written to it");
      fs.chmodSync(used, 0o755);
      await withServer({ data: used }, async (server) =>
        assert.equal(await get(server, "k"), "200 value of k"),
      );
    });

  test("a file is no data directory, for workers and masters", async () => {
    const data = path.join(directory(), "file");
    fs.mkdirSync(path.dirname(data), { recursive: true });
    fs.writeFileSync(data, "x");
    for (const flags of [[], ["-mode", "master"]])
      assert.equal(
        await refusal(commandLine({ flags }, data)),
        `the data directory cannot be used: ${data} is no directory; choose another one with -data`,
      );
  });

  test("a shard's folder that others may write to is refused, too", async () => {
    const data = await usedDirectory();
    fs.chmodSync(path.join(data, "shard-000"), 0o770);
    assert.match(
      await refusal(commandLine({}, data)),
      /shard-000 cannot be used.*other users may write to it.*chmod go-w .*shard-000$/,
    );
  });

  test(
    "one that belongs to somebody else is refused, also when root starts it; so is a file in it, and a link",
    needsRoot,
    async () => {
      const data = await usedDirectory();
      fs.chownSync(data, OTHER_USER, OTHER_USER);
      assert.match(
        await refusal(commandLine({}, data)),
        /it belongs to another user, 43210, and this process is user 0; start it as user 43210, or give it the directory: chown -R 0 /,
      );
      fs.chownSync(data, 0, 0);
      for (const name of ["STORE", "shard-000", "shard-000/0000000001.slab"]) {
        fs.chownSync(path.join(data, name), OTHER_USER, OTHER_USER);
        assert.match(
          await refusal(commandLine({}, data)),
          new RegExp(`${name}[^:]* belongs to another user, 43210|${name} cannot be used`),
        );
        fs.chownSync(path.join(data, name), 0, 0);
      }
      const link = directory();
      fs.symlinkSync(data, link);
      await withServer({ data: link }, async (server) =>
        assert.equal(await get(server, "k"), "200 value of k"),
      );
      fs.lchownSync(link, OTHER_USER, OTHER_USER);
      assert.match(
        await refusal(commandLine({}, link)),
        /it is a symbolic link that belongs to another user, 43210; name the directory itself/,
      );
    },
  );

  test("other things in it are left alone: lost+found of another user, notes that all may read", async () => {
    const data = await usedDirectory();
    const notes = path.join(data, "notes.txt");
    fs.writeFileSync(notes, "");
    fs.chmodSync(notes, 0o666);
    fs.mkdirSync(path.join(data, "lost+found"));
    if (isRoot) fs.chownSync(path.join(data, "lost+found"), OTHER_USER, OTHER_USER);
    await withServer({ data }, async (server) => assert.equal(await get(server, "k"), "200 value of k"));
    assert.equal(fs.statSync(notes).mode & 0o777, 0o666);
  });

  test("what a node makes is its user's alone, whatever the umask; so are files that earlier releases left open", async () => {
    for (const umask of ["000", "022"]) {
      const wrapper = ["sh", "-c", `umask ${umask}; exec "$@"`, "sh"];
      const data = await usedDirectory({ wrapper });
      assert.deepEqual(openToOthers(data), [], umask);
      // A node of a cluster and a master keep more.
      const flags = ["-volumes", "127.0.0.1:9"];
      for (const more of umask === "000" ? [flags, [...flags, "-mode", "master"]] : []) {
        const node = await startAnyhow({ data, wrapper, flags: more });
        assert.equal(await node.stop(), 0);
      }
      assert.equal(fs.existsSync(path.join(data, "master")), umask === "000");
      assert.deepEqual(openToOthers(data), [], umask);
      if (umask === "022") continue;
      for (const name of ["STORE", "STORE.new", "shard-000/0000000001.slab"])
        fs.chmodSync(path.join(data, name), 0o644);
      const node = await startAnyhow({ data, flags });
      assert.equal(await node.stop(), 0);
      assert.deepEqual(openToOthers(data), [], umask);
    }
  });
});

/** A node that serves what it has and refuses writes. */
async function assertReadsOnly(node: { url: string; log(): string }, why: RegExp): Promise<void> {
  assert.equal(await get(node, "k"), "200 value of k");
  assert.match(await get(node, "absent"), /^404/);
  const refused = await fetch(`${node.url}/new`, { method: "PUT", body: "x" });
  assert.equal(refused.status, 503);
  const answer = (await refused.json()) as { code: string; error: string };
  assert.equal(answer.code, "write_stopped");
  assert.match(answer.error, /^writes are stopped, .*; \/health says which; mend it, then restart$/);
  const large = await fetch(`${node.url}/large`, { method: "PUT", body: Buffer.alloc(3_000_000) });
  assert.equal(large.status, 503);
  assert.equal((await fetch(`${node.url}/k`, { method: "DELETE" })).status, 503);
  const health = await fetch(`${node.url}/health`);
  assert.equal(health.status, 503);
  const document = (await health.json()) as { status: string; reason: string };
  assert.equal(document.status, "unhealthy");
  assert.match(document.reason, why);
  await untilLogged(node, why);
}

describe("a start where nothing can be written serves reads", () => {
  test("a file system that is mounted read-only, after a clean stop and after kill -9", async (t) => {
    const disk = await smallDisk(200 * 1024 * 1024);
    if (typeof disk === "string") return t.skip(disk);
    t.after(() => disk.remove());
    const data = path.join(disk.path, "data");
    for (const signal of ["SIGTERM", "SIGKILL"] as const) {
      await withServer({ data }, async (server) => {
        assert.ok((await put(server, "k")) < 300);
        await server.kill(signal);
      });
      const before = fs.readdirSync(data, { recursive: true }).sort();
      disk.remount("ro");
      try {
        const node = await startAnyhow({ data, flags: ["-fronts", signal === "SIGTERM" ? "1" : "2"] });
        await assertReadsOnly(node, /the file system is read-only \(EROFS\)/);
        assert.equal(await node.stop(), 0);
        const clustered = await refusal(commandLine({ flags: ["-volumes", "127.0.0.1:9"] }, data));
        assert.match(
          clustered,
          /a node of a cluster must be able to write to its data directory; .*\(EROFS\)/,
        );
      } finally {
        disk.remount("rw");
      }
      assert.deepEqual(fs.readdirSync(data, { recursive: true }).sort(), before);
    }
    await withServer({ data }, async (server) => assert.equal(await put(server, "k"), 200));
    fs.rmSync(data, { recursive: true });
    disk.remount("ro");
    assert.match(
      await refusal(commandLine({}, data)),
      /cannot make the directory .*: the file system is read-only \(EROFS\)/,
    );
  });

  test("a directory, or one shard's, without the right to write", async () => {
    const program = await builtProgram();
    fs.chmodSync(folder, 0o755);
    fs.chmodSync(path.dirname(program), 0o755);
    const data = await usedDirectory();
    const everything = [".", ...(fs.readdirSync(data, { recursive: true }) as string[])];
    if (isRoot) for (const name of everything) fs.chownSync(path.join(data, name), OTHER_USER, OTHER_USER);
    const options: ServerOptions & { data: string } = {
      data,
      ...(isRoot ? { uid: OTHER_USER, env: { HOME: "/nonexistent" } } : {}),
    };
    for (const place of [data, path.join(data, "shard-000")]) {
      fs.chmodSync(place, 0o500);
      const node = await startAnyhow(options);
      await assertReadsOnlyOrPart(node, place === data);
      assert.equal(await node.stop(), 0);
      fs.chmodSync(place, 0o700);
    }
  });

  async function assertReadsOnlyOrPart(node: { url: string; log(): string }, whole: boolean): Promise<void> {
    if (whole) return assertReadsOnly(node, /permission denied \(EACCES\)/);
    assert.equal(await get(node, "k"), "200 value of k");
    assert.equal(await put(node, "k"), 503);
    assert.equal((await fetch(`${node.url}/health`)).status, 503);
    await untilLogged(node, /shard 0 serves reads only until a restart: .*permission denied \(EACCES\)/);
  }

  test("no inode left: a restart after a clean stop, and one after kill -9, reads and writes", async (t) => {
    const disk = await smallDisk(200 * 1024 * 1024);
    if (typeof disk === "string") return t.skip(disk);
    t.after(() => disk.remove());
    disk.remount("nr_inodes=60");
    const data = path.join(disk.path, "data");
    let fillers = 0;
    const fill = (): void => {
      try {
        for (;;) fs.closeSync(fs.openSync(path.join(disk.path, `filler-${fillers++}`), "wx"));
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, "ENOSPC");
      }
    };
    await withServer({ data }, async (server) => {
      assert.equal(await put(server, "k"), 201);
      fill();
      for (const signal of ["SIGTERM", "SIGKILL", "SIGTERM"] as const) {
        await server.kill(signal);
        fill();
        await server.restart();
        assert.equal(await get(server, "k"), "200 value of k");
        assert.equal(await put(server, "k"), 200);
      }
    });
    // A directory that an earlier release stopped on leaves no file for the lock.
    for (const name of ["LOCK", "LOCK.free", "STORE.new"]) fs.rmSync(path.join(data, name), { force: true });
    fill();
    const node = await startAnyhow({ data });
    assert.equal(await get(node, "k"), "200 value of k");
    assert.ok([503, 507].includes(await put(node, "new")), "there is no room for what a write needs");
    assert.notEqual(
      ((await (await fetch(`${node.url}/health`)).json()) as { status: string }).status,
      "healthy",
    );
    await untilLogged(node, /LOCK cannot be written/);
    assert.equal(await node.stop(), 0);
  });
});
