/**
 * What one node has missed: in memory, and in its file of hints.
 *
 * The file of a node, `hints/<hash of its URL>`: its URL as one line; then entries of xxh32 of the rest (4) ·
 * key length (2) · 0 (2) · ballot (16) · key. It is appended to, read back at a start as far as it is whole,
 * and written anew when most of it is done.
 */
import { rmSync } from "node:fs";
import { appendFile, rename, writeFile } from "node:fs/promises";
import type { Ballot } from "../../format/record.ts";
import { compareBallots } from "../../format/version.ts";
import { reasonOf } from "../../platform/system-error.ts";
import { nameOf } from "../../util/bytes.ts";
import { hash32 } from "../../util/hash.ts";
import { RECORD_KEY_BYTES_MAX } from "../../util/limits.ts";
import { Recurring } from "../../util/recurring.ts";

/** Hints that wait for one node. */
export const HINTS_MAX = 100_000;
/** The same in bytes of keys. */
const HINT_BYTES_MAX = 16 * 1024 * 1024;
/** Hints on their way to one node. */
const WINDOW = 64;
/** Pause after one that could not be delivered, and between looks whether a node is up. */
export const RETRY_MS = 500;
/** A file is written anew when it has this many entries more than wait. */
const STALE_MAX = 20_000;
const ENTRY_BYTES = 24;
/** More than a file has: keys that wait, as many that are stale, and the rest of each entry. */
export const HINT_FILE_BYTES_MAX = 4 * HINT_BYTES_MAX;

/** done: it holds this or something newer, or never will. later: try again. */
export type HintOutcome = "done" | "later";

export interface HintQueueSetup {
  isUp: (node: string) => boolean;
  /** Sends what is newest of the key, at least as new as the ballot, to the node. Never rejects. */
  send: (node: string, key: Uint8Array, ballot: Ballot) => Promise<HintOutcome>;
  warn: (message: string) => void;
}

export class HintQueue {
  readonly node: string;
  sent = 0;
  dropped = 0;
  private readonly setup: HintQueueSetup;
  private readonly file: string;
  /** Ballots by key (as latin1), oldest first. */
  private readonly ballots = new Map<string, Ballot>();
  private readonly underWay = new Set<string>();
  private keyBytes = 0;
  private unwritten: Uint8Array[] = [];
  private fileEntries = 0;
  private fresh = true;
  private writing: Promise<void> | null = null;
  private pauseUntil = 0;
  private stopped = false;
  private readonly trouble = new Recurring((reason) =>
    this.setup.warn(`${this.file} could not be written: ${reason}`),
  );

  constructor(node: string, file: string, setup: HintQueueSetup) {
    this.node = node;
    this.file = file;
    this.setup = setup;
  }

  get waiting(): number {
    return this.ballots.size;
  }

  add(key: Uint8Array, ballot: Ballot, write: boolean): void {
    const name = nameOf(key);
    const known = this.ballots.get(name);
    if (known !== undefined) {
      if (compareBallots(ballot, known) <= 0) return;
    } else if (this.ballots.size >= HINTS_MAX || this.keyBytes + key.length > HINT_BYTES_MAX) {
      this.dropped++;
      return;
    } else this.keyBytes += key.length;
    this.ballots.set(name, ballot);
    if (write) this.unwritten.push(entryOf(key, ballot));
    else this.fileEntries++;
  }

  /** Sends on, if there is room in the window and the node is up. */
  pump(): void {
    if (this.stopped || performance.now() < this.pauseUntil || !this.setup.isUp(this.node)) return;
    for (const [name, ballot] of this.ballots) {
      if (this.underWay.size >= WINDOW) return;
      if (this.underWay.has(name)) continue;
      this.underWay.add(name);
      void this.setup.send(this.node, Buffer.from(name, "latin1"), ballot).then((outcome) => {
        this.underWay.delete(name);
        if (outcome === "later") this.pauseUntil = performance.now() + RETRY_MS;
        else if (this.ballots.get(name) === ballot) {
          this.sent++;
          this.keyBytes -= name.length;
          this.ballots.delete(name);
        }
        if (this.underWay.size < WINDOW / 2) this.pump();
      });
    }
  }

  stop(): void {
    this.stopped = true;
  }

  clear(): void {
    this.stopped = true;
    this.ballots.clear();
    this.unwritten = [];
    rmSync(this.file, { force: true });
  }

  load(bytes: Buffer): void {
    this.fresh = false;
    let at = 0;
    while (at + ENTRY_BYTES <= bytes.length) {
      const end = at + ENTRY_BYTES + bytes.readUInt16LE(at + 4);
      const length = end - at - ENTRY_BYTES;
      if (length === 0 || length > RECORD_KEY_BYTES_MAX || end > bytes.length) break;
      if (hash32(bytes.subarray(at + 4, end), 0) >>> 0 !== bytes.readUInt32LE(at)) break;
      const ballot = {
        clockLow: bytes.readUInt32LE(at + 8),
        clockHigh: bytes.readUInt32LE(at + 12),
        node: bytes.readUInt32LE(at + 16),
        incarnation: bytes.readUInt32LE(at + 20),
      };
      this.add(bytes.subarray(at + ENTRY_BYTES, end), ballot, false);
      at = end;
    }
    // Nothing may be appended behind a torn end.
    if (at < bytes.length) this.fresh = true;
  }

  async settled(): Promise<void> {
    await this.writing;
  }

  flush(): void {
    if (this.writing !== null) return;
    if (this.ballots.size === 0 && this.fileEntries > 0) {
      this.unwritten = [];
      this.fileEntries = 0;
      this.fresh = true;
      rmSync(this.file, { force: true });
      return;
    }
    if (this.ballots.size === 0) this.unwritten = [];
    const stale = this.fileEntries + this.unwritten.length - this.ballots.size > STALE_MAX;
    if (this.unwritten.length === 0 && !stale) return;
    this.writing = (this.fresh || stale ? this.rewrite() : this.append())
      .then(() => this.trouble.passed())
      .catch((error: unknown) => {
        this.fresh = true;
        this.trouble.failed(reasonOf(error));
      })
      .finally(() => {
        this.writing = null;
      });
  }

  private append(): Promise<void> {
    const entries = this.unwritten;
    this.unwritten = [];
    this.fileEntries += entries.length;
    return appendFile(this.file, Buffer.concat(entries), { mode: 0o600 });
  }

  private async rewrite(): Promise<void> {
    this.unwritten = [];
    this.fresh = false;
    this.fileEntries = this.ballots.size;
    const entries: Uint8Array[] = [Buffer.from(`${this.node}\n`)];
    for (const [name, ballot] of this.ballots) entries.push(entryOf(Buffer.from(name, "latin1"), ballot));
    await writeFile(`${this.file}.new`, Buffer.concat(entries), { mode: 0o600 });
    await rename(`${this.file}.new`, this.file);
  }
}

function entryOf(key: Uint8Array, ballot: Ballot): Uint8Array {
  const entry = Buffer.alloc(ENTRY_BYTES + key.length);
  entry.writeUInt16LE(key.length, 4);
  entry.writeUInt32LE(ballot.clockLow >>> 0, 8);
  entry.writeUInt32LE(ballot.clockHigh >>> 0, 12);
  entry.writeUInt32LE(ballot.node >>> 0, 16);
  entry.writeUInt32LE(ballot.incarnation >>> 0, 20);
  entry.set(key, ENTRY_BYTES);
  entry.writeUInt32LE(hash32(entry.subarray(4), 0) >>> 0, 0);
  return entry;
}
