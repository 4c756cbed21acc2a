/** `minivault rm`: a key, or (-r) all that begin with it. */
import { UsageError } from "../../config/values.ts";
import { shown } from "../subcommand/shown.ts";
import { JSON_SWITCH, type Subcommand, type Terminal, type Words } from "../subcommand/subcommand.ts";
import { counting } from "../subcommand/transfer.ts";
import { CLIENT_FLAGS, CLIENT_OPTIONS, clientOf, pathOf, textOf } from "./node-client.ts";
import { lastLine } from "./node-lines.ts";
import { CONDITIONS, conditionsOf } from "./value-commands.ts";

export const RM: Subcommand = {
  name: "rm",
  operands: "KEY",
  summary: "Deletes a key, or (-r) all that begin with it.",
  more: `  minivault rm greeting
  minivault rm -r photos/2019/
  minivault rm -r photos/ -dry-run

Exit status: 0 deleted; 1 there was nothing, refused, or no node can be reached; 2 used wrongly.`,
  operandsMin: 1,
  operandsMax: 1,
  flags: CLIENT_FLAGS,
  switches: {
    r: "all keys that begin with KEY",
    "dry-run": "with -r: only say how many",
    all: "with -r and an empty KEY: really every key",
    ...JSON_SWITCH,
  },
  options: { ...CONDITIONS, ...CLIENT_OPTIONS },
  run: remove,
};

async function remove(words: Words, terminal: Terminal): Promise<number> {
  if (words.switches.has("r")) {
    if (Object.keys(conditionsOf(words)).length > 0)
      throw new UsageError("-if-match and -if-none-match are for a single key, not for -r");
    return removeAll(words, terminal);
  }
  for (const name of ["dry-run", "all"])
    if (words.switches.has(name)) throw new UsageError(`-${name} is for -r`);
  const [key] = words.operands;
  const answer = await clientOf(words).ask("DELETE", pathOf(key), { headers: conditionsOf(words) });
  const { deleted } = JSON.parse(await textOf(answer)) as { deleted: boolean };
  if (words.switches.has("json")) terminal.out(`${JSON.stringify({ key, deleted })}\n`);
  else if (deleted) terminal.out(`deleted ${shown(key)}\n`);
  else terminal.err(`there is no key ${shown(key)}\n`);
  return deleted ? 0 : 1;
}

/** What the lines of a deletion say. */
interface Deleted {
  success?: boolean;
  deleted?: number;
  found?: number;
  error?: string;
}

async function removeAll(words: Words, terminal: Terminal): Promise<number> {
  const [prefix] = words.operands;
  const dryRun = words.switches.has("dry-run");
  const query = new URLSearchParams(prefix === "" ? { all: "1" } : { prefix });
  if (dryRun) query.set("dry-run", "");
  if (prefix === "" && !words.switches.has("all") && !dryRun)
    throw new UsageError("an empty prefix means every key: add -all if that is what you want");
  const progress = counting(terminal, "deleting", "keys");
  const answer = await clientOf(words).ask("POST", `/_delete?${query}`, {
    headers: { "Content-Length": "0" },
    takesLines: true,
  });
  const last = await lastLine<Deleted>(answer, ({ deleted = 0 }) => progress.at(deleted, deleted)).finally(
    () => progress.stop(),
  );
  const count = (dryRun ? last.found : last.deleted) ?? 0;
  if (words.switches.has("json")) terminal.out(`${JSON.stringify({ prefix, ...last })}\n`);
  else terminal.out(`${dryRun ? "would delete" : "deleted"} ${count} keys\n`);
  if (last.success !== true) throw new Error(`${last.error ?? "it broke off"}; the same command goes on`);
  return count === 0 ? 1 : 0;
}
