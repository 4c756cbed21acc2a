/** The help of the commands, in lines that fit. */
import { FLAGS } from "../../config/flags.ts";
import type { Subcommand } from "./subcommand.ts";

export const HELP_COLUMNS = 100;

/** What a flag means to a command, where that is not what it means to a node. */
const SHARED_TEXTS: Readonly<Record<string, string>> = {
  master: "the cluster's master (default http://localhost:3000, or MINIVAULT_MASTER)",
  port: "the node's port (default 3000, or MINIVAULT_PORT)",
  host: "address that the node listens on (default 127.0.0.1, or MINIVAULT_HOST)",
  auth: "shared key of the cluster (better: MINIVAULT_AUTH or -auth-file)",
  consistency: "of reads: what a majority of replicas says, or the nearest one (default: the node's)",
  "tls-ca": "authorities (PEM) that the nodes have their certificates from (default: those of Node.js)",
  tokens: "file that the line is added to (default: none, or MINIVAULT_TOKENS)",
};

/** What a flag of the common table is to a command: its value, and what it means. */
export function sharedFlag(name: string): { value: string; text: string } {
  const { value = "", text = "" } = FLAGS.find((flag) => flag.name === name) ?? {};
  return { value, text: SHARED_TEXTS[name] ?? text };
}

/** How a command is used, in a line. */
export function usageOf({ name, operands, flags, switches, options = {} }: Subcommand): string {
  const usage = operands === "" ? name : `${name} ${operands}`;
  const hasFlags = [...Object.keys(switches), ...Object.keys(options), ...flags].length > 0;
  // What stands behind -- is somebody else's.
  return hasFlags ? usage.replace(/( -- .*)?$/, " [flags]$1") : usage;
}

export function helpOf(command: Subcommand): string {
  const { summary, more, options = {}, switches, flags } = command;
  const rows = [
    ...Object.entries(options).map(([name, { value, text }]) => [`-${name} ${value}`, text] as const),
    ...Object.entries(switches).map(([name, text]) => [`-${name}`, text] as const),
    ...flags.map((name) => [`-${name} ${sharedFlag(name).value}`, sharedFlag(name).text] as const),
  ];
  const list = rows.length === 0 ? "" : `\nFlags:\n${rowsText(rows)}\n`;
  return `Usage: minivault ${usageOf(command)}\n\n${summary}\n${list}\n${proseText(more)}\n`;
}

/** Terms, and what they are beside them. */
export function rowsText(rows: readonly (readonly [term: string, text: string])[]): string {
  const columns = Math.max(...rows.map(([term]) => term.length)) + 4;
  return rows.map(([term, text]) => `  ${term}`.padEnd(columns) + wrapped(text, columns)).join("\n");
}

/** Paragraphs. What is indented, such as examples, stays as it is. */
function proseText(text: string): string {
  const paragraphs = text.split("\n\n").map((one) => (one.startsWith(" ") ? one : wrapped(one, 0)));
  return paragraphs.join("\n\n");
}

/** A text in lines, of which all but the first are indented. */
function wrapped(text: string, indent: number): string {
  const line = new RegExp(`\\S.{0,${HELP_COLUMNS - indent - 1}}(?!\\S)|\\S+`, "g");
  return (text.replaceAll("\n", " ").match(line) ?? []).join(`\n${" ".repeat(indent)}`);
}
