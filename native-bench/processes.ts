/**
 * Programs that a benchmark starts, and folders that it fills. Whatever happens, the programs it started end with it
 * and its folders go away.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { PROGRAM, ROOT } from "./machine.ts";

const START_MS_MAX = 30_000;
const STOP_MS_MAX = 20_000;

const running = new Set<ChildProcess>();
const folders = new Set<string>();

process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
  for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(1));

/** A folder that goes away with this process. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(path.join(os.tmpdir(), "minivault-bench-"));
  folders.add(folder);
  return folder;
}

export interface Running {
  readonly child: ChildProcess;
  /** What it has written. */
  output(): string;
  /** SIGTERM, and SIGKILL when that takes too long. */
  stop(): Promise<void>;
}

/** Starts a program. Its environment has none of minivault's variables, so that the flags alone count. */
export function start(program: string, words: readonly string[], cwd = ROOT): Running {
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(MINIVAULT_|NODE_TEST_)/.test(name)),
  );
  const child = spawn(program, words, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  running.add(child);
  let text = "";
  const collect = (piece: Buffer) => {
    text += piece.toString();
  };
  child.stdout.on("data", collect);
  child.stderr.on("data", collect);
  child.once("error", (error) => collect(Buffer.from(error.message)));
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  void ended.then(() => running.delete(child));
  return {
    child,
    output: () => text,
    async stop() {
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS_MAX);
      await ended;
      clearTimeout(timer);
    },
  };
}

/** Waits until the program's output matches; answers the match. Throws when it ends or takes too long. */
export async function awaitOutput(program: Running, pattern: RegExp): Promise<RegExpExecArray> {
  const deadline = Date.now() + START_MS_MAX;
  for (;;) {
    const match = pattern.exec(program.output());
    if (match !== null) return match;
    const { exitCode, signalCode } = program.child;
    if (exitCode !== null || signalCode !== null || Date.now() > deadline)
      throw new Error(`${program.child.spawnfile} did not start:\n${program.output()}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Runs a program to its end; answers its standard output. Throws when it fails. */
export async function run(program: string, words: readonly string[]): Promise<string> {
  const child = spawn(program, words, { cwd: ROOT, stdio: ["ignore", "pipe", "pipe"] });
  running.add(child);
  const texts = ["", ""];
  child.stdout.on("data", (piece: Buffer) => {
    texts[0] += piece.toString();
  });
  child.stderr.on("data", (piece: Buffer) => {
    texts[1] += piece.toString();
  });
  const status = await new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  running.delete(child);
  if (status !== 0) throw new Error(`${program} ended with ${status}:\n${texts.join("")}`);
  return texts[0];
}

/** Builds dist/minivault.js when there is none. */
export function ensureProgram(): void {
  if (existsSync(PROGRAM)) return;
  const { status } = spawnSync("sh", [path.join(ROOT, "minivault"), "--prepare"], {
    cwd: ROOT,
    stdio: "inherit",
  });
  if (status !== 0) throw new Error("dist/minivault.js could not be built");
}

/**
 * Where ports for programs are looked for: below those that systems give away by themselves (Linux from 32,768 on),
 * or another listener could get the same one before the program has started. Each process begins at a place of its own.
 */
const FREE_PORTS = { first: 10_000, count: 22_768, perProcess: 97 };
let portsTried = 0;

/** A port that nobody has now and that nobody else is given, for programs that cannot choose one themselves. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < FREE_PORTS.count; attempt++) {
    const offset = process.pid * FREE_PORTS.perProcess + portsTried++;
    const port = FREE_PORTS.first + (offset % FREE_PORTS.count);
    if (await isFree(port)) return port;
  }
  throw new Error(`no port is free from ${FREE_PORTS.first} to ${FREE_PORTS.first + FREE_PORTS.count - 1}`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once("error", () => resolve(false));
    // On every address: what listens on one of them has it.
    server.listen(port, () => server.close(() => resolve(true)));
  });
}
