/**
 * Each command that asks a node or a master, over TLS and with tokens: against one node, against three, and against three of which the one
 * that is named first is down; said by flags and by the environment; with a token that allows too little, with one that nobody knows, and
 * with none.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../../native-bench/processes.ts";
import { Refused } from "../../src/cli/client/node-client.ts";
import { findSubcommand, runSubcommand } from "../../src/cli/commands.ts";
import type { Subcommand } from "../../src/cli/subcommand/subcommand.ts";
import { ERRORS } from "../../src/util/errors.ts";
import { makeCertificates } from "../certificate.ts";
import { content } from "../rest/client.ts";
import { launch, type Program, removeFolder, temporaryFolder, waitUntil } from "../rest/server.ts";
import { type FakeMiniKeyValue, startMiniKeyValue } from "./fake-minikeyvalue.ts";
import { runCommand, type Said, terminalOf } from "./terminal.ts";

const CLUSTER_KEY = "the-key-of-the-nodes-alone";
const LARGE = content(1, 2_500_000);

const folder = temporaryFolder();
const tls = makeCertificates(folder);
const tokensFile = path.join(folder, "tokens");
const tokens = { all: "", little: "", unknown: `mv1.AAAAAAAAAAA.${"A".repeat(43)}` };
/** By port. */
const programs = new Map<number, Program>();
const ports: number[] = [];
let other: FakeMiniKeyValue;

const urlOf = (port: number): string => `https://127.0.0.1:${port}`;

async function start(words: string[]): Promise<number> {
  const port = await freePort();
  const own = ["-port", String(port), "-host", "127.0.0.1", "-public-url", urlOf(port)];
  const access = ["-tls-cert", tls.certificateFile, "-tls-key", tls.keyFile, "-tls-ca", tls.authorityFile];
  const data = ["-sync", "os", "-data", path.join(folder, `data-${port}`), "-tokens", tokensFile];
  const env = { MINIVAULT_AUTH: CLUSTER_KEY };
  programs.set(port, await launch([...own, ...access, ...data, ...words], { env }));
  return port;
}

async function kill(port: number): Promise<void> {
  const program = programs.get(port) as Program;
  program.child.kill("SIGKILL");
  await program.ended;
}

before(async () => {
  other = await startMiniKeyValue();
  for (const [name, ...words] of [
    ["all", "-prefix", "", "-allow", "read,list,write,delete,watch,metrics,admin"],
    ["little", "-prefix", "own/", "-allow", "read"],
  ] as const) {
    const said = await runCommand(["token", name, ...words, "-tokens", tokensFile, "-json"]);
    tokens[name] = JSON.parse(said.out).token;
  }
  const single = await start([]);
  const master = await start(["-mode", "master"]);
  ports.push(single, master);
  const asOne = ["-master", urlOf(master)];
  ports.push(...(await Promise.all([0, 1, 2].map(() => start(asOne)))));
  for (const port of [single, ...ports.slice(2)])
    await waitUntil(`${port} serves`, async () => {
      return (await asking(urlOf(port), tokens.all)("put", "own/ready", "-value", "1")).status === 0;
    });
});
after(async () => {
  await Promise.all([...programs.keys()].map(kill));
  for (const following of followers) following.end();
  await Promise.all(followers.map(({ ended }) => ended));
  await other.close();
  removeFolder(folder);
});

type Run = (...words: string[]) => Promise<Said>;

/** Runs commands against nodes, or masters, by the environment that is usual for that. */
function asking(url: string, token: string | null, to: "URL" | "MASTER" = "URL"): Run {
  const env = {
    ...{ [`MINIVAULT_${to}`]: url, MINIVAULT_TLS_CA: tls.authorityFile },
    ...(token === null ? {} : { MINIVAULT_TOKEN: token }),
  };
  return (...words) => runCommand(words, { env });
}

/** The same by flags, with nothing in the environment that would do. */
function byFlags(to: "url" | "master", url: string, token: string): Run {
  const file = path.join(folder, `token-of-${to}`);
  fs.writeFileSync(file, `${token}\n`, { mode: 0o600 });
  const flags = [`-${to}`, url, "-tls-ca", tls.authorityFile, "-token-file", file];
  const env = { MINIVAULT_TOKEN: tokens.unknown };
  return (name, ...words) => runCommand([name, ...flags, ...words], { env });
}

interface Following {
  text(): string;
  /** What it says next is its end; at the latest that a node is gone. */
  end(): void;
  ended: Promise<number>;
}
const followers: Following[] = [];

/** A command that goes on until somebody ends it. */
function follow(url: string, [name, ...words]: string[]): Following {
  const env = { MINIVAULT_URL: url, MINIVAULT_TLS_CA: tls.authorityFile, MINIVAULT_TOKEN: tokens.all };
  let text = "";
  let isOver = false;
  const say = (more: string): void => {
    text += more;
    if (isOver) throw new Refused(410, null, "that is enough");
  };
  const terminal = { ...terminalOf({ status: -1, out: "", err: "" }, { env }), out: say, err: say };
  const ended = runSubcommand(findSubcommand(name) as Subcommand, words, terminal).catch(() => 1);
  const following = {
    text: () => text,
    end: () => {
      isOver = true;
    },
    ended,
  };
  followers.push(following);
  return following;
}

