/**
 * `minivault lock KEY -ttl 10 -- COMMAND`: runs a command while it alone holds a key. Who loses the lock all
 * the same (its machine slept, the network was gone) has its command ended; what the command wrote meanwhile
 * can be told apart by the fencing token, which rises from holder to holder.
 */
import { spawn } from "node:child_process";
import { hostname } from "node:os";
import { Lock, TIMER_MS_MAX, TTL_SECONDS_DEFAULT, TTL_SECONDS_MIN } from "../../client/lock.ts";
import { LockedError } from "../../client/transport/errors.ts";
import { UsageError } from "../../config/values.ts";
import { reasonOf } from "../../platform/system-error.ts";
import { lifeOfTtl } from "../../rules/life.ts";
import { CLIENT_FLAGS, CLIENT_OPTIONS, clientOf } from "../client/node-client.ts";
import { shown } from "../subcommand/shown.ts";
import { optionOf, type Subcommand, type Terminal, type Words } from "../subcommand/subcommand.ts";
import { leasesOf } from "./leases.ts";

/** Exit status of a command that was ended by a signal, as shells have it. */
const SIGNALLED = 128;
const SIGNALS: Readonly<Partial<Record<NodeJS.Signals, number>>> = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 };

export const LOCK: Subcommand = {
  name: "lock",
  operands: "KEY -- COMMAND ...",
  summary: "Runs a command while it alone holds a key.",
  more: `The key holds who has the lock and since when, for as long as the command runs, and at most -ttl longer
than that when this program is killed. The command finds a fencing token in MINIVAULT_LOCK_TOKEN: later holders have
higher ones, in order of bytes, so what keeps the highest that it has met can refuse those who lost the lock and do not
know it yet. A lock that is lost ends the command: by SIGTERM, and by SIGKILL when that has done nothing in a tenth of -ttl.

  minivault lock jobs/backup -ttl 30 -- ./backup.sh
  minivault lock jobs/backup -wait 5m -- ./backup.sh

Exit status: the command's; 1 the lock is held by somebody else, or was lost; 2 used wrongly.`,
  operandsMin: 2,
  operandsMax: Number.POSITIVE_INFINITY,
  flags: CLIENT_FLAGS,
  switches: {},
  options: {
    ttl: {
      value: "time",
      text: `how long the lock outlives a holder that dies (default ${TTL_SECONDS_DEFAULT} seconds)`,
    },
    wait: { value: "time", text: "how long to wait for the lock (default: not at all)" },
    ...CLIENT_OPTIONS,
  },
  run: lock,
};

async function lock(words: Words, terminal: Terminal): Promise<number> {
  const [key, ...command] = words.operands;
  const ttlMs = timeOf(words, "ttl");
  const ttl = ttlMs === null ? TTL_SECONDS_DEFAULT : ttlMs / 1000;
  if (ttl < TTL_SECONDS_MIN) throw new UsageError("-ttl: a lock is held for a second at least");
  const leases = leasesOf(clientOf(words));
  const holder = { host: hostname(), pid: process.pid };
  try {
    const waitMs = timeOf(words, "wait") ?? 0;
    const held = await Lock.acquire(leases, key, { ttl, waitMs, holder });
    return new Run(held, terminal).run(command);
  } catch (error) {
    if (!(error instanceof LockedError)) throw error;
    const value = (await leases.getEntry(key, {}))?.value;
    terminal.err(`minivault lock: ${shown(`${key} is held by ${nameOf(value)}`)}\n`);
    return 1;
  }
}

/** Who holds a lock, for a person, by what is there. */
function nameOf(value: unknown): string {
  const { holder, since } = (value ?? {}) as {
    holder?: { host?: string; pid?: number } | null;
    since?: string;
  };
  return holder?.host === undefined
    ? "somebody else"
    : `process ${holder.pid} of ${holder.host} since ${since}`;
}

function timeOf(words: Words, name: string): number | null {
  const text = optionOf(words, name);
  if (text === undefined) return null;
  const life = lifeOfTtl(text, { keep: false, none: false });
  if (typeof life === "string") throw new UsageError(`-${name}: ${life}`);
  return life.ttlMs;
}

/** The command while it holds the lock. */
class Run {
  private readonly held: Lock;
  private readonly terminal: Terminal;
  private killing: NodeJS.Timeout | undefined;

  constructor(held: Lock, terminal: Terminal) {
    this.held = held;
    this.terminal = terminal;
  }

  /** Answers its exit status. */
  async run([program, ...args]: string[]): Promise<number> {
    const { held } = this;
    const env = { ...process.env, MINIVAULT_LOCK_KEY: held.key, MINIVAULT_LOCK_TOKEN: held.token };
    const child = spawn(program, args, { stdio: "inherit", env });
    const pass = (signal: NodeJS.Signals): void => void child.kill(signal);
    for (const signal of Object.keys(SIGNALS) as NodeJS.Signals[]) process.on(signal, pass);
    const ended = new Promise<number>((resolve) => {
      child.once("error", (error) => {
        this.terminal.err(`minivault lock: ${program} cannot be run: ${reasonOf(error)}\n`);
        resolve(1);
      });
      child.once("exit", (status, signal) =>
        resolve(status ?? SIGNALLED + (SIGNALS[signal ?? "SIGTERM"] ?? 9)),
      );
    });
    const lose = (): void => this.lose((signal) => child.kill(signal));
    held.signal.addEventListener("abort", lose);
    const status = await ended;
    held.signal.removeEventListener("abort", lose);
    clearTimeout(this.killing);
    for (const signal of Object.keys(SIGNALS) as NodeJS.Signals[]) process.off(signal, pass);
    if (!held.isHeld) return 1;
    await held.release();
    return status;
  }

  private lose(kill: (signal: NodeJS.Signals) => boolean): void {
    this.terminal.err("minivault lock: the lock is lost, so the command is ended\n");
    kill("SIGTERM");
    // What does not want to end must not go on beside the next holder.
    this.killing = setTimeout(() => kill("SIGKILL"), Math.min(this.held.marginMs, TIMER_MS_MAX));
  }
}
