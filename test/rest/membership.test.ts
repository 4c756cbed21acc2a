/**
 * Who belongs to the cluster, with real processes: a master and workers that are killed and started again, the seed's quick start, a
 * static list without a master, and the commands.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { freePort } from "../../native-bench/processes.ts";
import { Receiver } from "../../src/auth/answer.ts";
import { KeyRing } from "../../src/auth/keys.ts";
import { RequestSigner } from "../../src/auth/signature.ts";
import { meet } from "../cluster/peer-harness.ts";
import { FakeWorker } from "./fake-worker.ts";
import {
  launch,
  type Program,
  removeFolder,
  runProgram,
  temporaryFolder,
  untilLogged,
  waitUntil,
} from "./server.ts";

const folder = temporaryFolder();
after(() => removeFolder(folder));

// biome-ignore lint/suspicious/noExplicitAny: documents of any form
type Document = any;

async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) ports.push(await freePort());
  return ports;
}

const start = (port: number, name: string, ...words: string[]): Promise<Program> =>
  launch(["-host", "127.0.0.1", "-port", String(port), "-data", path.join(folder, name), ...words]);

async function kill(...programs: Program[]): Promise<void> {
  for (const program of programs) program.child.kill("SIGKILL");
  await Promise.all(programs.map((program) => program.ended));
}

/** The JSON of a path, or null while nobody answers. */
async function ask(port: number, target: string): Promise<Document> {
  try {
    return await (await fetch(`http://127.0.0.1:${port}${target}`)).json();
  } catch {
    return null;
  }
}

const epochAt = async (port: number) => (await ask(port, "/_peer/layout"))?.epoch;
const urlOf = (port: number) => `http://localhost:${port}`;

test("cluster: the quick start, kills of master and workers, the stored layout, and the commands", async () => {
  const [masterPort, ...ports] = await freePorts(4);
  const volumes = ports.map((port) => `localhost:${port}`).join();
  const startMaster = () => start(masterPort, "master", "-mode", "master", "-volumes", volumes);
  const startWorker = (index: number) => start(ports[index], `v${index}`, "-allow-invite");
  const nodes = async (): Promise<Document[]> => (await ask(masterPort, "/nodes"))?.nodes ?? [];
  const states = async () => (await nodes()).map((node) => node.state).join();

  let master = await startMaster();
  const workers = await Promise.all([0, 1, 2].map(startWorker));
  try {
    for (const port of ports)
      await waitUntil("every worker has the layout", async () => (await epochAt(port)) === 1);
    for (const port of ports)
      await waitUntil("all see each other", async () => (await ask(port, "/health")).nodes === 3);
    const layouts = await Promise.all(ports.map(async (port) => (await ask(port, "/_peer/layout")).layout));
    assert.deepEqual(layouts[1], layouts[0]);
    assert.deepEqual(
      layouts[0].nodes.map((node: Document) => node.url),
      ports.map(urlOf).sort(),
    );
    await waitUntil("all may vote", async () => (await nodes()).every((node) => node.voting));

    // A master that is gone changes nothing; one that is back forgets nobody.
    await kill(master);
    await kill(workers[0]);
    workers[0] = await startWorker(0);
    await waitUntil("the stored layout is there", async () => (await epochAt(ports[0])) === 1);
    await waitUntil("it votes", async () => (await ask(ports[0], "/_peer/layout")).voting === true);
    master = await startMaster();
    await waitUntil("the master is back", async () => (await nodes()).length === 3);
    assert.equal((await ask(masterPort, "/layout")).epoch, 1);
    await waitUntil("all report again", async () => (await states()) === "up,up,up");

    const listed = await runProgram(["nodes", "-master", urlOf(masterPort)]);
    assert.equal(listed.status, 0, listed.output);
    for (const port of ports)
      assert.match(
        listed.output,
        new RegExp(`^${urlOf(port)} +default +up .*active +1024 +0 +0 B +1 +yes$`, "m"),
      );
    const json = await runProgram(["nodes", "--json", `-master=localhost:${masterPort}`]);
    assert.equal(JSON.parse(json.output).nodes.length, 3);

    // A worker that fell silent is suspect; with its data lost it comes back without a vote.
    await kill(workers[2]);
    const silent = async () => (await nodes()).find((node) => node.url === urlOf(ports[2]))?.state;
    await waitUntil("suspect", async () => (await silent()) === "suspect");
    await waitUntil("the others hear of it", async () => (await ask(ports[0], "/health")).nodes === 2);
    fs.rmSync(path.join(folder, "v2"), { recursive: true });
    workers[2] = await startWorker(2);
    await waitUntil("it has the layout", async () => (await epochAt(ports[2])) === 1);
    assert.equal((await ask(ports[2], "/_peer/layout")).voting, false);

    const refused = await runProgram(["remove", urlOf(ports[0]), "-master", urlOf(masterPort)]);
    assert.equal(refused.status, 1);
    assert.match(refused.output, /^minivault remove: http:\S+ is up: drain it/);
    const leaving = await runProgram(["drain", urlOf(ports[2]), "-detach", "-master", urlOf(masterPort)]);
    assert.equal(leaving.status, 0, leaving.output);
    assert.match(
      leaving.output,
      /^only 2 workers stay: less than 3 copies of each key\nhttp\S+ is leaving; /,
    );
    for (const port of ports) await waitUntil("the move", async () => (await epochAt(port)) >= 2);
  } finally {
    await kill(master, ...workers);
  }

  const file = path.join(folder, "master/master/MASTER");
  const bytes = fs.readFileSync(file);
  bytes[bytes.length >> 1] ^= 1;
  fs.writeFileSync(file, bytes);
  const damaged = await startMaster();
  assert.equal((await damaged.ended).status, 1);
  assert.match(damaged.output(), /MASTER is damaged.*restore it from a copy, or move it away/);
});

