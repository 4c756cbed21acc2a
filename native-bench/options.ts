/** Command line and matrix of `npm run bench`. */
import { parseArgs } from "node:util";
import type { Generator, Operation } from "./load.ts";

export interface BenchOptions {
  tiny: boolean;
  /** Write docs/bench. */
  write: boolean;
  sync: "always" | "os";
  rounds: number;
  warmMs: number;
  measureMs: number;
  rows: Row[];
  generators: Generator[];
  redis: boolean;
  /** Measure latency at fixed rates. */
  offered: boolean;
  /** Folder for CPU profiles of the server, or null. */
  profileFolder: string | null;
  /** Program file to measure instead of dist/minivault.js, or null. */
  program: string | null;
}

export interface Row {
  valueBytes: number;
  connections: number;
  operation: Operation;
}

/** Value sizes with the numbers of connections that make sense for them. */
const MATRIX: readonly { valueBytes: number; connections: readonly number[] }[] = [
  { valueBytes: 100, connections: [1, 16, 64, 256] },
  { valueBytes: 100 * 1024, connections: [1, 64] },
  { valueBytes: 5 * 1024 * 1024, connections: [1, 8] },
];
const TINY_MATRIX: typeof MATRIX = [{ valueBytes: 100, connections: [4] }];
const OPERATIONS: readonly Operation[] = ["GET", "PUT", "mixed"];
const GENERATORS: readonly Generator[] = ["autocannon", "wrk"];

export const HELP = `npm run bench -- [options]
  --rounds N          rounds of each row, the contenders in turns (3)
  --seconds N         seconds of each measurement (1)
  --sizes A,B         only these value sizes, in bytes
  --connections A,B   only these numbers of connections
  --operations A,B    of GET, PUT, mixed
  --generators A,B    of autocannon, wrk
  --sync MODE         always (default) or os
  --no-redis          leave Redis out
  --write             write docs/bench/http.json, .md and the charts, and fill docs/benchmarks.md
  --no-offered        leave the fixed-rate runs out
  --profile FOLDER    write CPU profiles of the server's threads there (then: node --import tsx native-bench/profile.ts FOLDER)
  --program FILE      measure this file instead of dist/minivault.js
  --tiny              a few hundred milliseconds for each row: shows that it works, not how fast it is`;

function list<Word extends string>(text: string | undefined, known: readonly Word[]): Word[] {
  if (text === undefined) return [...known];
  return text.split(",").map((word) => {
    if (!known.includes(word as Word)) throw new Error(`${word} is none of ${known.join(", ")}`);
    return word as Word;
  });
}

function numbers(text: string | undefined): number[] | null {
  if (text === undefined) return null;
  return text.split(",").map((word) => positive(word, 0));
}

function positive(text: string | undefined, preset: number): number {
  const value = text === undefined ? preset : Number(text);
  if (!(value > 0)) throw new Error(`${text} is not a positive number`);
  return value;
}

/** Reads the command line (without the program's name). Null: help was asked for. Throws what is wrong with it. */
export function parseOptions(words: string[]): BenchOptions | null {
  const text = { type: "string" } as const;
  const flag = { type: "boolean", default: false } as const;
  const { values } = parseArgs({
    args: words,
    options: {
      rounds: text,
      seconds: text,
      sizes: text,
      connections: text,
      operations: text,
      generators: text,
      sync: text,
      profile: text,
      program: text,
      "no-redis": flag,
      "no-offered": flag,
      write: flag,
      tiny: flag,
      help: flag,
    },
  });
  if (values.help) return null;
  const tiny = values.tiny === true;
  const connections = numbers(values.connections);
  const sizes = numbers(values.sizes);
  const matrix = tiny ? TINY_MATRIX : MATRIX;
  const chosen =
    sizes === null
      ? matrix
      : sizes.map((valueBytes) => ({
          valueBytes,
          connections: matrix.find((row) => row.valueBytes === valueBytes)?.connections ?? [1, 64],
        }));
  const rows = chosen.flatMap((size) =>
    (connections ?? size.connections).flatMap((count) =>
      list(values.operations, OPERATIONS).map((operation) => ({
        valueBytes: size.valueBytes,
        connections: count,
        operation,
      })),
    ),
  );
  const [sync] = list(values.sync ?? "always", ["always", "os"] as const);
  return {
    tiny,
    write: values.write === true,
    sync,
    rounds: positive(values.rounds, tiny ? 1 : 3),
    warmMs: tiny ? 50 : 400,
    measureMs: positive(values.seconds, tiny ? 0.2 : 1) * 1000,
    rows,
    generators: list(values.generators, GENERATORS),
    redis: values["no-redis"] !== true,
    offered: values["no-offered"] !== true,
    profileFolder: values.profile ?? null,
    program: values.program ?? null,
  };
}

/** Generators of a row, weakest first. In the tiny form wrk, which takes whole seconds, runs once: its script for mixed load has all of it. */
export function generatorsOf(options: BenchOptions, row: Row): Generator[] {
  if (!options.tiny) return options.generators;
  return options.generators.filter((generator) => generator !== "wrk" || row.operation === "mixed");
}

/** @throws Error with a sentence for a person */
export function wholeNumber(word: string): number {
  if (!Number.isInteger(Number(word)) || Number(word) < 1)
    throw new Error(`${word} is not a whole number from 1 on`);
  return Number(word);
}

/** The options of a program. Ends the process where they only ask for help, or are none. */
export function readOrExit<Options>(read: () => Options | null, help: string): Options {
  try {
    const options = read();
    if (options !== null) return options;
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${help}`);
    process.exit(2);
  }
  console.log(help);
  process.exit(0);
}
