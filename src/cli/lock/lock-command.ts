/**
 * `minivault lock KEY -ttl 10 -- COMMAND`: runs a command while it alone holds a key. The lease is a value
 * with an end of life, created only where there is none, and renewed while the command runs. Who loses it all
 * the same (its machine slept, the network was gone) has its command ended; what the command wrote meanwhile
 * can be told apart by the fencing token, which rises from holder to holder.
 */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { UsageError } from "../../config/values.ts";
import { reasonOf } from "../../platform/system-error.ts";
import { lifeOfTtl } from "../../rules/life.ts";
import { JSON_TYPE } from "../../util/header-text.ts";
import { storedBytes } from "../../value/stored.ts";
import {
  bytesOf,
  CLIENT_FLAGS,
  CLIENT_OPTIONS,
  clientOf,
  type NodeClient,
  pathOf,
  Refused,
} from "../client/node-client.ts";
import { shown } from "../subcommand/shown.ts";
import { optionOf, type Subcommand, type Terminal, type Words } from "../subcommand/subcommand.ts";

const TTL_DEFAULT = "10";
/** Shorter ones would end between two renewals on a busy machine. */
const TTL_MS_MIN = 1000;
const ASK_AGAIN_MS = 250;
/** How long a node may take to renew a lock, or to take it back. */
const ANSWER_MS_MAX = 10_000;
/** Of the lease: how often it is renewed, and how early its command is ended when that does not succeed. */
const RENEWALS = 3;
const MARGIN_FRACTION = 0.1;
/** Timers take no more than 24.8 days. */
const PAUSE_MS_MAX = 86_400_000;
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
      text: `how long the lock outlives a holder that dies (default ${TTL_DEFAULT} seconds)`,
    },
    wait: { value: "time", text: "how long to wait for the lock (default: not at all)" },
    ...CLIENT_OPTIONS,
  },
  run: lock,
};

/** A lock that is held: its version, and until when it surely is, by the monotonic clock. */
interface Lease {
  etag: string;
  untilMs: number;
}

async function lock(words: Words, terminal: Terminal): Promise<number> {
  const [key, ...command] = words.operands;
  const ttlMs = timeOf(words, "ttl") ?? Number(TTL_DEFAULT) * 1000;
  if (ttlMs < TTL_MS_MIN) throw new UsageError("-ttl: a lock is held for a second at least");
  const holder = new Holder(clientOf(words), pathOf(key), ttlMs);
  const lease = await holder.acquire(timeOf(words, "wait") ?? 0);
  if (lease === null) {
    terminal.err(`minivault lock: ${shown(`${key} is held by ${await holder.heldBy()}`)}\n`);
    return 1;
  }
  return new Run(holder, lease, terminal).run(key, command);
}

function timeOf(words: Words, name: string): number | null {
  const text = optionOf(words, name);
  if (text === undefined) return null;
  const life = lifeOfTtl(text, { keep: false, none: false });
  if (typeof life === "string") throw new UsageError(`-${name}: ${life}`);
  return life.ttlMs;
}

/** What this process does with the key. */
class Holder {
  readonly ttlMs: number;
  private readonly client: NodeClient;
  private readonly path: string;
  private readonly id = randomBytes(16).toString("hex");

  constructor(client: NodeClient, path: string, ttlMs: number) {
    this.client = client;
    this.path = path;
    this.ttlMs = ttlMs;
  }

  /** How long a lock is surely held yet, without the margin. */
  leftMs({ untilMs }: Lease): number {
    return untilMs - this.ttlMs * MARGIN_FRACTION - performance.now();
  }

  /** Null: somebody else holds it. */
  async acquire(waitMs: number): Promise<Lease | null> {
    const since = performance.now();
    for (;;) {
      let lease = await this.create();
      // The answer was long on its way.
      if (lease !== null && this.leftMs(lease) <= 0) lease = await this.renew(lease);
      if (lease !== null) return lease;
      if (performance.now() - since >= waitMs) return null;
      await sleep(Math.min(ASK_AGAIN_MS, waitMs));
    }
  }

  private async create(): Promise<Lease | null> {
    const text = { holder: this.id, host: hostname(), pid: process.pid, since: new Date().toISOString() };
    const body = storedBytes(Buffer.from(JSON.stringify(text)));
    const headers = { "Content-Type": JSON_TYPE, "Content-Length": String(body.length) };
    const startMs = performance.now();
    try {
      const answer = await this.client.ask("POST", `${this.path}?ttl=${this.ttlMs}ms`, {
        headers,
        body: Readable.from([body]),
      });
      await bytesOf(answer);
      return { etag: String(answer.headers.etag), untilMs: startMs + this.ttlMs };
    } catch (error) {
      if (error instanceof Refused && error.code !== "unknown_outcome") {
        if (error.code === "exists") return this.ifOwn(startMs);
        throw error;
      }
      // It may have been done, and only the answer be lost.
      const own = await this.ifOwn(startMs);
      if (own === null) throw error;
      return own;
    }
  }

