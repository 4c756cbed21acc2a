/**
 * What a subcommand is, and what all of them share. commands.ts has the table.
 */
import type { Readable, Writable } from "node:stream";

/** Where a command writes, and what it may read. */
export interface Terminal {
  env: NodeJS.ProcessEnv;
  out: (text: string) => void;
  /** Standard output for bytes, and standard input: only asked for by commands that need them. */
  stdout: () => Writable;
  stdin: () => Readable;
  /** Progress and errors. */
  err: (text: string) => void;
  /** Standard error is a terminal: progress may be drawn over. */
  isTerminal: boolean;
  /** Asks whoever sits there, and answers the line that was typed. Left out: nobody does. */
  ask?: (question: string) => Promise<string>;
}

export interface Subcommand {
  name: string;
  /** The words after the name, for the help: "URL", "OLD NEW", "DIR". */
  operands: string;
  summary: string;
  /** The rest of the help. */
  more: string;
  operandsMin: number;
  operandsMax: number;
  /** Names of flags of the common table that it takes, such as "master". */
  flags: readonly string[];
  /** Flags of its own without a value: name and text for the help. */
  switches: Readonly<Record<string, string>>;
  /** Flags of its own with a value, by name. Left out: there are none. */
  options?: Readonly<Record<string, SubcommandOption>>;
  /**
   * Answers the exit status. Throws UsageError for a mistake of the caller, any Error for a failure (status
   * 1).
   */
  run(words: Words, terminal: Terminal): Promise<number>;
}

/** Of commands that tell one thing. */
export const JSON_SWITCH = { json: "print one line of JSON, for scripts" };

/** A flag with a value that a command has of its own. */
export interface SubcommandOption {
  /** What the help shows for the value. */
  value: string;
  text: string;
  /** It is also read from the variable MINIVAULT_<NAME>. */
  hasVariable?: true;
  /** Flags that stand in its place: where one of them is given the variable says nothing. */
  unless?: readonly string[];
}

/** What stood on the command line, or in the environment. */
export interface Words {
  operands: string[];
  /** What the command's own flags were given, in order: a flag may stand more than once. */
  options: Readonly<Record<string, readonly string[]>>;
  /** Parsed values of flags, by name; absent: neither given nor in the environment. */
  values: Record<string, unknown>;
  switches: ReadonlySet<string>;
  /** Names of flags with a value that stood on the command line. */
  given: ReadonlySet<string>;
}

/** What a flag of the command's own was given last; undefined: nothing. */
export function optionOf({ options }: Words, name: string): string | undefined {
  return options[name]?.at(-1);
}