const BUSY = Object.entries(ERRORS)
  .filter(([code, { status }]) => status === 503 && code !== "unknown_outcome")
  .map(([, { message }]) => message);

function isBusy({ err }: Said): boolean {
  return BUSY.some((message) => err.includes(message));
}

async function works(name: string, run: Run, url: string, backup: readonly string[]): Promise<void> {
  const done = async (out: RegExp | string, ...words: string[]): Promise<void> => {
    let said = await run(...words);
    // A busy node refuses, and nothing was done.
    for (let tries = 0; said.status === 1 && isBusy(said) && tries < 200; tries++) {
      await sleep(100);
      said = await run(...words);
    }
    const sentence = `${name}: ${words.join(" ")}: ${said.err}`;
    assert.equal(said.status, 0, sentence);
    if (typeof out === "string") assert.equal(said.out, out, sentence);
    else assert.match(said.out, out, sentence);
  };
  const refused = async (...words: string[]): Promise<void> => {
    assert.equal((await run(...words)).status, 1, `${name}: ${words.join(" ")}`);
  };
  const file = path.join(folder, `${name}-large`);
  const saved = path.join(folder, `${name}-saved`);
  const archive = path.join(folder, `${name}.tar`);
  fs.writeFileSync(file, LARGE);

  const watching = follow(url, ["watch", `${name}/`, "-initial"]);
  await done(/^created /, "put", `${name}/1`, "-value", '"x"');
  await waitUntil("it follows", () => watching.text().includes(`put ${name}/1 `));
  await done('"x"\n', "get", `${name}/1`);
  await done(/^created /, "put", `${name}/large`, file, "-type", "image/png");
  await done("", "get", `${name}/large`, "-o", saved);
  assert.ok(fs.readFileSync(saved).equals(LARGE));
  await done(/^created /, "create", `${name}/\u001b[2J`, "-value", "1", "-ttl", "1h");
  await refused("create", `${name}/1`, "-value", "2");
  await done("1\n", "incr", `${name}/n`);
  await done("2\n", "incr", `${name}/n`);
  await done(`${name}/\\x1b[2J\n${name}/1\n${name}/large\n${name}/n\n`, "ls", "-r", `${name}/`);
  await done("", "lock", `${name}/lock`, "--", "true");
  await waitUntil("what was created is told", () => watching.text().includes(`put ${name}/\\x1b[2J `));
  await waitUntil("the lock was given back", () => watching.text().includes(`delete ${name}/lock `));
  watching.end();

  await done(/^saved 4 keys, /, "export", archive, "-prefix", `${name}/`);
  await done(`deleted ${name}/1\n`, "rm", `${name}/1`);
  await done("deleted 3 keys\n", "rm", "-r", `${name}/`);
  await refused("ls", `${name}/`);
  await done("stored 4 keys, kept 0 as they were, refused 0\n", "import", archive);
  await done('"x"\n', "get", `${name}/1`);
  await done("3\n", "incr", `${name}/n`);
  await done(/^NODE .*\nhttps:.*\n/, "top", "-count", "1");
  await done(
    "stored 1 keys, 5 B, kept 0 as they were, refused 0; 0 were deleted meanwhile\n",
    ...migration(name),
  );
  await done("moved", "get", `moved/${name}`);
  await done(/^copied /, "backup", ...backup, path.join(folder, `${name}-backup`));
}

/** Copies what another program's store holds for a surrounding. */
function migration(name: string): string[] {
  other.values.set(`/moved/${name}`, Buffer.from("moved"));
  return ["import", "-from-minikeyvalue", other.url, "-prefix", `moved/${name}`];
}

/** What each command asks of a node. */
function commands(archive: string): readonly string[][] {
  const value = ["-value", "1"];
  return [
    ...[
      ["get", "other"],
      ["put", "own/k", ...value],
      ["create", "own/new", ...value],
      ["rm", "own/k"],
    ],
    ...[
      ["rm", "-r", "own/"],
      ["ls", "own/"],
      ["watch", "own/"],
      ["incr", "own/n"],
      ["top", "-count", "1"],
    ],
    ...[
      ["lock", "own/lock", "--", "false"],
      ["export", "-", "-prefix", "own/"],
      ["import", archive],
    ],
    migration("refused"),
    ["backup", path.join(folder, "refused")],
  ];
}

async function refuses(url: string): Promise<void> {
  const archive = path.join(folder, "own.tar");
  assert.equal((await asking(url, tokens.all)("export", archive, "-prefix", "own/")).status, 0);
  assert.equal((await asking(url, tokens.little)("get", "own/ready")).out, "1\n");
  const callers: [token: string | null, reason: RegExp][] = [
    [tokens.little, /does not allow/],
    [tokens.unknown, /does not know this token/],
    [null, /wants a token/],
  ];
  for (const [token, reason] of callers)
    for (const words of commands(archive)) {
      const { status, out, err } = await asking(url, token)(...words);
      assert.equal(status, 1, `${words.join(" ")}: ${out}${err}`);
      assert.match(err, reason, words.join(" "));
    }
  assert.ok(!fs.existsSync(path.join(folder, "refused")));
  const said = await asking(url, tokens.all)("ls", "-r", "own/");
  assert.equal(said.out, "own/ready\n", "nothing has changed");
}

