/**
 * `minivault nodes`, `drain`, `replace` and `remove`: they talk to the master over HTTP, as curl could. A
 * change goes on at the master whether anybody watches it or not.
 */

import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { nodeUrl, UsageError } from "../config/values.ts";
import { authorityOf, keyOf, type Subcommand, type Terminal, type Words } from "./subcommand.ts";

const MASTER_DEFAULT = "http://localhost:3000";
const ASK_MS = 10_000;
const WATCH_MS = 500;
/** A master that does not answer for so long is given up. */
const WATCH_SILENCE_MS = 30_000;
/** Progress is written as lines, where it cannot be drawn over, this often. */
const LINE_MS = 2000;

const FLAGS = ["master", "auth", "auth-file", "tls-ca"];
const DETACH = { detach: "ask for the change and do not wait for its end" };
const STATUSES = "Exit status: 0 done; 1 refused, failed, or the master cannot be reached; 2 used wrongly.";
const WATCHING =
  "The command waits until the change is finished and shows how far it is. Ending it (Ctrl-C) ends only the watching.\n\n";

interface Node {
  url: string;
  region: string;
  state: string;
  silentMs: number | null;
  member: string | null;
  copies: number;
  epoch: number;
  voting: boolean;
  load: { keys?: number; bytes?: number } | null;
  refused?: string;
}

interface LayoutAnswer {
  epoch: number;
  layout: { nodes: { url: string; state: string }[]; replicas: number; previous: unknown } | null;
  move: {
    epoch: number;
    total: number;
    done: number;
    workers: { url: string; total: number; done: number }[];
  } | null;
  waiting: { kind: string; url?: string; nodes?: { url: string }[]; node?: { url: string } }[];
}

export const NODES: Subcommand = {
  name: "nodes",
  operands: "",
  summary: "Lists the cluster's workers, as the master sees them.",
  more: `state: up; suspect after 3 s of silence; down after 10 s. layout: active, joining, leaving, waiting (for its move), or - (not in it).
copies: partitions of 1,024 of which it holds a copy. voting: no means that it lost its data and synchronises.

${STATUSES}`,
  operandsMin: 0,
  operandsMax: 0,
  flags: FLAGS,
  switches: { json: "print the master's answer as JSON" },
  async run(words, terminal) {
    const answer = await masterOf(words).ask<{ epoch: number; nodes: Node[] }>("GET", "/nodes");
    if (words.switches.has("json")) terminal.out(`${JSON.stringify(answer, null, 2)}\n`);
    else terminal.out(tableOf(answer.nodes, answer.epoch));
    return 0;
  },
};

export const DRAIN: Subcommand = {
  name: "drain",
  operands: "URL",
  summary: "Moves all data away from a worker, then takes it off the layout.",
  more: `${WATCHING}${STATUSES}`,
  operandsMin: 1,
  operandsMax: 1,
  flags: FLAGS,
  switches: DETACH,
  run: (words, terminal) => leave("drain", words, terminal),
};

export const REMOVE: Subcommand = {
  name: "remove",
  operands: "URL",
  summary: "Takes a dead worker off the layout; others copy what it held.",
  more: `A worker that is not down is refused: drain it. Also gives up the move that waits for a worker that died while it joined.
${WATCHING}${STATUSES}`,
  operandsMin: 1,
  operandsMax: 1,
  flags: FLAGS,
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
  flags: FLAGS,
  switches: DETACH,
  async run(words, terminal) {
    const [old, fresh] = words.operands.map(urlOf);
    const master = masterOf(words);
    const answer = await master.ask<LayoutAnswer>("POST", "/layout", { replace: old, with: fresh });
    return follow(master, answer, old, words, terminal);
  },
};

async function leave(verb: "drain" | "remove", words: Words, terminal: Terminal): Promise<number> {
  const url = urlOf(words.operands[0]);
  const master = masterOf(words);
  let answer = await master.ask<LayoutAnswer>("GET", "/layout");
  // Asked for before: only the watching begins anew.
  if (!isLeaving(answer, url)) answer = await master.ask<LayoutAnswer>("POST", "/layout", { [verb]: url });
  const { layout } = answer;
  const staying = layout?.nodes.filter((node) => node.state === "active" && node.url !== url).length ?? 0;
  if (layout !== null && staying < layout.replicas)
    terminal.err(`only ${staying} workers stay: less than ${layout.replicas} copies of each key\n`);
  return follow(master, answer, url, words, terminal);
}