test("cluster: workers with -volumes need no master, whatever the order of the list", async () => {
  const ports = await freePorts(3);
  const startWorker = (index: number) => {
    const others = ports.filter((_, other) => other !== index).map((port) => `localhost:${port}`);
    if (index === 1) others.reverse();
    return start(ports[index], `s${index}`, "-volumes", others.join(), "-region", `r${index}`);
  };
  const workers = await Promise.all([0, 1].map(startWorker));
  try {
    await waitUntil("they wait for the third", () =>
      workers[0].output().includes(`waiting for ${urlOf(ports[2])}`),
    );
    assert.equal(await epochAt(ports[0]), 0);
    workers.push(await startWorker(2));
    for (const port of ports)
      await waitUntil("every worker has the layout", async () => (await epochAt(port)) === 1);
    const documents: Document[] = [];
    for (const port of ports)
      await waitUntil("every worker votes", async () => {
        documents[ports.indexOf(port)] = await ask(port, "/_peer/layout");
        return documents[ports.indexOf(port)].voting === true;
      });
    for (const document of documents) assert.deepEqual(document.layout, documents[0].layout);
    assert.deepEqual(documents[0].layout.nodes.map((node: Document) => node.region).sort(), [
      "r0",
      "r1",
      "r2",
    ]);

    // Alone it starts from what it knows; with its data lost it learns the layout, and does not vote.
    await kill(...workers.splice(0));
    workers.push(await startWorker(0));
    await waitUntil("it starts alone", async () => (await epochAt(ports[0])) === 1);
    fs.rmSync(path.join(folder, "s1"), { recursive: true });
    workers.push(await startWorker(1));
    await waitUntil("the other learns the layout", async () => (await epochAt(ports[1])) === 1);
    assert.equal((await ask(ports[1], "/_peer/layout")).voting, false);
  } finally {
    await kill(...workers);
  }
});

