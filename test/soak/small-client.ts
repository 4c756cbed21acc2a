/**
 * A client with keys of its own, one request after the other: small values, ends of life, counters, batches, lists, deletes by prefix. It knows
 * what may be in each key, and looks at everything that it is answered.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../random.ts";
import { type Answer, type Doors, type Failure, isNotDone, type Node } from "./doors.ts";
import { Counter, Register } from "./register.ts";
import { nameOf, valueNamed } from "./values.ts";

const VALUES = 200;
const COUNTERS = 12;
const BATCHED = 40;
const BATCH = 12;
const BYTES_MAX = 2000;
const TTL_MS_MIN = 500;
const TTL_MS_MAX = 20_000;
const THINK_MS_MAX = 50;
const TRIES = 4;
const TRIES_PAUSE_MS = 250;

interface Listed {
  key: string;
  value?: string;
  base64?: string;
}

interface Result {
  status: number;
  code?: string;
  value?: string;
}

export class SmallClient {
  readonly prefix: string;
  private readonly doors: Doors;
  private readonly random: Random;
  private readonly wrong: (what: string) => void;
  private readonly values: Register[] = Array.from({ length: VALUES }, () => new Register());
  private readonly batched: Register[] = Array.from({ length: BATCHED }, () => new Register());
  private readonly counters: Counter[] = Array.from({ length: COUNTERS }, () => new Counter());
  private written = 0;

  constructor(number: number, doors: Doors, random: Random, wrong: (what: string) => void) {
    this.prefix = `small/${number}/`;
    this.doors = doors;
    this.random = random;
    this.wrong = wrong;
  }

  async run(over: () => boolean): Promise<void> {
    while (!over()) {
      const what = this.random.below(1000);
      if (what < 500) await this.get(this.random.below(VALUES));
      else if (what < 740) await this.put(this.random.below(VALUES), what < 690 ? null : this.ttl());
      else if (what < 780) await this.create(this.random.below(VALUES));
      else if (what < 840) await this.remove(this.random.below(VALUES));
      else if (what < 900) await this.increment(this.random.below(COUNTERS));
      else if (what < 960) await this.batch();
      else if (what < 990) await this.list("values/", this.values);
      else if (what < 996) await this.list("batched/", this.batched);
      else await this.removeBatched();
      await sleep(this.random.below(THINK_MS_MAX));
    }
  }

  /** Reads everything at one node. False: it did not answer everything. */
  async check(node: Node): Promise<boolean> {
    for (let index = 0; index < VALUES; index++) if (!(await this.get(index, node))) return false;
    for (let index = 0; index < COUNTERS; index++) if (!(await this.count(index, node))) return false;
    return (
      (await this.list("values/", this.values, node)) && (await this.list("batched/", this.batched, node))
    );
  }

  private tell(key: string, what: string | null): void {
    if (what !== null) this.wrong(`${key}: ${what}`);
  }

  private ttl(): number {
    return TTL_MS_MIN + this.random.below(TTL_MS_MAX - TTL_MS_MIN);
  }

  private newName(form: "json" | "bytes"): string {
    return `${form}-${this.random.below(BYTES_MAX)}-${++this.written}`;
  }

  private keyOf(index: number): string {
    return `${this.prefix}values/${index}`;
  }

  private async get(index: number, node?: Node): Promise<boolean> {
    const key = this.keyOf(index);
    const reply = await this.doors.ask(this.random, "GET", `/${key}`, { timed: "get", ...at(node) });
    if ("failed" in reply) return false;
    if (reply.status !== 200 && reply.status !== 404) this.unexpected("GET", key, reply);
    else {
      const name = reply.status === 404 ? null : nameOf(reply.body);
      this.tell(key, this.values[index].read(name, reply.sentMs, reply.answeredMs));
    }
    return true;
  }

  private async put(index: number, ttlMs: number | null): Promise<void> {
    const value = valueNamed(this.newName(this.random.below(3) === 0 ? "json" : "bytes"));
    const query = ttlMs === null ? "" : `?ttl=${ttlMs}ms`;
    const key = this.keyOf(index);
    const asked = { headers: { "Content-Type": value.type }, body: value.body, timed: "put" as const };
    const reply = await this.doors.ask(this.random, "PUT", `/${key}${query}`, asked);
    this.wrote(key, this.values[index], value.name, ttlMs, reply);
  }

  private async create(index: number): Promise<void> {
    const value = valueNamed(this.newName("bytes"));
    const key = this.keyOf(index);
    const asked = { headers: { "Content-Type": value.type }, body: value.body };
    const reply = await this.doors.ask(this.random, "POST", `/${key}`, asked);
    const register = this.values[index];
    if (!("failed" in reply)) {
      if (reply.status === 409) return;
      if (reply.status === 201) this.tell(key, register.read(null, reply.sentMs, reply.answeredMs));
    }
    this.wrote(key, register, value.name, null, reply);
  }

  private async remove(index: number): Promise<void> {
    const key = this.keyOf(index);
    const reply = await this.doors.ask(this.random, "DELETE", `/${key}`);
    this.wrote(key, this.values[index], null, null, reply);
  }

  private wrote(
    key: string,
    register: Register,
    name: string | null,
    ttlMs: number | null,
    reply: Answer | Failure,
  ): void {
    if ("failed" in reply) {
      if (reply.failed === "unknown") register.unknown(name, reply.sentMs, ttlMs);
    } else if (reply.status === 200 || reply.status === 201)
      register.acknowledged(name, reply.sentMs, reply.answeredMs, ttlMs);
    else this.unexpected("a write of", key, reply);
  }

  /** The same write is sent until somebody says what became of it. */
  private async increment(index: number): Promise<void> {
    const key = `${this.prefix}counters/${index}`;
    const asked = {
      headers: { "Content-Type": "application/json", "Idempotency-Key": randomUUID() },
      body: '{"increment": 1, "initial": 0}',
    };
    let mayBe = false;
    for (let attempt = 0; attempt < TRIES; attempt++) {
      const reply = await this.doors.ask(this.random, "PATCH", `/${key}`, asked);
      if (!("failed" in reply)) {
        if (reply.status !== 200 && reply.status !== 201) this.unexpected("PATCH", key, reply);
        else this.tell(key, this.counters[index].acknowledged(JSON.parse(reply.body.toString()).value));
        return;
      }
      mayBe ||= reply.failed === "unknown";
      await sleep(TRIES_PAUSE_MS);
    }
    if (mayBe) this.counters[index].unknown();
  }

  private async count(index: number, node: Node): Promise<boolean> {
    const key = `${this.prefix}counters/${index}`;
    const reply = await this.doors.ask(this.random, "GET", `/${key}`, { node });
    if ("failed" in reply) return false;
    const value = reply.status === 404 ? 0 : JSON.parse(reply.body.toString()).value;
    this.tell(key, this.counters[index].read(value));
    return true;
  }

  private async batch(): Promise<void> {
    const first = this.random.below(BATCHED);
    const operations = Array.from({ length: BATCH }, (_, number) => {
      const index = (first + number) % BATCHED;
      const key = `${this.prefix}batched/${index}`;
      const draw = this.random.below(10);
      if (draw < 5) return { index, op: "put", key, value: this.newName("json") };
      return { index, op: draw < 8 ? "get" : "delete", key };
    });
    const body = operations.map(({ index: _, ...operation }) => `${JSON.stringify(operation)}\n`).join("");
    const headers = { "Content-Type": "application/x-ndjson" };
    const reply = await this.doors.ask(this.random, "POST", "/_batch", { headers, body });
    const failed = "failed" in reply;
    if (!failed && reply.status !== 200) this.unexpected("a batch of", this.prefix, reply);
    const results = failed ? [] : linesOf<Result>(reply.body);
    operations.forEach(({ index, op, key, value }, number) => {
      const register = this.batched[index];
      const result = results[number];
      const isDone = result !== undefined && result.status < 500;
      if (op === "get") {
        if (isDone && !failed)
          this.tell(key, register.read(result.value ?? null, reply.sentMs, reply.answeredMs));
      } else if (isDone && !failed) register.acknowledged(value ?? null, reply.sentMs, reply.answeredMs);
      else if (failed ? reply.failed === "unknown" : !isNotDone(result?.code))
        register.unknown(value ?? null, reply.sentMs);
    });
  }

  private async removeBatched(): Promise<void> {
    const path = `/_delete?prefix=${this.prefix}batched/`;
    const reply = await this.doors.ask(this.random, "POST", path, { timeoutMs: 10_000 });
    const isDone =
      !("failed" in reply) && /"success":true.*"complete":true\}\s*$/.test(reply.body.toString());
    if ("failed" in reply && reply.failed === "not done") return;
    for (const register of this.batched)
      if (isDone) register.acknowledged(null, reply.sentMs, reply.answeredMs);
      else register.unknown(null, reply.sentMs);
  }

  private async list(folder: string, registers: readonly Register[], node?: Node): Promise<boolean> {
    const prefix = this.prefix + folder;
    const found = new Map<string, string>();
    const sentMs = Date.now();
    for (let cursor: string | null = ""; cursor !== null; ) {
      const query: string = cursor === "" ? "" : `&cursor=${cursor}`;
      const path = `/${prefix}?list&values&limit=100${query}`;
      const reply = await this.doors.ask(this.random, "GET", path, { timeoutMs: 10_000, ...at(node) });
      if ("failed" in reply) return false;
      if (reply.status !== 200) {
        this.unexpected("a list of", prefix, reply);
        return true;
      }
      const page = JSON.parse(reply.body.toString()) as { keys: Listed[]; cursor: string | null };
      for (const { key, value, base64 } of page.keys)
        found.set(key, value ?? nameOf(Buffer.from(base64 ?? "", "base64")));
      ({ cursor } = page);
    }
    registers.forEach((register, index) => {
      const key = `${prefix}${index}`;
      this.tell(`${key} in a list`, register.read(found.get(key) ?? null, sentMs, Date.now()));
    });
    return true;
  }

  private unexpected(what: string, key: string, { status, body }: Answer): void {
    this.wrong(`${what} ${key} is answered ${status}: ${body.subarray(0, 200)}`);
  }
}

/** One object a line. */
function linesOf<Line>(body: Buffer): Line[] {
  const lines = body.toString().split("\n");
  return lines.filter((line) => line.trim() !== "").map((line) => JSON.parse(line) as Line);
}

function at(node: Node | undefined): { node: Node } | Record<string, never> {
  return node === undefined ? {} : { node };
}