/** Watches until the worker is off the layout. */
async function follow(
  master: Master,
  first: LayoutAnswer,
  url: string,
  words: Words,
  terminal: Terminal,
): Promise<number> {
  const show = progressLine(terminal);
  let answer = first;
  let heardMs = performance.now();
  while (!isOver(answer, url)) {
    if (words.switches.has("detach")) {
      terminal.out(`${url} is leaving; minivault nodes shows when it is gone\n`);
      return 0;
    }
    show(progressText(answer, url), false);
    await sleep(WATCH_MS);
    try {
      answer = await master.ask<LayoutAnswer>("GET", "/layout");
      heardMs = performance.now();
    } catch (error) {
      if (performance.now() - heardMs > WATCH_SILENCE_MS) throw error;
      show(`${(error as Error).message}; trying again`, false);
    }
  }
  show("", true);
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

function progressText({ move, waiting }: LayoutAnswer, url: string): string {
  const index = waiting.findIndex((change) => change.url === url);
  if (move === null) return "starting";
  const percent = move.total === 0 ? 100 : Math.floor((move.done / move.total) * 100);
  const slow = move.workers.filter((worker) => worker.done < worker.total);
  const names = slow.length > 3 ? `${slow.length} workers` : slow.map((worker) => worker.url).join(", ");
  const rest = names === "" ? "" : `; waiting for ${names}`;
  const before = index >= 0 ? `in the queue behind ${index + 1} other change${index > 0 ? "s" : ""}: ` : "";
  return `${before}epoch ${move.epoch}: ${move.done} of ${move.total} copies of partitions synchronised (${percent} %)${rest}`;
}

/** Draws over itself on a terminal; elsewhere a line when something has changed. */
function progressLine({ err, isTerminal }: Terminal): (text: string, isLast: boolean) => void {
  let shown = "";
  let shownMs = Number.NEGATIVE_INFINITY;
  return (text, isLast) => {
    if (isTerminal) {
      err(`\r\u001b[K${text}`);
      return;
    }
    if (isLast || text === shown || performance.now() - shownMs < LINE_MS) return;
    shown = text;
    shownMs = performance.now();
    err(`${text}\n`);
  };
}

interface Master {
  ask<Answer>(method: "GET" | "POST", path: string, body?: object): Promise<Answer>;
}

/** The masters that were named, of which the first that can be reached answers. */
function masterOf(words: Words): Master {
  const ca = authorityOf(words);
  const given = (words.values.master ?? []) as string[];
  const urls = (given.length === 0 ? [MASTER_DEFAULT] : given).map((text) =>
    nodeUrl(text, ca === null ? "http" : "https"),
  );
  const key = keyOf(words);
  const headers: Record<string, string> = key === null ? {} : { Authorization: `Bearer ${key}` };
  return {
    async ask<Answer>(method: "GET" | "POST", path: string, body?: object): Promise<Answer> {
      const failures: string[] = [];
      for (const url of urls) {
        try {
          return readAnswer(url, await exchange(`${url}${path}`, method, headers, body, ca));
        } catch (error) {
          if (error instanceof Refused) throw error;
          const { code, message } = error as NodeJS.ErrnoException;
          failures.push(`the master ${url} cannot be reached (${code ?? message})`);
          // What may have been done there is not asked for again elsewhere.
          if (method === "POST" && !NOT_CONNECTED.has(code ?? "")) break;
        }
      }
      throw new Error(`${failures.join("; ")}; -master names another`);
    },
  };
}

/** Codes of failures before anything of a request was sent. */
const NOT_CONNECTED: ReadonlySet<string> = new Set([
  ...["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH"],
]);

/** A master has answered, and not as was hoped. */
class Refused extends Error {}

/** The document of an answer. Throws Refused. */
function readAnswer<Answer>(url: string, { status, text }: { status: number; text: string }): Answer {
  let document: { success?: boolean; error?: string };
  try {
    document = JSON.parse(text);
  } catch {
    throw new Refused(`${url} is no master of minivault`);
  }
  if (status === 401)
    throw new Refused(`${url} wants the cluster's key: MINIVAULT_AUTH, -auth-file or -auth`);
  if (document.success !== true) throw new Refused(document.error ?? `${url} answers with status ${status}`);
  return document as Answer;
}

/** One request over a connection of its own. */
function exchange(
  url: string,
  method: string,
  headers: Record<string, string>,
  body: object | undefined,
  ca: string | null,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const options = { method, headers, agent: false, timeout: ASK_MS, ...(ca === null ? {} : { ca }) };
    const request = (url.startsWith("https:") ? httpsRequest : httpRequest)(url, options, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (piece) => {
        text += piece;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
      response.on("error", reject);
    });
    request.on("timeout", () => request.destroy(new Error(`no answer in ${ASK_MS / 1000} s`)));
    request.on("error", reject);
    request.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

function urlOf(text: string): string {
  try {
    return nodeUrl(text);
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function tableOf(nodes: readonly Node[], epoch: number): string {
  const rows = nodes.map((node) => [
    node.url,
    node.region,
    node.state,
    node.silentMs === null ? "never" : `${(node.silentMs / 1000).toFixed(1)} s ago`,
    node.member ?? "-",
    String(node.copies),
    node.load?.keys === undefined ? "-" : String(node.load.keys),
    node.load?.bytes === undefined ? "-" : bytesText(node.load.bytes),
    node.epoch === 0 ? "-" : String(node.epoch),
    node.member === null ? "-" : node.voting ? "yes" : "no",
  ]);
  const heads = [
    "URL",
    "REGION",
    "STATE",
    "HEARTBEAT",
    "LAYOUT",
    "COPIES",
    "KEYS",
    "BYTES",
    "EPOCH",
    "VOTING",
  ];
  const widths = heads.map((head, column) => Math.max(head.length, ...rows.map((row) => row[column].length)));
  const line = (cells: string[]) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column]))
      .join("  ")
      .trimEnd();
  const refused = nodes
    .filter((node) => node.refused !== undefined)
    .map((node) => `${node.url}: ${node.refused}`);
  const title = epoch === 0 ? "no layout yet" : `layout: epoch ${epoch}`;
  return `${[title, line(heads), ...rows.map(line), ...refused].join("\n")}\n`;
}

function bytesText(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