  /** The lease, if the key holds this process' one. */
  private async ifOwn(startMs: number): Promise<Lease | null> {
    const found = await this.read();
    if (found === null || found.value.holder !== this.id) return null;
    return { etag: found.etag, untilMs: startMs + this.ttlMs };
  }

  private async read(): Promise<{ etag: string; value: Record<string, unknown> } | null> {
    try {
      const answer = await this.client.ask("GET", this.path, { longestMs: ANSWER_MS_MAX });
      const { value } = JSON.parse((await bytesOf(answer)).toString()) as { value?: unknown };
      const isObject = typeof value === "object" && value !== null;
      return { etag: String(answer.headers.etag), value: isObject ? (value as Record<string, unknown>) : {} };
    } catch (error) {
      if ((error instanceof Refused && error.status === 404) || error instanceof SyntaxError) return null;
      throw error;
    }
  }

  /** Who holds it, for a person. */
  async heldBy(): Promise<string> {
    const found = await this.read();
    const { host, pid, since } = found?.value ?? {};
    return host === undefined ? "somebody else" : shown(`process ${pid} of ${host} since ${since}`);
  }

  /** Null: it is lost. */
  async renew({ etag }: Lease): Promise<Lease | null> {
    const startMs = performance.now();
    try {
      const answer = await this.client.ask("PATCH", `${this.path}?ttl=${this.ttlMs}ms`, {
        headers: { "If-Match": etag, "Content-Length": "0" },
        // Where a node hangs there is time for the next one.
        longestMs: Math.min(ANSWER_MS_MAX, this.ttlMs / RENEWALS / 2),
        mayRepeat: true,
      });
      await bytesOf(answer);
      return { etag: String(answer.headers.etag), untilMs: startMs + this.ttlMs };
    } catch (error) {
      // An earlier renewal may have been done, and its answer lost.
      if (error instanceof Refused && (error.status === 412 || error.code === "unknown_outcome"))
        return this.ifOwn(startMs).then((own) => (own === null ? null : this.renew(own)));
      if (error instanceof Refused && error.status === 404) return null;
      throw error;
    }
  }

  async release({ etag }: Lease): Promise<void> {
    const question = { headers: { "If-Match": etag }, longestMs: ANSWER_MS_MAX, mayRepeat: true };
    await bytesOf(await this.client.ask("DELETE", this.path, question));
  }
}

/** The command while it holds the lock. */
class Run {
  private readonly holder: Holder;
  private readonly terminal: Terminal;
  private lease: Lease;
  private isOver = false;
  private isLost = false;

  constructor(holder: Holder, lease: Lease, terminal: Terminal) {
    this.holder = holder;
    this.lease = lease;
    this.terminal = terminal;
  }

  async run(key: string, [program, ...args]: string[]): Promise<number> {
    const env = {
      ...process.env,
      MINIVAULT_LOCK_KEY: key,
      MINIVAULT_LOCK_TOKEN: this.lease.etag.replaceAll('"', ""),
    };
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
    const stop = new AbortController();
    let killing: NodeJS.Timeout | undefined;
    const lose = (): void => {
      if (this.isOver || this.isLost) return;
      this.isLost = true;
      this.terminal.err("minivault lock: the lock is lost, so the command is ended\n");
      child.kill("SIGTERM");
      // What does not want to end must not go on beside the next holder.
      const leftMs = Math.min(this.holder.ttlMs * MARGIN_FRACTION, PAUSE_MS_MAX);
      killing = setTimeout(() => child.kill("SIGKILL"), leftMs);
    };
    const holding = Promise.all([this.renew(lose, stop.signal), this.watch(lose, stop.signal)]);
    const status = await ended;
    clearTimeout(killing);
    this.isOver = true;
    stop.abort();
    await holding;
    for (const signal of Object.keys(SIGNALS) as NodeJS.Signals[]) process.off(signal, pass);
    if (this.isLost) return 1;
    // Where that does not succeed it ends by itself.
    await this.holder.release(this.lease).catch(() => {});
    return status;
  }

  /** Renews until the command is over, or the lock is lost. */
  private async renew(lose: () => void, signal: AbortSignal): Promise<void> {
    const { holder } = this;
    for (;;) {
      await pause(holder.ttlMs / RENEWALS, signal);
      if (this.isOver || this.isLost) return;
      try {
        const lease = await holder.renew(this.lease);
        if (lease === null) lose();
        else this.lease = lease;
      } catch {
        // Nobody can be reached: there is time until it ends.
      }
    }
  }

  /** Waits for the lease to be nearly over, whatever becomes of what renews it. */
  private async watch(lose: () => void, signal: AbortSignal): Promise<void> {
    while (!this.isOver && !this.isLost) {
      const leftMs = this.holder.leftMs(this.lease);
      if (leftMs <= 0) lose();
      else await pause(leftMs, signal);
    }
  }
}

/** Waits so long, or a day, but not for what is over. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(Math.min(ms, PAUSE_MS_MAX), undefined, { signal }).catch(() => {});
}
