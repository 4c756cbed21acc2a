/**
 * One run of chaos on a cluster of real processes: clients at all nodes work on a few hot keys while a nemesis is at work; then all is healed, every
 * key is read at every node, and the histories are judged.
 */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { Random } from "../random.ts";
import { call } from "../rest/client.ts";
import { waitUntil } from "../rest/server.ts";
import { describe, type Recorded } from "../sim/linearizability.ts";
import { judgeLong } from "../sim/long-history.ts";
import { CLOCK_FAULTS, type FaultName, Nemesis } from "./nemesis.ts";
import { type HotKey, hotKey, Recorder, type Told } from "./recorder.ts";
import type { Cluster } from "./workers.ts";

const HOT_KEYS = 4;
const CLIENTS_PER_NODE = 2;
const THINK_MS_MAX = 12;
/** A client at a dead node waits before it tries again. */
const REFUSED_REST_MS = 40;
/** Steps of the search in a strict sense, which may fail without harm, and in the sense that counts. */
const STRICT_STEPS_MAX = 50_000;
const STEPS_MAX = 2_000_000;
const MOVE_AFTER_MS = 300;
const MOVE_MS_MAX = 120_000;
/** A node that starts while another is not whole yet waits half a minute for proof that its disk is the newest. */
const FINAL_READ_MS_MAX = 120_000;

export interface RunOptions {
  seed: number;
  /** How long the nemesis works. */
  ms: number;
  /** Faults at once, at most. */
  lanes?: number;
  /** The master is dead for the whole of the run. */
  withoutMaster?: boolean;
  /** What the nemesis draws from; without disks and clocks when left out. */
  faults?: readonly FaultName[];
  /** A worker joins meanwhile, or the last one is drained and ended. */
  move?: "add" | "drain";
  /** What reads ask for; quorum when left out. */
  consistency?: "quorum" | "one";
}

export interface RunResult extends Told {
  seed: number;
  faults: string;
  keys: number;
  notLinearizable: number;
  undecided: number;
  /** Keys where the final read shows less than what was acknowledged. */
  lost: number;
  deletedBack: number;
  /** Keys whose history fits only if 200 and 201, and `deleted`, may be best guesses. */
  guessed: number;
  /** Keys whose history fits only if a refused If-Match may have named a version that was since rewritten. */
  rewritten: number;
  unexpected: string[];
  /** What went wrong, with histories, for people. */
  violations: string[];
}

export async function chaosRun(cluster: Cluster, options: RunOptions): Promise<RunResult> {
  const { seed, ms } = options;
  const random = new Random(seed);
  const recorder = new Recorder(options.consistency);
  const keys = Array.from({ length: HOT_KEYS }, (_, index) => hotKey(`hot-${seed}-${index}`, false));
  keys.push(hotKey(`large-${seed}`, true));
  const nemesis = new Nemesis(cluster, new Random(seed ^ 0x5bd1e995), options.faults);
  const begunMs = performance.now();
  const untilMs = begunMs + ms;
  if (options.withoutMaster === true) await cluster.killMaster();
  try {
    const clients = cluster.workers.flatMap((_, node) =>
      Array.from({ length: CLIENTS_PER_NODE }, () => new Random(random.word())).map((own) =>
        client(cluster, node, keys, recorder, own, untilMs),
      ),
    );
    const lanes = Array.from({ length: options.lanes ?? 2 }, () => nemesis.run(untilMs));
    const moves = options.move === undefined ? [] : [move(cluster, options.move)];
    const [finish] = await Promise.all([Promise.all(moves), ...clients, ...lanes]);
    await nemesis.heal();
    for (const wait of finish) await wait();
    for (const key of keys)
      for (const port of cluster.workers.flatMap(({ doors }) => doors))
        await waitUntil(
          `${key.name} can be read at port ${port} (seed ${seed})`,
          () => recorder.look(port, key),
          FINAL_READ_MS_MAX,
        );
  } finally {
    recorder.close();
    if (options.withoutMaster === true) await cluster.startMaster();
  }
  return judge(seed, keys, cluster.workers.flatMap(({ doors }) => doors).length, recorder, nemesis, begunMs);
}

