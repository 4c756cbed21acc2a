/** `minivault top`: a live picture of a node, or of all nodes of its cluster, in the terminal. */
import { setTimeout as sleep } from "node:timers/promises";
import { UsageError } from "../../config/values.ts";
import { optionOf, type Subcommand, type Terminal, type Words } from "../subcommand/subcommand.ts";
import { CLIENT_FLAGS, CLIENT_OPTIONS, clientOf, textOf, URL_DEFAULT } from "./node-client.ts";
import { type NodePicture, pictureOf, type Stats, tableOf } from "./top-table.ts";

const INTERVAL_SECONDS_DEFAULT = 2;
const INTERVAL_SECONDS_MIN = 0.1;
/** Timers take no more than 24.8 days. */
const INTERVAL_SECONDS_MAX = 86_400;
/** How long a node may take to answer. */
const LOOK_MS_MAX = 5000;
/** To the upper left corner; and what is left of an earlier picture goes. */
const HOME = "\u001b[H";
const CLEAR_SCREEN = "\u001b[2J";
const CLEAR_LINE = "\u001b[K";
const CLEAR_BELOW = "\u001b[J";

export const TOP: Subcommand = {
  name: "top",
  operands: "",
  summary: "Shows what a node, or its whole cluster, is doing, again and again.",
  more: `The node that -url names, and those that it knows: whether each is well, keys and bytes, requests a second since the last look, latencies since the
start, writes that wait, memory. With tokens it takes one that allows metrics. Ctrl-C ends it. Where standard output is no terminal, each look is a table by itself.

Exit status: 0 ended; 1 no node can be reached, or refused; 2 used wrongly.`,
  operandsMin: 0,
  operandsMax: 0,
  flags: CLIENT_FLAGS,
  switches: { json: "print one line of JSON a look" },
  options: {
    interval: { value: "seconds", text: `between two looks (default ${INTERVAL_SECONDS_DEFAULT})` },
    count: { value: "number", text: "end after so many looks (default: never)" },
    ...CLIENT_OPTIONS,
  },
  run: top,
};

function numberOf(words: Words, name: string, preset: number, least: number, most: number): number {
  const text = optionOf(words, name);
  if (text === undefined) return preset;
  const value = Number(text);
  if (!/^\d+(?:\.\d+)?$/.test(text) || !(value >= least && value <= most))
    throw new UsageError(`-${name} is a number from ${least} to ${most}, not ${text}`);
  return value;
}

async function top(words: Words, terminal: Terminal): Promise<number> {
  const bounds = [INTERVAL_SECONDS_MIN, INTERVAL_SECONDS_MAX] as const;
  const seconds = numberOf(words, "interval", INTERVAL_SECONDS_DEFAULT, ...bounds);
  const count = numberOf(words, "count", Number.POSITIVE_INFINITY, 1, Number.MAX_SAFE_INTEGER);
  const isDrawn = terminal.isTerminal && process.stdout.isTTY === true && !words.switches.has("json");
  let seen: ReadonlyMap<string, NodePicture> = new Map();
  if (isDrawn) terminal.out(CLEAR_SCREEN);
  for (let look = 0; look < count; look++) {
    if (look > 0) await sleep(seconds * 1000);
    const nodes = await lookAtAll(words, seen);
    seen = new Map(nodes.map((node) => [node.url, node]));
    if (words.switches.has("json"))
      terminal.out(`${JSON.stringify({ time: new Date().toISOString(), nodes })}\n`);
    else if (!isDrawn) terminal.out(tableOf(nodes, Number.POSITIVE_INFINITY));
    else {
      const text = tableOf(nodes, process.stdout.columns ?? 80);
      terminal.out(`${HOME}${text.replaceAll("\n", `${CLEAR_LINE}\n`)}${CLEAR_BELOW}`);
    }
  }
  return 0;
}

/** The node that was named, then the others. */
async function lookAtAll(words: Words, seen: ReadonlyMap<string, NodePicture>): Promise<NodePicture[]> {
  let first: Stats;
  try {
    first = await statsOf(words);
  } catch (error) {
    // That a node is gone is what is to be seen: those that were there before are asked.
    if (seen.size === 0) throw error;
    return Promise.all([...seen.keys()].map((url) => lookAt(words, url, seen)));
  }
  const own = first.cluster?.url ?? optionOf(words, "url") ?? URL_DEFAULT;
  const others = (first.cluster?.peers ?? []).map(({ url }) => url);
  return Promise.all([
    pictureOf(own, first, seen.get(own)),
    ...others.map((url) => lookAt(words, url, seen)),
  ]);
}

async function lookAt(
  words: Words,
  url: string,
  seen: ReadonlyMap<string, NodePicture>,
): Promise<NodePicture> {
  const asked: Words = { ...words, options: { ...words.options, url: [url] } };
  try {
    return pictureOf(url, await statsOf(asked), seen.get(url));
  } catch (error) {
    return pictureOf(url, (error as Error).message, seen.get(url));
  }
}

/** @throws Error why there are none */
async function statsOf(words: Words): Promise<Stats> {
  const answer = await clientOf(words).ask("GET", "/_stats", { longestMs: LOOK_MS_MAX });
  const stats = JSON.parse(await textOf(answer)) as Partial<Stats>;
  if (stats.queues === undefined || stats.latencyMicroseconds === undefined || stats.memory === undefined)
    throw new Error("what answers is no worker of this release: its figures are other ones");
  return stats as Stats;
}
