/**
 * The data file of a running server is cut by another program, or the disk refuses to read a part of it: the process lives, what is gone answers 500
 * and never with other bytes, a download breaks off, new writes are taken, and `/health`, `/_stats`, the log and `verify` tell.
 */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { after, test } from "node:test";
import tls from "node:tls";
import { makeCertificates } from "../certificate.ts";
import { call, closeConnections, content } from "./client.ts";
import {
  launch,
  printedPort,
  removeFolder,
  runProgram,
  temporaryFolder,
  untilLogged,
  waitUntil,
  withServer,
} from "./server.ts";

after(closeConnections);

const SMALL = 50;
const MIB = 1024 * 1024;
const LARGE_BYTES = 24 * MIB;
const LARGE = content(99, LARGE_BYTES);
/** In the large value: half of the small ones lie before, half behind. */
const CUT_BYTES = 12 * MIB + 4096;
const slabOf = (data: string): string => path.join(data, "shard-000", "0000000001.slab");
const small = (i: number): Buffer => content(i, 1000 + i);

/** Every small value is right or 500. Answers how many are 500. */
async function readSmall(port: number): Promise<number> {
  let gone = 0;
  for (let i = 0; i < SMALL; i++) {
    const answer = await call(port, "GET", `/s${i}`);
    const head = await call(port, "HEAD", `/s${i}`);
    assert.equal(head.status, answer.status);
    if (answer.status === 500) {
      assert.match(answer.text, /"code":"corrupt"/);
      gone++;
      continue;
    }
    assert.equal(answer.status, 200, `/s${i}: ${answer.text}`);
    assert.ok(answer.body.equals(small(i)), `/s${i} is wrong`);
  }
  return gone;
}

async function fill(port: number): Promise<void> {
  const put = async (key: string, body: Buffer): Promise<void> =>
    assert.equal((await call(port, "PUT", key, { body })).status, 201);
  for (let i = 0; i < SMALL / 2; i++) await put(`/s${i}`, small(i));
  await put("/large", LARGE);
  // A start looks at the large value's manifest and at the end, and the kernel maps some pages around each: what lies between shall not be in memory
  // because of that.
  await put("/between", content(98, MIB));
  for (let i = SMALL / 2; i < SMALL; i++) await put(`/s${i}`, small(i));
  await put("/behind", content(97, MIB));
  await put("/end", small(SMALL));
}

/** A download of the large value whose client takes the first bytes, and then nothing until `rest` is called. */
class SlowDownload {
  private readonly socket: net.Socket;
  private readonly pieces: Buffer[] = [];
  private bytes = 0;
  private readonly closed: Promise<void>;

  private constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on("data", (piece) => {
      // At once: a fast machine sends all of it while somebody looks.
      if (this.bytes === 0) socket.pause();
      this.pieces.push(piece);
      this.bytes += piece.length;
    });
    socket.on("error", () => {});
    this.closed = new Promise((resolve) => {
      socket.once("close", () => resolve());
    });
  }

  static async begin(socket: net.Socket): Promise<SlowDownload> {
    const download = new SlowDownload(socket);
    socket.write("GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    await waitUntil("the download begins", () => download.bytes > 0);
    return download;
  }

  /** What came of the body before the server closed the connection. */
  async rest(): Promise<Buffer> {
    this.socket.resume();
    await this.closed;
    const all = Buffer.concat(this.pieces);
    return all.subarray(all.indexOf("\r\n\r\n") + 4);
  }
}

function assertBrokenOff(body: Buffer): void {
  assert.ok(body.length < LARGE_BYTES, "it breaks off");
  assert.ok(LARGE.subarray(0, body.length).equals(body), "what came is right");
}

test("cut file: under downloads, reads and writes", () =>
  withServer({ flags: ["-threads", "1"] }, async (server) => {
    const { data } = server;
    await fill(server.port);
    assert.equal(await readSmall(server.port), 0);
    const downloads = [
      await SlowDownload.begin(net.connect(server.port, "127.0.0.1")),
      await SlowDownload.begin(net.connect(server.port, "127.0.0.1")),
    ];
    fs.truncateSync(slabOf(data), CUT_BYTES);
    for (const download of downloads) assertBrokenOff(await download.rest());
    assert.equal(await readSmall(server.port), SMALL / 2, "those behind the cut are gone");
    const range = (from: number) => ({ headers: { range: `bytes=${from}-${from + 9}` } });
    assert.equal((await call(server.port, "GET", "/large", range(23_000_000))).status, 500);
    // What is written from now on is stored, also under keys that are damaged.
    let refused = 0;
    for (let i = 0; i < 10; i++) {
      const { status } = await call(server.port, "PUT", `/n${i}`, { body: small(i) });
      if (status === 201) assert.ok((await call(server.port, "GET", `/n${i}`)).body.equals(small(i)));
      else refused++;
    }
    assert.ok(refused <= 1, "only a write that meets the cut");
    const last = SMALL - 1;
    assert.ok((await call(server.port, "PUT", `/s${last}`, { body: small(last) })).status < 300);
    assert.equal(await readSmall(server.port), SMALL / 2 - 1);
    const health = () => call(server.port, "GET", "/health");
    await waitUntil("/health knows", async () => (await health()).json().brokenSlabs === 1);
    assert.equal((await health()).status, 200);
    assert.equal((await health()).json().status, "degraded");
    assert.match((await health()).json().reason, /parts of 1 data files cannot be read/);
    assert.equal((await call(server.port, "GET", "/_stats")).json().brokenSlabs, 1);
    await untilLogged(server, /0000000001\.slab of shard 0 cannot be read as a whole/);
    await server.kill("SIGKILL");
    await server.restart();
    assert.equal(await readSmall(server.port), SMALL / 2 - 1, "whose they were is still known");
    assert.equal((await call(server.port, "GET", "/large", range(23_000_000))).status, 500);
    await server.stop();
    const verify = await runProgram(["verify", data]);
    assert.equal(verify.status, 1, verify.output);
  }));

