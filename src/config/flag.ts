/** What a row of the table of flags.ts is, and how its value is read. */
import { UsageError } from "./values.ts";

export interface Flag {
  /** Without dashes. The table is in the order of the help, group by group. */
  readonly name: string;
  readonly group: "Listening" | "Storing" | "Cluster" | "Access";
  /** What the help shows for the value; empty: a switch, which needs none. */
  readonly value: string;
  readonly text: string;
  /** Throws an Error whose message completes "-name: …". */
  readonly parse: (text: string) => unknown;
  /** Value when neither flag nor variable is given; absent: undefined. */
  readonly preset?: unknown;
  /** How the help shows the default where that is not the preset itself. */
  readonly presetText?: string;
}

/**
 * The value of a flag.
 * @param from how an error names it: as a flag, or as its variable
 * @throws UsageError
 */
export function parseFlag(flag: Flag, text: string, from: string): unknown {
  try {
    return flag.parse(text);
  } catch (error) {
    throw new UsageError(`${from}: ${(error as Error).message}`);
  }
}

/** The environment variable that stands for a flag. */
export function variableOf(name: string): string {
  return `MINIVAULT_${name.toUpperCase().replaceAll("-", "_")}`;
}