test("cluster: drain shows its progress and ends with the move", async () => {
  const [masterPort] = await freePorts(1);
  const master = await start(masterPort, "dm", "-mode", "master");
  const workers = await Promise.all(
    [1, 2, 3, 4].map((digit) => FakeWorker.start(urlOf(masterPort), String(digit))),
  );
  const beatAll = async (epoch: number, done: number) => {
    const progress = { epoch, done, total: 100 };
    return (
      await Promise.all(workers.map((worker) => worker.beat({ epoch, voting: epoch > 0, progress })))
    )[0].epoch;
  };
  try {
    await waitUntil("the master serves", async () => (await ask(masterPort, "/health")) !== null);
    await waitUntil("the first layout", async () => (await beatAll(0, 0)) === 1);
    const drain = await launch(["drain", workers[3].url, "-master", urlOf(masterPort)]);
    await waitUntil("the move begins", async () => (await beatAll(1, 0)) === 2);
    await waitUntil("half is shown", async () => {
      await beatAll(2, 50);
      return /copies of partitions synchronised \((49|50) %\); waiting for http/.test(drain.output());
    });
    assert.equal(drain.child.exitCode, null);
    await waitUntil("the move ends", async () => (await beatAll(2, 100)) === 3);
    assert.equal((await drain.ended).status, 0, drain.output());
    assert.match(drain.output(), /is not in the layout any more \(epoch 3\)\n$/);
  } finally {
    for (const worker of workers) worker.close();
    await kill(master);
  }
});

test("cluster: a worker whose master has not answered yet says that it does not serve, and serves once it has", async () => {
  const [masterPort, port] = await freePorts(2);
  const worker = await start(port, "early", "-master", urlOf(masterPort));
  const health = async () => (await fetch(`http://127.0.0.1:${port}/health`)).status;
  const put = async () =>
    (await fetch(`http://127.0.0.1:${port}/k`, { method: "PUT", body: '{"value":1}' })).status;
  try {
    await waitUntil("the worker listens", async () => (await ask(port, "/health"))?.status === "joining");
    assert.deepEqual([await health(), await put()], [503, 503]);
    const master = await start(masterPort, "late-master", "-mode", "master");
    try {
      await waitUntil("the worker serves", async () => (await health()) === 200);
      assert.equal(await put(), 201);
    } finally {
      await kill(master);
    }
  } finally {
    await kill(worker);
  }
});

/** Starts a node and waits until it listens. */
async function started(port: number, name: string, ...words: string[]): Promise<Program> {
  const program = await start(port, name, ...words);
  await waitUntil("the node listens", async () => (await ask(port, "/health")) !== null);
  return program;
}

/** POSTs an invitation to a worker. */
async function invite(port: number, url: string, master: string, headers = {}): Promise<Response> {
  const body = JSON.stringify({ invitation: { master, url, withKeys: true } });
  return await fetch(`http://127.0.0.1:${port}/_peer/layout`, { method: "POST", body, headers });
}

test("cluster: without a key an invitation needs -allow-invite", async () => {
  const [masterPort, port] = await freePorts(2);
  const master = await started(masterPort, "im", "-mode", "master");
  const worker = await started(port, "iw");
  try {
    const refused = await invite(port, urlOf(port), urlOf(masterPort));
    assert.equal(refused.status, 409);
    assert.match(await refused.text(), /-allow-invite/);
    await kill(worker);
    const willing = await started(port, "iw", "-allow-invite");
    try {
      assert.equal((await invite(port, urlOf(port), urlOf(masterPort))).status, 200);
      await waitUntil("it has come", async () => (await ask(masterPort, "/health"))?.epoch === 1);
    } finally {
      await kill(willing);
    }
  } finally {
    await kill(master, worker);
  }
});

test("cluster: two masters that invite the same workers at their first start make one cluster, whoever came first", async () => {
  for (const reversed of [false, true]) {
    const [masterA, masterB, ...ports] = await freePorts(4);
    const [early, late] = [masterA, masterB].sort((a, b) => (a - b) * (reversed ? -1 : 1));
    const volumes = ports.map((port) => `localhost:${port}`).join();
    const startMaster = (port: number) => start(port, `tm${port}`, "-mode", "master", "-volumes", volumes);
    const startWorker = (port: number) => start(port, `tw${port}`, "-allow-invite");
    const isUp = async (port: number) =>
      ((await ask(port, "/nodes"))?.nodes ?? []).some(
        (node: Document) => node.url === urlOf(ports[0]) && node.state === "up",
      );
    const programs = [await startMaster(early), await startWorker(ports[0])];
    try {
      await waitUntil("the early master has the first worker", () => isUp(early));
      programs.push(await startMaster(late), await startWorker(ports[1]));
      for (const port of [early, late])
        await waitUntil("both masters know the cluster", async () => {
          const layout = (await ask(port, "/layout"))?.layout;
          return layout?.previous === null && layout.nodes.length === 2;
        });
      const clusters = await Promise.all(
        [early, late].map(async (port) => (await ask(port, "/layout")).layout.cluster),
      );
      assert.equal(clusters[0], clusters[1]);
      for (const port of ports)
        await waitUntil("it serves", async () => (await ask(port, "/health"))?.status === "healthy");
      const standbys = await Promise.all(
        [early, late].map(async (port) => (await ask(port, "/health")).standby),
      );
      assert.deepEqual(standbys, early < late ? [false, true] : [true, false]);
    } finally {
      await kill(...programs);
    }
  }
});

