/**
 * Starts the real program, dist/minivault.js, as its own process, and cleans up whatever happens: the process is
 * killed and its folders are removed after the test, when the test process is told to stop, and when it exits.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export const REPOSITORY = path.join(__dirname, "../..");
export const PROGRAM = path.join(REPOSITORY, "dist/minivault.js");
/** The native addons that the program carries. */
export const ADDONS = ["guard", "mmap", "uws"];
/** Longest that a start may take before a test calls it failed. */
const START_MS_MAX = 120_000;
/** How long SIGTERM may take. */
const STOP_MS_MAX = 60_000;

export interface ServerOptions {
  /** Data directory; a temporary one when left out. */
  data?: string;
  sync?: "always" | "os";
  /** More of the command line. */
  flags?: string[];
  /** Added to the environment. */
  env?: Record<string, string | undefined>;
  /** The program file; the one in dist/ when left out. */
  program?: string;
  cwd?: string;
  /** A program and its words in front of node, such as strace; it must stay out of the way of process ids (strace -D). */
  wrapper?: string[];
  /** User and group to run as, where this process may choose. */
  uid?: number;
}

export interface Exit {
  status: number | null;
  signal: NodeJS.Signals | null;
}

export interface Server {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  readonly data: string;
  /** From the start of the process until /health answered 200, in milliseconds. */
  readonly startMs: number;
  /** Everything that the process has written, over all its starts. */
  log(): string;
  /** Sends a signal and waits for the end. */
  kill(signal?: NodeJS.Signals): Promise<Exit>;
  /** SIGTERM. Throws when the process does not end in time. */
  stop(): Promise<Exit>;
  /** Starts again on the same data (kill -9 first, when it still runs). */
  restart(): Promise<void>;
  /** Ends the process and removes a temporary data directory. */
  dispose(): Promise<void>;
}

const running = new Set<ChildProcess>();
const folders = new Set<string>();

function cleanUp(): void {
  for (const child of running) child.kill("SIGKILL");
  for (const folder of folders) fs.rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
}
process.once("exit", cleanUp);
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(1));

/** A temporary folder that goes away with this process at the latest. */
export function temporaryFolder(): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "minivault-test-"));
  folders.add(folder);
  return folder;
}

export function removeFolder(folder: string): void {
  folders.delete(folder);
  fs.rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
}

function newestChange(folder: string): number {
  let newest = 0;
  for (const entry of fs.readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile())
      newest = Math.max(newest, fs.statSync(path.join(entry.parentPath, entry.name)).mtimeMs);
  }
  return newest;
}

function isStale(): boolean {
  if (!fs.existsSync(PROGRAM)) return true;
  const config = fs.statSync(path.join(REPOSITORY, "esbuild.config.mjs")).mtimeMs;
  return Math.max(newestChange(path.join(REPOSITORY, "src")), config) > fs.statSync(PROGRAM).mtimeMs;
}

let programCopy: string | null = null;

/**
 * Builds dist/minivault.js when it is missing or older than its sources (the build replaces it atomically, so test files may
 * do this at once), and answers a copy of it: what a test file runs stays the same from its first start to its last.
 */
export async function builtProgram(): Promise<string> {
  if (programCopy !== null) return programCopy;
  if (isStale()) await run(process.execPath, [path.join(REPOSITORY, "esbuild.config.mjs")]);
  programCopy = path.join(temporaryFolder(), "minivault.js");
  fs.copyFileSync(PROGRAM, programCopy);
  return programCopy;
}

/** Runs a program to its end; rejects with its output when it fails. */
function run(program: string, words: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile(program, words, (error, stdout, stderr) => {
      if (error === null) resolve();
      else reject(new Error(`${program} ${words.join(" ")}: ${error.message}\n${stdout}${stderr}`));
    });
  });
}

/** The command line of a worker. */
export function commandLine(options: ServerOptions, data: string): string[] {
  const sync = options.sync === undefined ? [] : ["-sync", options.sync];
  return ["-port", "0", "-host", "127.0.0.1", "-data", data, ...sync, ...(options.flags ?? [])];
}

/** The environment without what would change the program's settings. */
export function cleanEnvironment(more: Record<string, string | undefined> = {}): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(MINIVAULT_.*|PORT|MASTER|VOLUMES|DATA|NODE_OPTIONS|NODE_TEST_CONTEXT)$/.test(name),
  );
  return { ...Object.fromEntries(kept), ...more };
}

export interface Program {
  readonly child: ChildProcess;
  /** Standard output and standard error, as they came. */
  output(): string;
  readonly ended: Promise<Exit>;
}