/** Begins a change of the layout; answers what waits for its end. */
export async function move(cluster: Cluster, kind: "add" | "drain"): Promise<() => Promise<void>> {
  await sleep(MOVE_AFTER_MS);
  const { workers, masterPort } = cluster;
  if (kind === "add") await cluster.add();
  const worker = workers[workers.length - 1];
  const body = JSON.stringify({ drain: worker.url });
  const order = async () => (await call(masterPort, "POST", "/layout", { body })).status < 300;
  if (kind === "drain") await waitUntil("the master takes the order", order, MOVE_MS_MAX);
  const isOver = async (): Promise<boolean> => {
    const { epoch, layout } = (await call(masterPort, "GET", "/layout")).json();
    const isMember = layout.nodes.some(({ url }: { url: string }) => url === worker.url);
    if (layout.previous !== null || isMember !== (kind === "add")) return false;
    for (const { port, url } of workers) {
      const state = (await call(port, "GET", "/_stats")).json().cluster;
      // Who has left may never hear of it.
      if (url !== worker.url && state?.epoch !== epoch) return false;
    }
    return true;
  };
  return async () => {
    await waitUntil(`${kind} is done`, isOver, MOVE_MS_MAX);
    if (kind === "drain") await cluster.retire(worker);
  };
}

async function client(
  cluster: Cluster,
  node: number,
  keys: readonly HotKey[],
  recorder: Recorder,
  random: Random,
  untilMs: number,
): Promise<void> {
  await sleep(random.below(20));
  for (let turn = 0; performance.now() < untilMs; turn++) {
    // Large values are rare; among the small keys one is the hottest.
    const draw = random.below(100);
    const key = keys[draw < 4 ? keys.length - 1 : draw < 50 ? 0 : random.below(keys.length - 1)];
    const { doors } = cluster.workers[node];
    const port = doors[turn % doors.length];
    const how = { json: random.below(3) === 0, putIfNone: random.below(3) === 0 };
    const what = random.below(100);
    const recent = key.versions.slice(-4);
    const version = recent[random.below(Math.max(1, recent.length))];
    const failedBefore = recorder.told.failed;
    if (what < 36) await recorder.get(port, key);
    else if (what < 54) await recorder.write(port, key, "put", how);
    else if (what < 66 || version === undefined) await recorder.write(port, key, "post", how);
    else if (what < 76) await recorder.write(port, key, "delete", how);
    else if (what < 94) await recorder.write(port, key, "replaceIf", { ...how, version });
    else await recorder.write(port, key, "deleteIf", { ...how, version });
    await sleep(recorder.told.failed > failedBefore ? REFUSED_REST_MS : random.below(THINK_MS_MAX));
  }
}

function judge(
  seed: number,
  keys: readonly HotKey[],
  nodes: number,
  recorder: Recorder,
  nemesis: Nemesis,
  begunMs: number,
): RunResult {
  const result: RunResult = {
    ...recorder.told,
    seed,
    faults: [...nemesis.count].map(([name, count]) => `${name} ${count}`).join(", "),
    keys: keys.length,
    ...{ notLinearizable: 0, undecided: 0, lost: 0, deletedBack: 0, guessed: 0, rewritten: 0 },
    // Where a clock was set, a write may come before the nodes have agreed on the time.
    unexpected: CLOCK_FAULTS.some((fault) => nemesis.count.has(fault))
      ? recorder.unexpected
      : [...recorder.unexpected, ...recorder.ahead],
    violations: [],
  };
  for (const key of keys) {
    const shown = key.history.map((operation) => ({
      ...operation,
      called: operation.called - begunMs,
      answered: operation.answered - begunMs,
    }));
    const tell = (what: string): void => {
      result.violations.push(`seed ${seed}, ${key.name}: ${what}\n${describe(shown)}`);
    };
    const unsure = key.history.map((operation) => ({ ...operation, existed: null }));
    const judgement = judgeLong(key.history, STRICT_STEPS_MAX);
    if (judgement !== "linearizable") {
      const lenient = unsure.map((operation) => ({ ...operation, rewritten: 0 }));
      if (judgeLong(unsure, STRICT_STEPS_MAX) === "linearizable") result.guessed++;
      else {
        const last = judgeLong(lenient, STEPS_MAX);
        if (last === "linearizable") result.rewritten++;
        else if (last === "undecided") result.undecided++;
        else result.notLinearizable++;
        if (last !== "linearizable") tell(last);
      }
    }
    for (const read of key.history.slice(-nodes)) {
      const gone = takenBack(key.history, read);
      if (gone === null) continue;
      if (gone.kind === "delete" || gone.kind === "deleteIf") result.deletedBack++;
      else result.lost++;
      tell(`the final read #${read.id} shows ${read.value}, though #${gone.id} was acknowledged`);
      break;
    }
  }
  return result;
}