test("cluster: with a key, an invitation is for this run and a name of this worker", async () => {
  const [port] = await freePorts(1);
  const worker = await started(port, "signed-invitation", "-auth", "s3cret-of-members");
  try {
    const signer = new RequestSigner(new KeyRing(["s3cret-of-members"]));
    const post = async (receiver: Receiver): Promise<number> => {
      const body = JSON.stringify({ invitation: { master: urlOf(9), url: receiver.url, withKeys: true } });
      const { header } = signer.sign(receiver, "POST", "/_peer/layout", Buffer.from(body));
      const headers = { authorization: header };
      const target = `http://127.0.0.1:${port}/_peer/layout`;
      const first = await fetch(target, { method: "POST", body, headers });
      const again = await fetch(target, { method: "POST", body, headers });
      assert.equal(again.status, 401, "a replay");
      return first.status;
    };
    const known = await meet(new Receiver(urlOf(port)), "s3cret-of-members");
    const like = (url: string): Receiver => {
      const receiver = new Receiver(url);
      receiver.learn({ session: known.session ?? "", clock: known.clock(), mac: "" });
      return receiver;
    };
    assert.equal(await post(new Receiver(urlOf(port))), 401, "for no run");
    assert.equal(await post(like("http://10.1.1.1:3000")), 401, "another machine's");
    assert.equal(await post(like(`http://127.0.0.1:${port + 1}`)), 401, "another port's");
    assert.ok(!fs.existsSync(path.join(folder, "signed-invitation/CLUSTER")));
    assert.equal(await post(like(`http://127.0.0.1:${port}`)), 200);
  } finally {
    await kill(worker);
  }
});

test("cluster: what a master was sent is good for no other master, and for no later run of it", async () => {
  const ports = await freePorts(2);
  const key = ["-auth", "s3cret-of-members"];
  const startMaster = (index: number) => started(ports[index], `rm${index}`, "-mode", "master", ...key);
  let masters = [await startMaster(0), await startMaster(1)];
  try {
    const report = {
      ...{ url: "http://10.9.9.9:1", region: "r", host: "h", store: "00112233445566778899aabbccddeeff" },
      ...{ epoch: 0, empty: true, voting: false, rank: 1, progress: null, load: null },
    };
    const body = JSON.stringify(report);
    const signer = new RequestSigner(new KeyRing(["s3cret-of-members"]));
    const receiver = await meet(new Receiver(`http://127.0.0.1:${ports[0]}`), "s3cret-of-members");
    const sign = (to: Receiver) => signer.sign(to, "POST", "/heartbeat", Buffer.from(body)).header;
    const post = async (index: number, authorization: string): Promise<number> =>
      (
        await fetch(`http://127.0.0.1:${ports[index]}/heartbeat`, {
          ...{ method: "POST", body, headers: { authorization } },
        })
      ).status;
    const header = sign(receiver);
    assert.equal(await post(1, header), 401, "to another master");
    assert.equal(await post(0, header), 200);
    assert.equal(await post(0, header), 401, "a replay");
    const overheard = sign(receiver);
    const misled = new Receiver(receiver.url);
    const other = await meet(new Receiver(`http://127.0.0.1:${ports[1]}`), "s3cret-of-members");
    misled.learn({ session: other.session ?? "", clock: other.clock(), mac: "" });
    assert.equal(await post(1, sign(misled)), 401, "another audience, for this run");
    await kill(masters[0]);
    masters = [await startMaster(0), masters[1]];
    assert.equal(await post(0, overheard), 401, "signed for the run before");
    assert.equal((await ask(ports[1], "/health")).standby, false);
  } finally {
    await kill(...masters);
  }
});

