/**
 * `npm run bench:three`: three nodes of minivault with a master beside three of etcd and three of NATS JetStream, on the loopback of one machine, values of
 * 100 bytes, one request in flight for each connection. All servers are up all the time; rounds in turns, in the other order in the next round; the
 * result is the median of the rounds' ratios.
 */
import path from "node:path";
import { parseArgs } from "node:util";
import { fileSystemOf } from "./contenders.ts";
import { type EtcdLoad, etcdLoad, type Rate } from "./etcd-load.ts";
import { keyPath, type LoadRequest, runWrkWith, SPREAD_KEYS } from "./load.ts";
import { describeMachine, isInstalled, PROGRAM } from "./machine.ts";
import { readOrExit, wholeNumber } from "./options.ts";
import { ensureProgram, run, temporaryFolder } from "./processes.ts";
import { exchange } from "./raw-http.ts";
import { type Report, runBench } from "./report.ts";
import { median, pairedRatio, percent, shortNumber, spread } from "./statistics.ts";
import { BUCKET, startThreeEtcd, startThreeMinivault, startThreeNats, type Three } from "./three-nodes.ts";

const HELP = `npm run bench:three -- [options]
  --rounds N        rounds of each row, the two sides in turns (5)
  --seconds N       seconds of each measurement (2)
  --connections A,B (64,256)
  --only A,B        only rows whose name contains one of these texts
  --program FILE    instead of dist/minivault.js
  --write           write docs/bench/three.json and .md
  --tiny            shows that it works, not how fast it is
  rows: PUT beside etcd, GET beside etcd, PUT beside NATS; each by way of one node and of all three`;

const VALUE_BYTES = 100;
type Verb = "GET" | "PUT";

interface Options {
  rounds: number;
  seconds: number;
  connections: number[];
  only: readonly string[];
  program: string;
  write: boolean;
  tiny: boolean;
}

interface Peer {
  readonly against: string;
  /** Ratio at least, by verb; what is not there is not measured. */
  readonly goals: Partial<Record<Verb, number>>;
  readonly three: Three;
  load(ports: readonly number[], verb: Verb, connections: number): Promise<Rate>;
}

function readOptions(): Options | null {
  const text = { type: "string" } as const;
  const flag = { type: "boolean", default: false } as const;
  const { values } = parseArgs({
    options: {
      ...{ rounds: text, seconds: text, connections: text, only: text, program: text },
      ...{ write: flag, tiny: flag, help: flag },
    },
  });
  if (values.help) return null;
  const tiny = values.tiny === true;
  return {
    rounds: wholeNumber(values.rounds ?? (tiny ? "1" : "5")),
    seconds: wholeNumber(values.seconds ?? (tiny ? "1" : "2")),
    connections: (values.connections ?? (tiny ? "6" : "64,256")).split(",").map(wholeNumber),
    only: values.only?.split(",") ?? [],
    program: path.resolve(values.program ?? PROGRAM),
    write: values.write === true,
    tiny,
  };
}

const BODY = JSON.stringify({ value: "v".repeat(VALUE_BYTES - 2) });

/** Requests for all keys, from one of them on. */
function requestsFrom(first: number, method: Verb): LoadRequest[] {
  return Array.from({ length: SPREAD_KEYS }, (_, index) => ({
    ...{ method, path: keyPath((first + index) % SPREAD_KEYS), body: method === "PUT" ? BODY : "" },
  }));
}

/** wrk on one node, or one of it on each with its share of the connections. */
async function loadMinivault(
  ports: readonly number[],
  verb: Verb,
  connections: number,
  seconds: number,
  folder: string,
): Promise<Rate> {
  const parts = await Promise.all(
    ports.map((port, number) => {
      const share = Math.floor(connections / ports.length) + (number < connections % ports.length ? 1 : 0);
      const requests = requestsFrom(Math.floor((number * SPREAD_KEYS) / ports.length), verb);
      return runWrkWith(requests, { port, connections: share, seconds }, folder);
    }),
  );
  return {
    perSecond: parts.reduce((sum, part) => sum + part.perSecond, 0),
    failures: parts.reduce((sum, part) => sum + part.failures, 0),
  };
}

/** Has all keys written once. */
async function fillAll(port: number): Promise<void> {
  for (let number = 0; number < SPREAD_KEYS; number++) {
    const { status, body } = await exchange(
      port,
      "PUT",
      keyPath(number),
      Buffer.from(BODY),
      "application/json",
    );
    if (status !== 200 && status !== 201) throw new Error(`PUT answered ${status}: ${body}`);
  }
}

async function etcdPeer(client: EtcdLoad, seconds: number): Promise<Peer> {
  const three = await startThreeEtcd();
  for (let round = 0; round < 2; round++) await client.run(three.ports, "PUT", 3, 1, VALUE_BYTES);
  return {
    against: `etcd, ${client.name}`,
    goals: { PUT: 3, GET: 5 },
    three,
    load: (ports, verb, connections) => client.run(ports, verb, connections, seconds, VALUE_BYTES),
  };
}

