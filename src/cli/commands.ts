/**
 * Subcommands: `minivault <name> …`, beside the flags that start a node. Each is one row of the table; this
 * file finds it, reads its words in the style of the flags, and turns mistakes into one line and exit status
 * 2.
 */

import { type Flag, parseFlag, variableOf } from "../config/flag.ts";
import { FLAGS } from "../config/flags.ts";
import { UsageError } from "../config/values.ts";
import { sentenceOf } from "../platform/system-error.ts";
import { BACKUP } from "./archives/backup-command.ts";
import { EXPORT, IMPORT } from "./archives/transfer-commands.ts";
import { INCR } from "./client/incr-command.ts";
import { LS } from "./client/list-commands.ts";
import { RM } from "./client/remove-command.ts";
import { TOP } from "./client/top-command.ts";
import { CREATE, GET, PUT } from "./client/value-commands.ts";
import { WATCH } from "./client/watch-command.ts";
import { DRAIN, NODES, REMOVE, REPLACE } from "./cluster/cluster-commands.ts";
import { UPGRADE_CLUSTER } from "./cluster/upgrade-cluster-command.ts";
import { ABANDON_MOVE, RECOVER } from "./cluster/ways-out.ts";
import { completionCommand } from "./completion-command.ts";
import { ACCEPT_LOSS } from "./directory/accept-loss-command.ts";
import { INSPECT } from "./directory/inspect-command.ts";
import { RESTORE } from "./directory/restore-command.ts";
import { UPGRADE } from "./directory/upgrade-command.ts";
import { VERIFY } from "./directory/verify-command.ts";
import { HEALTH } from "./health-command.ts";
import { LOCK } from "./lock/lock-command.ts";
import { helpOf, rowsText, usageOf } from "./subcommand/help.ts";
import { unknownFlag } from "./subcommand/nearest.ts";
import type { Subcommand, Terminal, Words } from "./subcommand/subcommand.ts";
import { TOKEN } from "./token-command.ts";

export const SUBCOMMANDS: readonly Subcommand[] = [
  ...[GET, PUT, CREATE, RM, LS, WATCH, INCR, LOCK, EXPORT, IMPORT, BACKUP, TOP],
  ...[NODES, DRAIN, REPLACE, REMOVE, ABANDON_MOVE, RECOVER, UPGRADE_CLUSTER],
  ...[HEALTH, VERIFY, INSPECT, RESTORE, ACCEPT_LOSS, UPGRADE],
  TOKEN,
  completionCommand(() => SUBCOMMANDS),
];

/** The command of that name, or null: the words are flags of a node. */
export function findSubcommand(name: string | undefined): Subcommand | null {
  return SUBCOMMANDS.find((command) => command.name === name) ?? null;
}

/** Runs a command; answers its exit status: 0 done, 1 failed, 2 used wrongly. */
export async function runSubcommand(
  command: Subcommand,
  argv: readonly string[],
  terminal: Terminal,
): Promise<number> {
  try {
    // What stands behind -- is for others.
    const end = argv.indexOf("--");
    const own = end < 0 ? argv : argv.slice(0, end);
    if (own.some((word) => /^--?(h|help)$/.test(word))) {
      terminal.out(helpOf(command));
      return 0;
    }
    return await command.run(readWords(command, argv, terminal.env), terminal);
  } catch (error) {
    const isUsage = error instanceof UsageError;
    const line = sentenceOf(error as Error).replace(/\p{Cc}+/gu, " ");
    const hint = isUsage ? `; minivault ${command.name} -help tells more` : "";
    terminal.err(`minivault ${command.name}: ${line}${hint}\n`);
    return isUsage ? 2 : 1;
  }
}

/** Sorts the words; flags come as -name value, -name=value, --name value or --name=value. */
function readWords(command: Subcommand, argv: readonly string[], env: NodeJS.ProcessEnv): Words {
  const operands: string[] = [];
  const values: Record<string, unknown> = {};
  const switches = new Set<string>();
  const options: Record<string, string[]> = {};
  const given = new Set<string>();
  for (let index = 0; index < argv.length; index++) {
    const word = argv[index];
    if (word === "--") {
      operands.push(...argv.slice(index + 1));
      break;
    }
    const match = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(word);
    if (match === null) {
      operands.push(word);
      continue;
    }
    const [, name, inline] = match;
    if (Object.hasOwn(command.switches, name)) {
      if (isOn(name, inline)) switches.add(name);
      else switches.delete(name);
    } else if (takesValue(command, name)) {
      const text = inline ?? argv[++index];
      // A flag where a value should be is a forgotten value, not a file of that name.
      if (text === undefined || (inline === undefined && isFlagOf(command, text)))
        throw new UsageError(`-${name} needs a value`);
      given.add(name);
      if (command.flags.includes(name)) values[name] = parseFlag(flagNamed(name), text, `-${name}`);
      else options[name] = [...(options[name] ?? []), text];
    } else {
      const own = [...Object.keys(command.options ?? {}), ...Object.keys(command.switches)];
      throw new UsageError(unknownFlag(name, [...command.flags, ...own, "help"]));
    }
  }
  if (operands.length < command.operandsMin || operands.length > command.operandsMax)
    throw new UsageError(`use it as minivault ${usageOf(command)}`);
  for (const name of command.flags) {
    const text = env[variableOf(name)];
    if (values[name] === undefined && text !== undefined && text !== "")
      values[name] = parseFlag(flagNamed(name), text, variableOf(name));
  }
  for (const [name, { hasVariable, unless = [] }] of Object.entries(command.options ?? {})) {
    const isRead = hasVariable === true && !unless.some((other) => given.has(other));
    const text = isRead ? env[variableOf(name)] : undefined;
    if (options[name] === undefined && text !== undefined && text !== "") options[name] = [text];
  }
  return { operands, values, options, switches, given };
}

/** -name, -name=true or -name=false. */
function isOn(name: string, text: string | undefined): boolean {
  if (text === undefined || text === "true") return true;
  if (text === "false") return false;
  throw new UsageError(`-${name} takes no value but true or false`);
}

function takesValue({ flags, options = {} }: Subcommand, name: string): boolean {
  return flags.includes(name) || Object.hasOwn(options, name);
}

function isFlagOf(command: Subcommand, word: string): boolean {
  const name = /^--?([^-=][^=]*)/.exec(word)?.[1] ?? "";
  return takesValue(command, name) || Object.hasOwn(command.switches, name) || word === "--";
}

/** A flag that commands share with a node. */
function flagNamed(name: string): Flag {
  const flag = FLAGS.find((known) => known.name === name);
  if (flag === undefined) throw new Error(`there is no flag ${name}`);
  return flag;
}

/** Names of variables that only commands read. */
export function commandVariables(): string[] {
  return SUBCOMMANDS.flatMap(({ options = {} }) =>
    Object.keys(options).flatMap((name) => (options[name].hasVariable ? [variableOf(name)] : [])),
  );
}

export function subcommandNames(): string[] {
  return SUBCOMMANDS.map(({ name }) => name);
}

/** Lines for the program's own help. */
export function subcommandLines(): string {
  return rowsText(SUBCOMMANDS.map(({ name, operands, summary }) => [`${name} ${operands}`.trim(), summary]));
}