/** Starts the program with any words, without waiting for anything. It is killed at the latest when the tests end. */
export async function launch(words: string[], options: ServerOptions = {}): Promise<Program> {
  const file = options.program ?? (await builtProgram());
  const [command, ...front] = [...(options.wrapper ?? []), process.execPath];
  const child = spawn(command, [...front, file, ...words], {
    cwd: options.cwd ?? os.tmpdir(),
    env: cleanEnvironment(options.env),
    stdio: ["ignore", "pipe", "pipe"],
    ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
  });
  running.add(child);
  let text = "";
  const collect = (piece: Buffer) => {
    text += piece.toString();
  };
  child.stdout?.on("data", collect);
  child.stderr?.on("data", collect);
  const ended = new Promise<Exit>((resolve) => {
    child.once("close", (status, signal) => {
      running.delete(child);
      resolve({ status, signal });
    });
  });
  return { child, output: () => text, ended };
}

/** Runs the program with any words to its end; for command lines that must be refused. */
export async function runProgram(
  words: string[],
  options: ServerOptions = {},
): Promise<Exit & { output: string }> {
  const program = await launch(words, options);
  const timer = setTimeout(() => program.child.kill("SIGKILL"), STOP_MS_MAX);
  const exit = await program.ended;
  clearTimeout(timer);
  return { ...exit, output: program.output() };
}

/** The port that the program's log names. */
export function printedPort(output: string): number | null {
  const match = /listening on [^"\n]*:(\d+)/.exec(output);
  return match === null ? null : Number(match[1]);
}

/** Status of GET /health, 0 while nobody answers. */
export function healthStatus(port: number): Promise<number> {
  return new Promise((resolve) => {
    const request = http.get({ host: "127.0.0.1", port, path: "/health", agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    request.on("error", () => resolve(0));
  });
}

export async function startServer(options: ServerOptions = {}): Promise<Server> {
  if (options.program === undefined) await builtProgram();
  const own = options.data === undefined ? temporaryFolder() : null;
  const data = options.data ?? path.join(own as string, "data");
  const logs: string[] = [];
  let program!: Program;
  let port = 0;
  let startMs = 0;

  const start = async (): Promise<void> => {
    const begun = performance.now();
    program = await launch(commandLine(options, data), options);
    port = 0;
    for (;;) {
      if (program.child.exitCode !== null || program.child.signalCode !== null) {
        await program.ended;
        throw new Error(`the program ended with ${program.child.exitCode}:\n${program.output()}`);
      }
      if (port === 0) port = printedPort(program.output()) ?? 0;
      if (port !== 0 && (await healthStatus(port)) === 200) break;
      if (performance.now() - begun > START_MS_MAX) {
        program.child.kill("SIGKILL");
        throw new Error(`the program does not serve after ${START_MS_MAX} ms:\n${program.output()}`);
      }
      await sleep(5);
    }
    startMs = performance.now() - begun;
  };

  const kill = async (signal: NodeJS.Signals = "SIGKILL"): Promise<Exit> => {
    const { child } = program;
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    const exit = await program.ended;
    logs.push(program.output());
    return exit;
  };

  const server: Server = {
    get url() {
      return `http://127.0.0.1:${port}`;
    },
    get port() {
      return port;
    },
    get pid() {
      return program.child.pid as number;
    },
    get startMs() {
      return startMs;
    },
    data,
    log: () => [...logs, program.output()].join(""),
    kill,
    async stop() {
      const timer = setTimeout(() => program.child.kill("SIGKILL"), STOP_MS_MAX);
      const exit = await kill("SIGTERM");
      clearTimeout(timer);
      if (exit.signal === "SIGKILL") throw new Error(`SIGTERM did not end the program in ${STOP_MS_MAX} ms`);
      return exit;
    },
    async restart() {
      if (running.has(program.child)) await kill("SIGKILL");
      await start();
    },
    async dispose() {
      if (running.has(program.child)) await kill("SIGKILL");
      if (own !== null) removeFolder(own);
    },
  };
  try {
    await start();
  } catch (error) {
    if (own !== null) removeFolder(own);
    throw error;
  }
  return server;
}

/** Runs `body` with a server; ends it and removes its data afterwards. */
export async function withServer(
  options: ServerOptions,
  body: (server: Server) => Promise<void>,
): Promise<void> {
  const server = await startServer(options);
  try {
    await body(server);
  } finally {
    await server.dispose();
  }
}

/** Waits until `holds`, or throws with the sentence. */
export async function waitUntil(
  sentence: string,
  holds: () => Promise<boolean> | boolean,
  longestMs = 60_000,
): Promise<void> {
  const deadline = performance.now() + longestMs;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not within ${longestMs} ms: ${sentence}`);
    await sleep(20);
  }
}

/** Waits for a line of a program's log: it comes through a pipe, and may be later than what it tells of. */
export function untilLogged(program: { log(): string } | { output(): string }, line: RegExp): Promise<void> {
  const text = () => ("log" in program ? program.log() : program.output());
  return waitUntil(`the log says ${line}`, () => line.test(text()));
}