test("matrix: one node", async () => {
  const url = urlOf(ports[0]);
  await works("one-node", asking(url, tokens.all), url, []);
  await refuses(url);
  const plain = await runCommand(["get", "own/ready", "-url", url.replace("https", "http")]);
  assert.equal(plain.status, 1);
  assert.match(
    (await asking(url, tokens.all, "MASTER")("nodes")).err,
    /: https:\S+ is no master of minivault\n$/,
  );
  for (const words of [
    ["get", "own/ready", "-url", url],
    ["nodes", "-master", url],
  ]) {
    const stranger = await runCommand(words);
    assert.equal(stranger.status, 1);
    assert.match(
      stranger.err,
      /cannot be reached: its certificate is of an authority that is not trusted here/,
    );
  }
});

/** A worker's URL as people write it. */
const named = (port: number): string => `127.0.0.1:${port}`;

/** What each command asks of a master, and what is said: nothing of it changes the cluster. */
function orders(worker: number): readonly [words: string[], status: number, out: RegExp][] {
  const url = urlOf(worker);
  return [
    [["nodes"], 0, new RegExp(`^layout: epoch \\d+, 3 copies of each key.*\n(.*\n)*${url} .* up `)],
    [["nodes", "-json"], 0, new RegExp(`"url": "${url}"`)],
    [["upgrade-cluster"], 0, /^the cluster has feature level \d+ as epoch \d+\n$/],
    [["abandon-move"], 1, /: nothing is moving\n$/],
    [["recover", "-yes"], 1, /: every partition has a majority of its copies/],
    [["remove", named(worker)], 1, new RegExp(`: ${url} is up: drain it, or stop it`)],
    [["replace", named(worker), named(1)], 1, new RegExp(`: ${urlOf(1)} is not up`)],
    [["drain", named(1), "-detach"], 1, new RegExp(`: ${urlOf(1)} is not in the layout`)],
  ];
}

async function operates(master: string, worker: number): Promise<void> {
  for (const [way, run] of Object.entries({
    environment: asking(master, tokens.all, "MASTER"),
    flags: byFlags("master", master, tokens.all),
  }))
    for (const [words, status, text] of orders(worker)) {
      const said = await run(...words);
      assert.equal(said.status, status, `${way}: ${words.join(" ")}: ${said.out}${said.err}`);
      assert.match(`${said.out}${said.err}`, text, `${way}: ${words.join(" ")}`);
    }
  const reason = /wants the cluster's key .*, or, where it has -tokens, one that allows admin/;
  const [{ out: earlier }, ...refused] = await Promise.all([
    asking(master, tokens.all, "MASTER")("nodes", "-json"),
    ...[tokens.little, tokens.unknown, null].flatMap((token) =>
      orders(worker).map(async ([words]) => ({
        words,
        ...(await asking(master, token, "MASTER")(...words)),
      })),
    ),
  ]);
  for (const { words, status, out, err } of refused) {
    assert.deepEqual([status, out], [1, ""], `${words.join(" ")}: ${err}`);
    assert.match(err, reason, words.join(" "));
  }
  const { out: later } = await asking(master, tokens.all, "MASTER")("nodes", "-json");
  assert.equal(JSON.parse(later).epoch, JSON.parse(earlier).epoch);
}

test("matrix: three nodes, and two of them", async () => {
  const [master, ...workers] = ports.slice(1);
  const backup = ["-master", urlOf(master)];
  const middle = urlOf(workers[1]);
  await works("three-nodes", byFlags("url", middle, tokens.all), middle, backup);
  await refuses(urlOf(workers[2]));
  await operates(urlOf(master), workers[2]);

  const [down, up] = workers;
  const url = `${urlOf(down)},${urlOf(up)}`;
  const change = async (key: string): Promise<boolean> =>
    (await asking(urlOf(up), tokens.all)("put", key, "-value", "1")).status === 0;
  const watching = follow(url, ["watch", "over/"]);
  await waitUntil(
    "it follows",
    async () => (await change("over/1")) && watching.text().includes("put over/1 "),
  );
  const looking = follow(urlOf(down), ["top", "-json", "-interval", "0.2"]);
  await waitUntil("all are seen", () => /(?:"problem":null.*){3}/.test(looking.text()));
  await kill(down);
  await waitUntil("a change without it", () => change("over/2"));
  await waitUntil("it is seen which one is gone", () =>
    /"url":"\S+?","problem":"[^"]+cannot be reached(?:.*"problem":null.*){2}\n/.test(looking.text()),
  );
  looking.end();
  assert.equal(await looking.ended, 1);
  await waitUntil("it is told by the next node", () => watching.text().includes("put over/2 "));
  watching.end();
  await works("two-of-three", asking(url, tokens.all), url, backup);
});
