/** The servers that are measured side by side: the real program, and the ceiling that repeats its answers. */
import { statfsSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { CeilingAnswers } from "./ceiling.ts";
import { keyPath, keysOf } from "./load.ts";
import { PROGRAM } from "./machine.ts";
import type { BenchOptions } from "./options.ts";
import { awaitOutput, start, temporaryFolder } from "./processes.ts";
import { asCeiling, exchange, type RawAnswer, sameAnswer } from "./raw-http.ts";

export interface Contender {
  readonly port: number;
  readonly pid: number;
  stop(): Promise<void>;
}

const FILE_SYSTEMS: Record<number, string> = {
  61267: "ext4",
  16914836: "tmpfs",
  1481003842: "xfs",
  2435016766: "btrfs",
  2035054128: "overlay",
};

/** Name of the file system that a folder lies on. On tmpfs a sync costs nothing, and figures of writes mean nothing. */
export function fileSystemOf(folder: string): string {
  const { type } = statfsSync(folder);
  return FILE_SYSTEMS[type] ?? `0x${type.toString(16)}`;
}

/** Starts minivault as its users do, on a data directory of its own. */
export async function startMinivault(
  options: BenchOptions,
  folder: string,
  node = process.execPath,
): Promise<Contender> {
  const { profileFolder, sync } = options;
  const profile =
    profileFolder === null ? [] : ["--cpu-prof", `--cpu-prof-dir=${path.resolve(profileFolder)}`];
  const flags = ["-port", "0", "-host", "127.0.0.1", "-data", path.join(folder, "data"), "-sync", sync];
  const program = start(node, [...profile, options.program ?? PROGRAM, ...flags]);
  const [, port] = await awaitOutput(program, /listening on \S+:(\d+)/);
  return { port: Number(port), pid: program.child.pid as number, stop: () => program.stop() };
}

/** Stores a value of that size under every key of the load; answers what minivault says to a GET and to a PUT that replaces. */
export async function fill(
  port: number,
  valueBytes: number,
  key?: string,
): Promise<{ get: RawAnswer; put: RawAnswer }> {
  const value = Buffer.alloc(valueBytes, "v");
  const keys = keysOf(valueBytes);
  let put: RawAnswer | null = null;
  for (let number = 0; number < 2 * keys; number++) {
    put = await exchange(port, "PUT", keyPath(number % keys), value, undefined, key);
    if (put.status !== 200 && put.status !== 201) throw new Error(`PUT answered ${put.status}: ${put.body}`);
  }
  const get = await exchange(port, "GET", keyPath(0), undefined, undefined, key);
  if (get.status !== 200 || !get.body.equals(value))
    throw new Error("GET did not answer what PUT had stored");
  return { get, put: put as RawAnswer };
}

/** Starts a ceiling that repeats these answers, and makes sure that it does, byte for byte. */
export async function startCeiling(get: RawAnswer, put: RawAnswer): Promise<Contender> {
  const file = path.join(temporaryFolder(), "answers.json");
  const answers: CeilingAnswers = { get: asCeiling(get), put: asCeiling(put) };
  writeFileSync(file, JSON.stringify(answers));
  const program = start(process.execPath, ["--import", "tsx", path.join(__dirname, "ceiling.ts"), file]);
  const port = Number((await awaitOutput(program, /listening on (\d+)/))[1]);
  const same =
    sameAnswer(get, await exchange(port, "GET", keyPath(0))) &&
    sameAnswer(put, await exchange(port, "PUT", keyPath(0), Buffer.alloc(get.body.length)));
  if (!same) throw new Error("the ceiling does not answer the same bytes as minivault");
  return { port, pid: program.child.pid as number, stop: () => program.stop() };
}