test("cluster: a worker whose public URL leads nowhere is not taken in; it and the master say why", async () => {
  const [masterPort, port, lostPort, nowhere] = await freePorts(4);
  const master = await start(masterPort, "am", "-mode", "master");
  const first = await start(port, "aw1", "-master", urlOf(masterPort));
  const words = ["-master", urlOf(masterPort), "-public-url", urlOf(nowhere)];
  let lost: Program | null = null;
  try {
    await waitUntil("the first serves", async () => (await ask(port, "/health"))?.status === "healthy");
    lost = await start(lostPort, "aw2", ...words);
    const health = () => ask(lostPort, "/health");
    await waitUntil("both have tried", async () =>
      /^(?=.*\bthe master: )(?=.*[(;] ?http:\/\/localhost:\d+: ).*under its public URL/.test(
        (await health())?.reason ?? "",
      ),
    );
    assert.equal((await health()).status, "joining");
    const nodes = await runProgram(["nodes", "-master", urlOf(masterPort)]);
    assert.match(nodes.output, /localhost:\d+: it cannot be reached under its public URL/);
    await untilLogged(master, /a worker cannot be reached under its public URL/);
    await untilLogged(lost, /the master does not take this worker in/);
    assert.equal((await ask(masterPort, "/layout")).layout.nodes.length, 1);
    await kill(lost);
    lost = await start(lostPort, "aw2", "-master", urlOf(masterPort));
    await waitUntil("under its own URL it joins", async () => (await health())?.status === "healthy");
  } finally {
    await kill(master, first, ...(lost === null ? [] : [lost]));
  }
});

test("cluster: a key is asked for, signed with, and needed for the commands", async () => {
  const [masterPort, port] = await freePorts(2);
  const key = ["-auth", "s3cret-of-members"];
  const master = await start(masterPort, "km", "-mode", "master", "-volumes", `localhost:${port}`, ...key);
  const worker = await start(port, "kw", ...key);
  try {
    const health = async () => ask(masterPort, "/health");
    await waitUntil("the worker has come", async () => (await health())?.epoch === 1);
    const open = await fetch(`http://127.0.0.1:${port}/_peer/layout`, {
      headers: { Authorization: "Bearer s3cret-of-members" },
    });
    assert.equal(open.status, 401, "a client's key opens nothing between nodes");
    const without = await runProgram(["nodes", "-master", urlOf(masterPort)]);
    assert.deepEqual(
      [without.status, /wants the cluster's key/.test(without.output)],
      [1, true],
      without.output,
    );
    const env = { MINIVAULT_AUTH: "s3cret-of-members", MINIVAULT_MASTER: urlOf(masterPort) };
    const listed = await runProgram(["nodes"], { env });
    assert.match(listed.output, /layout: epoch 1, 3 copies of each key, 1,024 partitions\n/);
    const last = await runProgram(["drain", urlOf(port)], { env });
    assert.deepEqual([last.status, /the last worker/.test(last.output)], [1, true], last.output);
  } finally {
    await kill(master, worker);
  }
});

test("commands: a mistake is one line and status 2, an absent master one line and status 1", async () => {
  const [port] = await freePorts(1);
  const table: [string[], number, RegExp][] = [
    [["drain"], 2, /^minivault drain: use it as minivault drain URL \[flags\]; .* -help tells more\n$/],
    [["replace", "a:1"], 2, /^minivault replace: use it as minivault replace OLD NEW/],
    [["nodes", "-x"], 2, /^minivault nodes: unknown flag "-x"/],
    [["drain", "ftp://a"], 2, /is not an http or https URL/],
    [
      ["nodes", "-master", `localhost:${port}`],
      1,
      /^minivault nodes: the master \S+ cannot be reached: ECONNREFUSED; -master names another$/m,
    ],
    [["drain", "-help"], 0, /^Usage: minivault drain URL \[flags\]\n[\s\S]*Exit status: 0 done/],
  ];
  for (const [words, status, output] of table) {
    const exit = await runProgram(words);
    assert.equal(exit.status, status, exit.output);
    assert.match(exit.output, output);
  }
});
