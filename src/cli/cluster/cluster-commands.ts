/**
 * `minivault nodes`, `drain`, `replace` and `remove`: they talk to the master over HTTP, as curl could. A
 * change goes on at the master whether anybody watches it or not.
 */

import { nodeUrl, UsageError } from "../../config/values.ts";
import type { Subcommand, Terminal, Words } from "../subcommand/subcommand.ts";
import {
  type LayoutAnswer,
  MASTER_FLAGS,
  type Master,
  masterOf,
  type NodesAnswer,
  STATUSES,
} from "./master-client.ts";
import { tableOf } from "./node-table.ts";
import { moveText, watch } from "./progress.ts";

const DETACH = { detach: "ask for the change and do not wait for its end" };
const WATCHING =
  "The command waits until the change is finished and shows how far it is. Ending it (Ctrl-C) ends only the watching.\n\n";

export const NODES: Subcommand = {
  name: "nodes",
  operands: "",
  summary: "Lists the cluster's workers, as the master sees them.",
  more: `state: up; suspect after 3 s of silence; down after 10 s. layout: active, joining, leaving, waiting (for its move), or - (not in it).
copies: partitions of which it holds a copy. voting: no means that it lost its data and synchronises.

${STATUSES}`,
  operandsMin: 0,
  operandsMax: 0,
  ...MASTER_FLAGS,
  switches: { json: "print the master's answer as JSON" },
  run: list,
};

export const DRAIN: Subcommand = {
  name: "drain",
  operands: "URL",
  summary: "Moves all data away from a worker, then takes it off the layout.",
  more: `${WATCHING}${STATUSES}`,
  operandsMin: 1,
  operandsMax: 1,
  ...MASTER_FLAGS,
  switches: DETACH,
  run: (words, terminal) => leave("drain", words, terminal),
};

export const REMOVE: Subcommand = {
  name: "remove",
  operands: "URL",
  summary: "Takes a dead worker off the layout; others copy what it held.",
  more: `A worker that is not down is refused: drain it. Also gives up the move that waits for a worker that died while it joined.
Refused where partitions would have no majority of their copies: minivault recover.
${WATCHING}${STATUSES}`,
  operandsMin: 1,
  operandsMax: 1,
  ...MASTER_FLAGS,
  switches: DETACH,
  run: (words, terminal) => leave("remove", words, terminal),
};

export const REPLACE: Subcommand = {
  name: "replace",
  operands: "OLD NEW",
  summary: "Puts one worker in another's place, in one move.",
  more: `OLD may be dead; NEW has to be up, with an empty store.
${WATCHING}${STATUSES}`,
  operandsMin: 2,
  operandsMax: 2,
  ...MASTER_FLAGS,
  switches: DETACH,
  run: replace,
};

async function list(words: Words, terminal: Terminal): Promise<number> {
  const answer = await masterOf(words).ask<NodesAnswer>("GET", "/nodes");
  if (words.switches.has("json")) terminal.out(`${JSON.stringify(answer, null, 2)}\n`);
  else terminal.out(tableOf(answer));
  return 0;
}

async function replace(words: Words, terminal: Terminal): Promise<number> {
  const master = masterOf(words);
  const [old, fresh] = words.operands.map((text) => urlOf(text, master));
  const answer = await master.ask<LayoutAnswer>("POST", "/layout", { replace: old, with: fresh });
  warnOfFew(answer, old, terminal);
  return follow(master, answer, old, words, terminal);
}

async function leave(verb: "drain" | "remove", words: Words, terminal: Terminal): Promise<number> {
  const master = masterOf(words);
  const url = urlOf(words.operands[0], master);
  let answer = await master.ask<LayoutAnswer>("GET", "/layout");
  // Asked for before: only the watching begins anew.
  if (!isLeaving(answer, url)) answer = await master.ask<LayoutAnswer>("POST", "/layout", { [verb]: url });
  warnOfFew(answer, url, terminal);
  return follow(master, answer, url, words, terminal);
}

/** Says that there will be fewer copies, as where one member replaces another. */
function warnOfFew({ layout, waiting }: LayoutAnswer, leaving: string, terminal: Terminal): void {
  if (layout === null) return;
  const comes = waiting.some((change) => change.kind === "replace" && change.url === leaving);
  const staying = layout.nodes.filter((node) => node.state === "active" && node.url !== leaving).length;
  if (staying + Number(comes) < layout.replicas)
    terminal.err(`only ${staying} workers stay: less than ${layout.replicas} copies of each key\n`);
}

/** Watches until the worker is off the layout. */
async function follow(
  master: Master,
  first: LayoutAnswer,
  url: string,
  words: Words,
  terminal: Terminal,
): Promise<number> {
  if (words.switches.has("detach") && !isOver(first, url)) {
    terminal.out(`${url} is leaving; minivault nodes shows when it is gone\n`);
    return 0;
  }
  const answer = await watch(master, first, terminal, {
    isOver: (now) => isOver(now, url),
    text: (now) => progressText(now, url),
  });
  if (answer.layout?.nodes.some((node) => node.url === url))
    throw new Error(`the change was given up: ${url} is still in the layout of epoch ${answer.epoch}`);
  terminal.out(`${url} is not in the layout any more (epoch ${answer.epoch})\n`);
  return 0;
}

function isLeaving({ layout, waiting }: LayoutAnswer, url: string): boolean {
  return (
    layout?.nodes.some((node) => node.url === url && node.state === "draining") === true ||
    waiting.some((change) => change.kind !== "join" && change.url === url)
  );
}

/** Finished, or given up. */
function isOver(answer: LayoutAnswer, url: string): boolean {
  const isMember = answer.layout?.nodes.some((node) => node.url === url) === true;
  return isMember ? !isLeaving(answer, url) : answer.move === null && !isLeaving(answer, url);
}

function progressText(answer: LayoutAnswer, url: string): string {
  const index = answer.waiting.findIndex((change) => change.url === url);
  const before = index >= 0 ? `in the queue behind ${index + 1} other change${index > 0 ? "s" : ""}: ` : "";
  return answer.move === null ? (answer.hindrance ?? "starting") : `${before}${moveText(answer.move)}`;
}

function urlOf(text: string, { scheme }: Master): string {
  try {
    return nodeUrl(text, scheme);
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}
