/** Runs commands inside the test, with a terminal that keeps what they say. */
import { Readable, Writable } from "node:stream";
import { findSubcommand, runSubcommand } from "../../src/cli/commands.ts";
import type { Terminal } from "../../src/cli/subcommand/subcommand.ts";

export interface Said {
  status: number;
  out: string;
  err: string;
}

export interface RunOptions {
  env?: NodeJS.ProcessEnv;
  stdin?: Uint8Array;
  /** Gets the output's bytes, which its text may not show. */
  pieces?: Buffer[];
  /** Who answers questions; nobody, where it is left out. */
  ask?: Terminal["ask"];
}

/** A terminal whose output goes into `said`. */
export function terminalOf(
  said: Said,
  { env = {}, stdin = new Uint8Array(), pieces = [], ask }: RunOptions = {},
): Terminal {
  const add = (bytes: Buffer): void => {
    pieces.push(bytes);
  };
  return {
    env,
    out: (text) => add(Buffer.from(text)),
    stdout: () =>
      new Writable({
        write: (piece: Buffer, _encoding, done) => {
          add(piece);
          done();
        },
      }),
    stdin: () => Readable.from([Buffer.from(stdin)]),
    err: (text) => {
      said.err += text;
    },
    isTerminal: false,
    ...(ask === undefined ? {} : { ask }),
  };
}

/** Runs `minivault <words>`. */
export async function runCommand(words: readonly string[], options: RunOptions = {}): Promise<Said> {
  const said: Said = { status: -1, out: "", err: "" };
  const command = findSubcommand(words[0]);
  if (command === null) throw new Error(`there is no command ${words[0]}`);
  const pieces = options.pieces ?? [];
  said.status = await runSubcommand(command, words.slice(1), terminalOf(said, { ...options, pieces }));
  said.out = Buffer.concat(pieces).toString("utf8");
  return said;
}
