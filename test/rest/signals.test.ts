/** The process around a node: signals, and a log that nobody takes. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import https from "node:https";
import net from "node:net";
import path from "node:path";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../../native-bench/processes.ts";
import { makeCertificates } from "../certificate.ts";
import {
  builtProgram,
  cleanEnvironment,
  commandLine,
  healthStatus,
  launch,
  printedPort,
  removeFolder,
  runProgram,
  startServer,
  temporaryFolder,
  untilLogged,
  waitUntil,
  withServer,
} from "./server.ts";

const folder = temporaryFolder();
after(() => removeFolder(folder));
const isLinux = process.platform === "linux";

/** Opens an upload that never ends, and answers its socket once the node has seen it. */
async function hangingUpload(port: number): Promise<net.Socket> {
  const socket = net.connect(port, "127.0.0.1");
  socket.on("error", () => {});
  socket.write("PUT /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf");
  const underWay = async (): Promise<boolean> => {
    const stats = (await (await fetch(`http://127.0.0.1:${port}/_stats`)).json()) as {
      queues: { requestsInFlight: number };
    };
    return stats.queues.requestsInFlight > 0;
  };
  await waitUntil("the upload is under way", underWay);
  return socket;
}

describe("signals", () => {
  test("SIGHUP ends nothing, neither while it starts nor later, with nohup or without", async () => {
    await withServer({}, async (server) => {
      for (let i = 0; i < 3; i++) process.kill(server.pid, "SIGHUP");
      await waitUntil("it is logged", () => server.log().includes("no file to read again"));
      assert.equal(await healthStatus(server.port), 200);
      assert.equal((await server.stop()).status, 0);
    });
    const data = path.join(folder, "early");
    const program = await launch(commandLine({}, data));
    // Before that Node.js itself is starting, and nobody can have asked it to stay.
    await waitUntil("it has begun to start", () => fs.existsSync(data));
    const timer = setInterval(() => program.child.kill("SIGHUP"), 2);
    await waitUntil(
      "it listens",
      () => printedPort(program.output()) !== null || program.child.exitCode !== null,
    );
    clearInterval(timer);
    assert.equal(program.child.exitCode, null, program.output());
    assert.equal(program.child.signalCode, null);
    program.child.kill("SIGTERM");
    assert.equal((await program.ended).status, 0);
  });

  test("SIGUSR1 and SIGUSR2 end nothing and open no debugger, which Node.js would do by itself", async () => {
    await withServer({}, async (server) => {
      for (const signal of ["SIGUSR1", "SIGUSR2"] as const) {
        process.kill(server.pid, signal);
        await untilLogged(server, new RegExp(`${signal} means nothing here`));
        assert.equal(await healthStatus(server.port), 200);
      }
      assert.doesNotMatch(server.log(), /debugger/i);
      assert.equal((await server.stop()).status, 0);
    });
  });

  test("SIGTERM during a start: exit 0, and the directory can be used again at once", async () => {
    const data = path.join(folder, "given-up");
    const program = await launch(commandLine({}, data), { env: { MINIVAULT_LOG: "info" } });
    await waitUntil("the directory is there", () => fs.existsSync(path.join(data, "LOCK")));
    program.child.kill("SIGTERM");
    assert.equal((await program.ended).status, 0);
    await withServer({ data }, async (server) => assert.equal((await server.stop()).status, 0));
  });

  test("a second SIGTERM at once is the same one; a later one does not wait for what is in flight", async () => {
    await withServer({}, async (server) => {
      process.kill(server.pid, "SIGINT");
      process.kill(server.pid, "SIGTERM");
      assert.equal((await server.stop()).status, 0);
      assert.match(server.log(), /"msg":"stopped"/);
      await server.restart();
      const socket = await hangingUpload(server.port);
      process.kill(server.pid, "SIGTERM");
      await waitUntil("it has begun to stop", () => /finishing what is in flight"\}\n$/.test(server.log()));
      await sleep(1100);
      const exit = await server.stop();
      assert.equal(exit.status, 1);
      assert.match(server.log(), /SIGTERM again: ending at once/);
      socket.destroy();
      await server.restart();
      assert.equal((await fetch(`${server.url}/slow`)).status, 404);
    });
  });

  test("a file that may not grow (ulimit -f) fails the start, or the write, with a sentence", {
    skip: !isLinux,
  }, async () => {
    const wrapper = ["sh", "-c", 'ulimit -f 2000; exec "$@"', "sh"];
    const { status, signal, output } = await runProgram(commandLine({}, path.join(folder, "limited")), {
      wrapper,
    });
    assert.deepEqual([status, signal], [1, null], output);
    assert.match(output, /a file may not become so large here \(ulimit -f/);
  });

  test(
    "a limit that files meet while the node runs shows in /health, and writes go on when it is lifted",
    {
      skip: !isLinux,
    },
    () =>
      withServer({}, async (server) => {
        const limit = (bytes: string): void => {
          const words = ["--pid", String(server.pid), `--fsize=${bytes}:unlimited`];
          const { status, stderr } = spawnSync("prlimit", words, { encoding: "utf8" });
          assert.equal(status, 0, stderr);
        };
        const put = (key: string) => fetch(`${server.url}/${key}`, { method: "PUT", body: "v" });
        const read = async (answer: Response) => (await answer.json()) as Record<string, string | boolean>;
        const health = async () => read(await fetch(`${server.url}/health`));
        assert.equal((await put("before")).status, 201);
        assert.equal((await health()).writesFail, false);
        limit("1000");
        const refused = await put("refused");
        assert.equal(refused.status, 500);
        assert.match(String((await read(refused)).error), /a file may not become so large here/);
        const { status, reason, writesFail } = await health();
        assert.deepEqual([status, writesFail], ["degraded", true]);
        assert.match(String(reason), /the disk refused a write a moment ago/);
        limit("unlimited");
        assert.equal((await put("after")).status, 201);
        assert.equal((await fetch(`${server.url}/before`)).status, 200);
        assert.equal((await fetch(`${server.url}/refused`)).status, 404);
      }),
  );

  test("too few addresses (ulimit -v), and a working directory that is gone, fail the start with a sentence", {
    skip: !isLinux,
  }, async () => {
    for (const [script, sentence] of [
      // Enough for Node.js itself; then for the hash, too.
      ["ulimit -v 3000000", /too few addresses \(ulimit -v\)/],
      ["ulimit -v 12000000", /too few addresses \(ulimit -v\)/],
      [
        'mkdir "$0/gone"; cd "$0/gone"; rmdir "$0/gone"',
        /the working directory is gone: change to one that is there/,
      ],
    ] as const) {
      const wrapper = ["sh", "-c", `${script}; exec "$@"`, folder];
      const words = commandLine({}, path.join(folder, "nowhere"));
      const { status, output } = await runProgram(words, { wrapper });
      assert.equal(status, 1, output);
      assert.match(output, sentence);
      assert.ok(!output.includes("    at "), output);
    }
    const relative = await runProgram(commandLine({}, "data"), {
      wrapper: ["sh", "-c", 'mkdir "$0/gone"; cd "$0/gone"; rmdir "$0/gone"; exec "$@"', folder],
    });
    assert.equal(relative.status, 1);
    assert.match(
      relative.output,
      /^minivault: the working directory is gone: change to one that is there, and try again$/m,
    );
  });

  test("a command that prints to a pipe that is closed, or to a full disk, ends quietly or with a sentence", async () => {
    const program = await builtProgram();
    const run = (command: string) =>
      spawnSync("sh", ["-c", command, "sh", process.execPath, program], {
        encoding: "utf8",
        env: cleanEnvironment(),
      });
    const closed = run('"$@" -help | true');
    assert.deepEqual([closed.status, closed.stderr], [0, ""]);
    if (!fs.existsSync("/dev/full")) return;
    const full = run('"$@" -help >/dev/full');
    assert.equal(full.status, 1);
    assert.equal(
      full.stderr,
      "minivault: standard output: the disk has no room, or no inode, left (ENOSPC)\n",
    );
  });
});

describe("a log that nobody takes", () => {
  const outlets: Record<string, string> = {
    "a closed standard error": "2>&-",
    "all of it closed": "<&- >&- 2>&-",
    ...(isLinux ? { "a full disk": "2>/dev/full" } : {}),
  };
  for (const [name, redirection] of Object.entries(outlets))
    test(`${name}: the node serves, and stops in order`, async () => {
      const port = await freePort();
      const words = [
        "-port",
        String(port),
        "-host",
        "127.0.0.1",
        "-data",
        path.join(folder, name.replaceAll(" ", "-")),
      ];
      const program = await launch(words, { wrapper: ["sh", "-c", `exec "$@" ${redirection}`, "sh"] });
      await waitUntil("it serves", async () => (await healthStatus(port)) === 200);
      for (let i = 0; i < 50; i++) program.child.kill("SIGHUP");
      assert.equal((await fetch(`http://127.0.0.1:${port}/k`, { method: "PUT", body: "x" })).status, 201);
      program.child.kill("SIGTERM");
      assert.deepEqual(await program.ended, { status: 0, signal: null });
    });

  test("a pipe that nobody reads, and one whose reader is gone: requests go on", async () => {
    for (const isGone of [true, false]) {
      const port = await freePort();
      const words = [
        "-port",
        String(port),
        "-host",
        "127.0.0.1",
        "-data",
        path.join(folder, `pipe-${isGone}`),
      ];
      const child = spawn(process.execPath, [await builtProgram(), ...words], {
        stdio: ["ignore", "ignore", "pipe"],
        env: cleanEnvironment(),
      });
      try {
        child.stderr.pause();
        if (isGone) child.stderr.destroy();
        await waitUntil("it serves", async () => (await healthStatus(port)) === 200);
        // Far more lines than a pipe holds; what the node answers meanwhile waits for none of them.
        const done = { count: 0 };
        const timer = setInterval(() => {
          for (let i = 0; i < 20; i++) child.kill("SIGHUP");
          done.count++;
        }, 1);
        await waitUntil("there were many lines", async () => {
          assert.equal(await healthStatus(port), 200);
          return done.count > 300;
        });
        clearInterval(timer);
        assert.equal((await fetch(`http://127.0.0.1:${port}/k`, { method: "PUT", body: "x" })).status, 201);
      } finally {
        const ended = new Promise((resolve) => child.once("exit", (status) => resolve(status)));
        child.kill("SIGTERM");
        assert.equal(await ended, 0);
      }
    }
  });
});

describe("SIGHUP reads files again", () => {
  const serial = (port: number, ca: string): Promise<string> =>
    new Promise((resolve, reject) => {
      https
        .get({ host: "localhost", port, path: "/health", agent: false, ca }, (response) => {
          const { socket } = response;
          response.resume();
          resolve((socket as import("node:tls").TLSSocket).getPeerCertificate().fingerprint256);
        })
        .on("error", reject);
    });

  for (const mode of ["worker", "worker with two fronts", "worker by itself", "master"])
    test(`${mode}: the certificate; connections that are there go on, a bad file changes nothing`, async () => {
      // Without a signal: the files are looked at.
      const isByItself = mode.includes("by itself");
      const place = fs.mkdtempSync(path.join(folder, "tls-"));
      const [before, after, hold] = ["before", "after", "hold"].map((name) => {
        fs.mkdirSync(path.join(place, name));
        return path.join(place, name);
      });
      const old = makeCertificates(before);
      const fresh = makeCertificates(after);
      const certificate = path.join(hold, "certificate.pem");
      const key = path.join(hold, "key.pem");
      const take = (from: { certificateFile: string; keyFile: string }) => {
        fs.copyFileSync(from.certificateFile, certificate);
        fs.copyFileSync(from.keyFile, key);
        fs.chmodSync(key, 0o600);
      };
      take(old);
      const flags = ["-tls-cert", certificate, "-tls-key", key];
      if (mode === "master") flags.push("-mode", "master");
      if (mode.includes("fronts")) flags.push("-fronts", "2");
      const program = await launch(commandLine({ flags }, path.join(place, "data")));
      await waitUntil("it listens", () => printedPort(program.output()) !== null);
      const port = printedPort(program.output()) as number;
      const first = await serial(port, old.authority);
      const agent = new https.Agent({ keepAlive: true, maxSockets: 1, ca: old.authority });
      const request = (): Promise<number> =>
        new Promise((resolve, reject) => {
          https
            .get({ host: "localhost", port, path: "/health", agent }, (response) => {
              response.resume();
              response.on("end", () => resolve(response.statusCode ?? 0));
            })
            .on("error", reject);
        });
      assert.equal(await request(), 200);

      fs.writeFileSync(certificate, "nonsense");
      if (!isByItself) program.child.kill("SIGHUP");
      await waitUntil("the bad file is named", () =>
        /cannot use the certificate .*(nothing has changed|what was in force stays)/.test(program.output()),
      );
      assert.equal(await serial(port, old.authority), first);

      take(fresh);
      if (!isByItself) program.child.kill("SIGHUP");
      await waitUntil("it is in force", () => program.output().includes("in force for new connections"));
      // With several fronts each one changes by itself.
      await waitUntil("all connections get it", async () => {
        for (let i = 0; i < 8; i++)
          if (
            !(await serial(port, fresh.authority).then(
              (one) => one !== first,
              () => false,
            ))
          )
            return false;
        return true;
      });
      assert.equal(await request(), 200, "on the connection from before");
      agent.destroy();
      program.child.kill("SIGTERM");
      assert.equal((await program.ended).status, 0);
    });

  const keyStatus = (port: number, key: string): Promise<number> =>
    new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${key}` };
      http
        .get({ host: "127.0.0.1", port, path: "/x", agent: false, headers }, (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        })
        .on("error", reject);
    });

  for (const fronts of ["1", "2"])
    test(`the key in -auth-file, of a node that is alone, ${fronts} front(s)`, async () => {
      const file = path.join(folder, `key-${fronts}`);
      fs.writeFileSync(file, "the-first-key-long-enough\n", { mode: 0o600 });
      const server = await startServer({ flags: ["-auth-file", file, "-fronts", fronts] });
      try {
        assert.equal(await keyStatus(server.port, "the-first-key-long-enough"), 404);
        fs.writeFileSync(file, "");
        process.kill(server.pid, "SIGHUP");
        await waitUntil("the bad file is named", () =>
          /-auth-file: .*nothing has changed/.test(server.log()),
        );
        assert.equal(await keyStatus(server.port, "the-first-key-long-enough"), 404);
        fs.writeFileSync(file, "the-second-key-long-enough\n");
        process.kill(server.pid, "SIGHUP");
        await waitUntil("it is in force for all", async () => {
          for (let i = 0; i < 8; i++) {
            if ((await keyStatus(server.port, "the-first-key-long-enough")) !== 401) return false;
            if ((await keyStatus(server.port, "the-second-key-long-enough")) !== 404) return false;
          }
          return true;
        });
        await untilLogged(server, /read again: [^"]*key-\d \(in force\)/);
        assert.doesNotMatch(server.log(), /first-key|second-key/);
      } finally {
        await server.dispose();
      }
    });

  test("a node of a cluster says that a new key takes a restart of all, and keeps the old one", async () => {
    const file = path.join(folder, "key-of-cluster");
    fs.writeFileSync(file, "the-first-key-long-enough\n", { mode: 0o600 });
    const flags = ["-auth-file", file, "-volumes", "127.0.0.1:9", "-port", "0"];
    const program = await launch(commandLine({ flags }, path.join(folder, "clustered")));
    await waitUntil("it listens", () => printedPort(program.output()) !== null);
    fs.writeFileSync(file, "the-second-key-long-enough\n");
    program.child.kill("SIGHUP");
    await waitUntil("it says so", () => program.output().includes("NOT in force"));
    program.child.kill("SIGTERM");
    assert.equal((await program.ended).status, 0);
  });
});