/** An acknowledged write that came after all that could have led to what was read, or null: found without any search. */
export function takenBack(history: readonly Recorded[], read: Recorded): Recorded | null {
  const isDelete = ({ kind }: Recorded): boolean => kind === "delete" || kind === "deleteIf";
  const sources = history.filter((operation) => {
    if (operation.kind === "get" || operation.outcome === "refused") return false;
    return read.value === 0 ? isDelete(operation) : operation.id === read.value;
  });
  // Before everything the key was absent.
  let latest = read.value === 0 ? -1 : Number.NEGATIVE_INFINITY;
  for (const source of sources) latest = Math.max(latest, source.answered);
  const changes = (operation: Recorded): boolean =>
    operation.kind !== "get" && operation.outcome === "done" && !(isDelete(operation) && read.value === 0);
  return (
    history.find(
      (operation) => changes(operation) && operation.id !== read.value && operation.called > latest,
    ) ?? null
  );
}

export interface ChaosTotal {
  runs: number;
  sums: Record<(typeof SUMMED)[number], number>;
  add(result: RunResult): void;
}

const SUMMED = [
  "operations",
  "done",
  "refused",
  "failed",
  "unknown",
  "said",
  "slow",
  "keys",
  "notLinearizable",
  "undecided",
  "lost",
  "deletedBack",
  "guessed",
  "rewritten",
] as const;

export function emptyTotal(): ChaosTotal {
  const sums = Object.fromEntries(SUMMED.map((name) => [name, 0])) as ChaosTotal["sums"];
  return {
    runs: 0,
    sums,
    add(result) {
      this.runs++;
      for (const name of SUMMED) sums[name] += result[name];
    },
  };
}

export function summaryOf({ runs, sums }: ChaosTotal): string {
  const rate = ((100 * sums.unknown) / Math.max(1, sums.operations)).toFixed(2);
  return `${runs} runs: ${SUMMED.map((name) => `${name} ${sums[name]}`).join(", ")}; ${rate} % of outcomes unknown`;
}

/** One line of a run, for people. */
export function lineOf(result: RunResult): string {
  const {
    seed,
    operations,
    unknown,
    said,
    slow,
    failed,
    notLinearizable,
    lost,
    deletedBack,
    guessed,
    rewritten,
  } = result;
  return `seed ${seed}: ${operations} operations, ${unknown} unknown (${said} said, ${slow} slow), ${failed} failed, ${notLinearizable} not linearizable, ${lost} lost, ${deletedBack} back, ${guessed} guessed, ${rewritten} rewritten; ${result.faults}`;
}

/** Throws with the histories of a run where something is not right. */
export function assertRight(result: RunResult): void {
  const { notLinearizable, undecided, lost, deletedBack, unexpected, violations } = result;
  const right = notLinearizable + undecided + lost + deletedBack + unexpected.length === 0;
  assert.ok(right, [lineOf(result), ...unexpected, ...violations].join("\n"));
}