async function natsPeer(seconds: number): Promise<Peer> {
  const three = await startThreeNats();
  const client = path.join(__dirname, "nats-client.ts");
  return {
    against: "NATS JetStream KV, 3 replicas, synced every 2 minutes",
    goals: { PUT: 1 },
    three,
    load: async (ports, _verb, connections) => {
      const words = [ports.join(","), connections, seconds, VALUE_BYTES, BUCKET].map(String);
      return JSON.parse(await run(process.execPath, ["--import", "tsx", client, ...words])) as Rate;
    },
  };
}

async function bench(options: Options): Promise<Report & { failures: number }> {
  const { rounds, seconds, only, tiny } = options;
  ensureProgram();
  if (!isInstalled("wrk"))
    throw new Error("wrk drives this suite and is not installed (Debian: apt-get install wrk)");
  const machine = describeMachine();
  const folder = temporaryFolder();
  const nameOf = (verb: Verb, peer: string, count: number, wide: boolean): string =>
    `${verb} ${VALUE_BYTES} B, ${count} connections to ${wide ? "all three" : "one"}, beside ${peer}`;
  const wants = (name: string): boolean => only.length === 0 || only.some((text) => name.includes(text));
  const wantsPeer = (peer: string, verbs: readonly Verb[]): boolean =>
    verbs.some((verb) =>
      options.connections.some((count) =>
        [true, false].some((wide) => wants(nameOf(verb, peer, count, wide))),
      ),
    );
  const notes: string[] = [];
  const has = (program: string): boolean => {
    if (isInstalled(program)) return true;
    notes.push(`${program} is not installed: its rows are left out`);
    return false;
  };
  const peers: Peer[] = [];
  if (wantsPeer("etcd", ["PUT", "GET"]) && has("etcd")) peers.push(await etcdPeer(etcdLoad(), seconds));
  if (wantsPeer("NATS", ["PUT"]) && has("nats-server")) peers.push(await natsPeer(seconds));
  const ours = await startThreeMinivault(options.program);
  await fillAll(ours.ports[0]);
  const rows: string[][] = [];
  const data: object[] = [];
  let failures = 0;
  for (const peer of peers)
    for (const verb of ["PUT", "GET"] as const)
      for (const count of options.connections)
        for (const wide of [false, true]) {
          const goal = peer.goals[verb];
          const name = nameOf(verb, peer.against, count, wide);
          if (goal === undefined || !wants(name)) continue;
          const portsOf = (three: Three): readonly number[] => (wide ? three.ports : three.ports.slice(0, 1));
          const sides = [
            () => loadMinivault(portsOf(ours), verb, count, seconds, folder),
            () => peer.load(portsOf(peer.three), verb, count),
          ];
          const rates: number[][] = [[], []];
          // The first round warms both up and is not counted.
          for (let round = tiny ? 0 : -1; round < rounds; round++)
            for (const side of round % 2 === 0 ? [0, 1] : [1, 0]) {
              const result = await sides[side]();
              failures += result.failures;
              if (round >= 0) rates[side].push(result.perSecond);
            }
          const figure = pairedRatio(rates[0], rates[1]);
          rows.push([
            name,
            ...rates.flatMap((rate) => [`${shortNumber(median(rate))}/s`, percent(spread(rate))]),
            ...[figure.toFixed(2), `≥ ${goal}`, figure >= goal ? "yes" : "NO"],
          ]);
          data.push({ name, ours: rates[0], theirs: rates[1], figure, goal });
          console.error(`${name}: ${figure.toFixed(2)} (goal ${goal})`);
        }
  for (const three of [ours, ...peers.map((peer) => peer.three)]) await three.stop();
  if (rows.length === 0 && notes.length === 0) throw new Error(`no row's name contains ${only.join(" or ")}`);
  return {
    name: "three",
    title: "Three nodes beside etcd and NATS",
    machine,
    notes: [
      `three nodes of each on one machine, data on ${fileSystemOf(folder)}; ${rounds} round(s) of ${seconds} s, the two sides in turns; ± is (highest − lowest) / median`,
      "minivault (-sync always) and etcd sync before they acknowledge, NATS does not: it syncs every two minutes",
      `${SPREAD_KEYS} keys; where clients are at all three nodes, those of each begin at another one`,
      "GET: linearizable by both; load by wrk on minivault, on etcd by what the row says, on NATS by a client of its protocol in JavaScript",
      ...(tiny ? ["TINY RUN: shows that the benchmark works; its figures mean nothing"] : []),
      ...notes,
    ],
    tables: [
      {
        title: "Three nodes",
        columns: ["work", "minivault", "±", "peer", "±", "ratio", "goal", "reached"],
        rows,
      },
    ],
    data,
    failures,
  };
}

runBench(readOrExit(readOptions, HELP), bench);
