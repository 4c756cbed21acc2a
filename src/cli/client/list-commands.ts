/** `minivault ls`: keys by what they begin with. */
import { shown } from "../subcommand/shown.ts";
import type { Subcommand, Terminal, Words } from "../subcommand/subcommand.ts";
import { CLIENT_FLAGS, CLIENT_OPTIONS, clientOf, pathOf } from "./node-client.ts";
import { linesOf } from "./node-lines.ts";

export const LS: Subcommand = {
  name: "ls",
  operands: "[PREFIX]",
  summary: "Lists keys by what they begin with.",
  more: `Keys are shown up to the next slash, like folders; -r shows all of each. A prefix is a text, not a folder: ls photos/ lists what is in photos.
Characters that a terminal would take for commands are shown as \\x and two digits; -json has the keys as they are.

  minivault ls photos/
  minivault ls -r -l | sort -k 2 -n | tail

Exit status: 0 there are some; 1 there are none, refused, or no node can be reached; 2 used wrongly.`,
  operandsMin: 0,
  operandsMax: 1,
  flags: ["consistency", ...CLIENT_FLAGS],
  switches: {
    r: "all keys in full",
    l: "with size, time and type of each value",
    json: "print one JSON object a line, as the list of the node has them",
  },
  options: CLIENT_OPTIONS,
  run: list,
};

/** A line of a list. */
interface Line {
  key?: string;
  etag?: string;
  bytes?: number;
  type?: string;
  prefix?: string;
  success?: boolean;
  error?: string;
}

async function list(words: Words, terminal: Terminal): Promise<number> {
  const [prefix = ""] = words.operands;
  const query = new URLSearchParams({ list: "" });
  if (!words.switches.has("r")) query.set("delimiter", "/");
  const consistency = words.values.consistency as string | undefined;
  if (consistency !== undefined) query.set("consistency", consistency);
  const answer = await clientOf(words).ask("GET", `${pathOf(prefix)}?${query}`, {
    headers: { Accept: "application/x-ndjson" },
  });
  let count = 0;
  let last: Line = {};
  for await (const line of linesOf<Line>(answer)) {
    last = line;
    if (line.success !== undefined) break;
    count++;
    terminal.out(
      `${words.switches.has("json") ? JSON.stringify(line) : textOf(line, words.switches.has("l"))}\n`,
    );
  }
  if (last.success !== true) throw new Error(last.error ?? "the list was cut: there may be more");
  if (count === 0)
    terminal.err(prefix === "" ? "there are no keys\n" : `no key begins with ${shown(prefix)}\n`);
  return count === 0 ? 1 : 0;
}

const SIZE_COLUMNS = 10;
const TYPE_COLUMNS = 24;

function textOf({ key, prefix, bytes = 0, type = "", etag = "" }: Line, long: boolean): string {
  const name = shown(key ?? prefix ?? "");
  if (!long) return name;
  if (key === undefined)
    return `${"".padStart(SIZE_COLUMNS)}  ${"".padEnd(19)}  ${"".padEnd(TYPE_COLUMNS)}  ${name}`;
  const time = timeOf(etag);
  return `${String(bytes).padStart(SIZE_COLUMNS)}  ${time}  ${shown(type).padEnd(TYPE_COLUMNS)}  ${name}`;
}

/** When a version was made: its first 48 bits are milliseconds since 1970. */
function timeOf(etag: string): string {
  return new Date(Number.parseInt(etag.slice(0, 12), 16)).toISOString().slice(0, 19).replace("T", " ");
}
