/** `minivault incr KEY`: a counter, atomically over all nodes. */
import { Readable } from "node:stream";
import { UsageError } from "../../config/values.ts";
import {
  JSON_SWITCH,
  optionOf,
  type Subcommand,
  type Terminal,
  type Words,
} from "../subcommand/subcommand.ts";
import { CLIENT_FLAGS, CLIENT_OPTIONS, clientOf, etagOf, pathOf, textOf } from "./node-client.ts";

export const INCR: Subcommand = {
  name: "incr",
  operands: "KEY",
  summary: "Adds to a number, and prints what it is then.",
  more: `A key that is not there yet begins at -initial (0), and -initial none refuses that. Numbers may be of any size, with decimals, and stay exact.
Many at once never lose a step.

  minivault incr visits
  minivault incr stock/apples -by -3 -min 0

Exit status: 0 done; 1 refused (no number, or beyond -min or -max), or no node can be reached; 2 used wrongly.`,
  operandsMin: 1,
  operandsMax: 1,
  flags: CLIENT_FLAGS,
  switches: JSON_SWITCH,
  options: {
    by: { value: "number", text: "how much (default 1)" },
    initial: { value: "number", text: "what a key that is not there begins at (default 0), or none" },
    min: { value: "number", text: "refuse what would be less" },
    max: { value: "number", text: "refuse what would be more" },
    ...CLIENT_OPTIONS,
  },
  run: increment,
};

/** RFC 8259, section 6. */
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

async function increment(words: Words, terminal: Terminal): Promise<number> {
  const [key] = words.operands;
  // As text: it may have more digits than a number here.
  const members = [["increment", optionOf(words, "by") ?? "1"]];
  const initial = optionOf(words, "initial") ?? "0";
  if (initial !== "none") members.push(["initial", initial]);
  for (const name of ["min", "max"]) {
    const text = optionOf(words, name);
    if (text !== undefined) members.push([name, text]);
  }
  for (const [name, text] of members)
    if (!NUMBER.test(text))
      throw new UsageError(`-${name === "increment" ? "by" : name}: ${text} is no number`);
  const body = Buffer.from(`{${members.map(([name, text]) => `"${name}":${text}`).join(",")}}`);
  const answer = await clientOf(words).ask("PATCH", pathOf(key), {
    headers: { "Content-Type": "application/json", "Content-Length": String(body.length) },
    body: Readable.from([body]),
  });
  const text = await textOf(answer);
  const value = /"value":\s*(-?[\d.eE+-]+)/.exec(text)?.[1] ?? "null";
  if (words.switches.has("json"))
    terminal.out(
      `{"key":${JSON.stringify(key)},"value":${value},"etag":${JSON.stringify(etagOf(answer))}}\n`,
    );
  else terminal.out(`${value}\n`);
  return 0;
}
