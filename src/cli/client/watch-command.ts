/** `minivault watch`: what changes, a line each, for as long as it runs. */
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { UsageError } from "../../config/values.ts";
import { reasonOf } from "../../platform/system-error.ts";
import { shown } from "../subcommand/shown.ts";
import { optionOf, type Subcommand, type Terminal, type Words } from "../subcommand/subcommand.ts";
import { CLIENT_FLAGS, CLIENT_OPTIONS, clientOf, pathOf, Refused } from "./node-client.ts";

/** How long after a break it comes back. */
const RETRY_MS = 1000;
/** Longest event: a value of 64 KiB as base64 or JSON, its key and what is said of them. */
const EVENT_CHARACTERS_MAX = 1024 * 1024;

export const WATCH: Subcommand = {
  name: "watch",
  operands: "[PREFIX]",
  summary: "Prints what is put and deleted, a line each, until it is ended.",
  more: `A connection that breaks off is made again, and goes on where it stopped.
Characters that a terminal would take for commands are shown as \\x and two digits; -json has the keys as they are.

  minivault watch orders/
  minivault watch -initial -values -json config/ | jq --unbuffered .value

Exit status: 1 refused, changes were missed, or no node can be reached; 2 used wrongly.`,
  operandsMin: 0,
  operandsMax: 1,
  flags: CLIENT_FLAGS,
  switches: {
    json: 'print a line of JSON for each change, and for each place ("event":"progress")',
    initial: "first what is there, then what changes",
    values: "with values up to 64 KiB; with -json",
  },
  options: {
    since: { value: "place", text: "go on from a place that was printed with -json" },
    ...CLIENT_OPTIONS,
  },
  run: watch,
};

/** One event of the stream. */
interface StreamEvent {
  event: string;
  /** JSON. */
  data: string;
  /** Null: it says none. */
  id: string | null;
}

async function watch(words: Words, terminal: Terminal): Promise<number> {
  const { switches, operands } = words;
  if (switches.has("values") && !switches.has("json")) throw new UsageError("-values needs -json");
  const client = clientOf(words);
  const flags = ["watch", ...["initial", "values"].filter((name) => switches.has(name))].join("&");
  const path = `${operands[0] === undefined ? "/_kv/" : pathOf(operands[0])}?${flags}`;
  let place = optionOf(words, "since") ?? "";
  let isConnected = false;
  const told = (event: StreamEvent): void => {
    if (event.id !== null) place = event.id;
    tell(event, switches.has("json"), terminal);
    if (event.event === "reset" && !switches.has("initial"))
      throw new Refused(410, "place_too_old", (JSON.parse(event.data) as { error: string }).error);
  };
  for (;;) {
    try {
      const headers: Record<string, string> = place === "" ? {} : { "Last-Event-ID": place };
      const { body } = await client.ask("GET", path, { headers });
      isConnected = true;
      await readEvents(body, told);
    } catch (error) {
      if (!isConnected || (error instanceof Refused && error.status !== 503)) throw error;
      terminal.err(`minivault watch: ${reasonOf(error)}; trying again\n`);
    }
    await sleep(RETRY_MS);
  }
}

function tell({ event, data, id }: StreamEvent, json: boolean, terminal: Terminal): void {
  if (json) {
    const members = data === "{}" ? "" : `,${data.slice(1, -1)}`;
    const place = id === null || id === "" ? "" : `,"place":"${id}"`;
    terminal.out(`{"event":"${event}"${members}${place}}\n`);
  } else if (event === "put" || event === "delete" || event === "expire") {
    const { key, etag } = JSON.parse(data) as { key: string; etag: string };
    terminal.out(`${event} ${shown(key)} ${etag}\n`);
  }
}

/** Reads server-sent events until the stream ends. */
async function readEvents(body: Readable, told: (event: StreamEvent) => void): Promise<void> {
  let rest = "";
  body.setEncoding("utf8");
  try {
    for await (const piece of body) {
      rest += piece;
      for (let at = rest.indexOf("\n\n"); at >= 0; at = rest.indexOf("\n\n")) {
        const event = eventOf(rest.slice(0, at));
        rest = rest.slice(at + 2);
        if (event !== null) told(event);
      }
      if (rest.length > EVENT_CHARACTERS_MAX) throw new Error("what is answered is no stream of events");
    }
  } finally {
    body.destroy();
  }
}

/** Null: a comment, or a setting. */
function eventOf(block: string): StreamEvent | null {
  const found: StreamEvent = { event: "message", data: "", id: null };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    const value = line.slice(colon + 1).replace(/^ /, "");
    const name = line.slice(0, Math.max(0, colon));
    if (name === "event") found.event = value;
    else if (name === "data") found.data = value;
    else if (name === "id") found.id = value;
  }
  return found.data === "" ? null : found;
}