test("cut file: a download over TLS breaks off and never goes on with zeros", (t) =>
  withServer({ flags: ["-threads", "1"] }, async (server) => {
    const folder = temporaryFolder();
    t.after(() => removeFolder(folder));
    const { authority, certificateFile, keyFile } = makeCertificates(folder);
    const { data } = server;
    await fill(server.port);
    await server.stop();
    const words = ["-port", "0", "-host", "127.0.0.1", "-data", data, "-threads", "1"];
    const program = await launch([...words, "-tls-cert", certificateFile, "-tls-key", keyFile]);
    t.after(() => program.child.kill("SIGKILL"));
    await waitUntil("it listens", () => printedPort(program.output()) !== null);
    const connect = () =>
      tls.connect({ port: printedPort(program.output()) as number, host: "localhost", ca: authority });
    const whole = await SlowDownload.begin(connect());
    assert.ok((await whole.rest()).equals(LARGE));
    const cut = await SlowDownload.begin(connect());
    fs.truncateSync(slabOf(data), CUT_BYTES);
    assertBrokenOff(await cut.rest());
    assert.equal(program.child.exitCode, null);
  }));

test("unreadable sectors: records there answer 500, the others are right", async (t) => {
  const disk = await failingDisk();
  if (typeof disk === "string") {
    t.skip(disk);
    return;
  }
  t.after(() => disk.remove());
  const data = path.join(disk.path, "data");
  await withServer({ data, flags: ["-threads", "1"] }, async (server) => {
    await fill(server.port);
    await server.stop();
    await server.restart();
    disk.fail(slabOf(data));
    assert.equal(await readSmall(server.port), SMALL / 2, "the small values behind the large one");
    assertBrokenOff(await (await SlowDownload.begin(net.connect(server.port, "127.0.0.1"))).rest());
    await waitUntil("/health knows", async () => {
      const health = (await call(server.port, "GET", "/health")).json();
      return health.status === "degraded" && health.brokenSlabs === 1;
    });
    assert.ok((await call(server.port, "GET", "/_stats")).json().missingPages > 0);
    await server.kill("SIGKILL");
    const verify = await runProgram(["verify", data]);
    assert.equal(verify.status, 1);
    assert.match(verify.output, /cannot be read: EIO/);
    const inspect = await runProgram(["inspect", slabOf(data)]);
    assert.equal(inspect.signal, null, "inspect ends by itself");
  });
});

interface FailingDisk {
  path: string;
  /** Makes what is behind CUT_BYTES of a file unreadable, as bad sectors are. */
  fail(file: string): void;
  remove(): Promise<void>;
}

/**
 * An ext4 file system on a loop device, in a mount namespace of a child process. It fails by getting smaller than its file system is: what lies behind
 * cannot be read or written then. A sentence where that cannot be had.
 */
async function failingDisk(): Promise<FailingDisk | string> {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return "needs root, to mount a loop device";
  const folder = temporaryFolder();
  const image = path.join(folder, "disk");
  const mountPoint = path.join(folder, "mounted");
  fs.mkdirSync(mountPoint);
  fs.writeFileSync(image, "");
  fs.truncateSync(image, 256 * MIB);
  try {
    // Without a journal, and with what describes the files in front: so that only their content lies at the end.
    execFileSync("mkfs.ext4", ["-q", "-F", "-b", "4096", "-m", "0", "-O", "^has_journal", image], {
      stdio: "pipe",
    });
    execFileSync("filefrag", ["-V"], { stdio: "pipe" });
  } catch (error) {
    removeFolder(folder);
    return `no ext4 here: ${(error as Error).message}`;
  }
  const script = `mount -o loop "${image}" "${mountPoint}" && echo mounted && exec cat`;
  const child = spawn("unshare", ["-m", "sh", "-c", script], { stdio: ["pipe", "pipe", "pipe"] });
  const ended = new Promise<boolean>((resolve) => {
    child.once("close", () => resolve(false));
  });
  const remove = async (): Promise<void> => {
    child.kill("SIGKILL");
    await ended;
    removeFolder(folder);
  };
  const mounted = new Promise<boolean>((resolve) => {
    child.stdout.once("data", () => resolve(true));
  });
  if (!(await Promise.race([mounted, ended]))) {
    await remove();
    return "a loop device cannot be mounted here";
  }
  const place = `/proc/${child.pid}/root${mountPoint}`;
  return {
    path: place,
    remove,
    fail(file) {
      execFileSync("sync", ["-f", file]);
      const found = execFileSync("losetup", ["-n", "-O", "NAME", "-j", image], { encoding: "utf8" });
      const extents = execFileSync("filefrag", ["-v", file], { encoding: "utf8" });
      const cut = CUT_BYTES / 4096;
      const rows = [...extents.matchAll(/^ *\d+: +(\d+)\.\. *(\d+): +(\d+)\.\. *(\d+):/gm)].map((row) =>
        row.slice(1).map(Number),
      );
      const [logical, , physical] = rows.find(([from, to]) => from <= cut && cut <= to) as number[];
      const lost = physical + cut - logical;
      // Out of memory, as far as nobody has touched it through a map.
      execFileSync("dd", [`of=${file}`, "oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"]);
      fs.truncateSync(image, lost * 4096);
      execFileSync("losetup", ["-c", found.trim()]);
    },
  };
}
