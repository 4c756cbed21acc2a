/**
 * A vault in memory with the timing of the real one: writes are answered in batches, later, one batch in flight;
 * uploads take only so much before they ask for a pause. It can be told to fail in every way that the interface
 * allows, and it records what would leak.
 */
import os from "node:os";
import { endOf } from "../../src/format/end.ts";
import { withEnd } from "../../src/format/fields/end.ts";
import { NO_TRAILER } from "../../src/format/fields/trailer.ts";
import { END_BYTES } from "../../src/format/offsets.ts";
import { conditionsHold } from "../../src/rules/conditions.ts";
import { endOfLife } from "../../src/rules/expiry.ts";
import { FrontFigures } from "../../src/shards/arena/front-figures.ts";
import type { KeyBytes, Upload, WriteDone, WriteHead, WriteResult } from "../../src/shards/arena/write.ts";
import type { Found, ShardStats, ValueReader, Vault, VaultStats } from "../../src/shards/vault/vault.ts";
import { type ErrorCode, VaultError } from "../../src/util/errors.ts";
import { Gatherings } from "../../src/util/gathering/gatherings.ts";
import { CHUNK_BYTES, RECEIVING_BYTES_MAX, RECEIVING_MAX } from "../../src/util/limits.ts";

export interface StoredValue {
  json: boolean;
  contentType: string;
  trailer: Uint8Array;
  /** Bytes that a GET sends. */
  bytes: Uint8Array;
  version: number;
  damaged: boolean;
  /** A value of this size that is not in memory: byte i is i % 251. */
  virtualBytes?: number;
  /** Reading at or after this offset fails. */
  brokenAt?: number;
}

export interface Failure {
  error: ErrorCode;
  detail?: string;
}

const PIECE_PATTERN = 251;
/** A window onto the pattern from any offset: long enough for one piece behind any phase. */
const PATTERN = Uint8Array.from({ length: CHUNK_BYTES + PIECE_PATTERN }, (_, index) => index % PIECE_PATTERN);

const NO_ETAG = new Uint8Array(34);

export class FakeVault implements Vault {
  keepsFields = true;
  keepsEnds = true;
  remembers = true;
  readonly gatherings = new Gatherings(os.tmpdir(), {
    bytesMax: RECEIVING_BYTES_MAX,
    countMax: RECEIVING_MAX,
  });
  readonly values = new Map<string, StoredValue>();
  /** submit and upload answer "full". */
  full = false;
  /** submit throws, as a bug would. */
  submitThrows = false;
  /** find throws, as a bug would. */
  findThrows = false;
  findError: Error = new Error("find is broken");
  /** The next write's result. */
  nextFailure: Failure | null = null;
  /** An upload calls onFail once it has taken this many bytes. */
  failUploadAt: { bytes: number; failure: Failure; throws?: boolean } | null = null;
  /** Holds batches and drains until `release`. */
  held = false;
  /** Bytes an upload takes before it says "enough"; drained DRAIN_MS later. */
  uploadWindowBytes = 4 * 1024 * 1024;
  /** 0: drained in the next turn of the loop. */
  drainMs = 0;
  /** Do not keep uploaded bytes: for sizes that memory could not hold. */
  forgetBodies = false;
  readersOpen = 0;
  uploadsOpen = 0;
  uploadsAborted = 0;
  uploadBytes = 0;
  uploadPauses = 0;
  bytesAfterFull = 0;
  shardStats: ShardStats[] = [this.shard(0), this.shard(1)];
  private version = 0;
  private queue: Array<() => void> = [];
  private scheduled = false;
  private waiting: Array<() => void> = [];
  readonly figures = new FrontFigures();
  private readonly found: FakeFound = new FakeFound(this);
  private readonly result: WriteResult = {
    error: null,
    detail: "",
    created: false,
    deleted: false,
    etag: null,
  };

  private shard(shard: number): ShardStats {
    return {
      shard,
      keys: 0,
      liveBytes: 0,
      storedBytes: 100,
      slabs: 1,
      indexBytes: 64,
      indexGrowths: 0,
      tombstones: 0,
      endingKeys: 0,
      endedValues: 0,
      calendarEntries: 0,
      damagedRecords: 0,
      scrubbedBytes: 0,
      scrubPasses: 0,
      scrubDamaged: 0,
      missingPages: 0,
      brokenSlabs: 0,
      compactedBytes: 0,
      writesStopped: false,
      missingSlabs: 0,
      inDoubt: false,
      directoryGone: false,
      diskFull: false,
      outOfDescriptors: false,
      writesFail: false,
    };
  }

  /** Stores a value at once, without the queue. */
  put(key: string, body: string | Uint8Array, more: Partial<StoredValue> = {}): StoredValue {
    const value: StoredValue = {
      json: false,
      contentType: "application/octet-stream",
      trailer: NO_TRAILER,
      bytes: typeof body === "string" ? Buffer.from(body) : body,
      version: ++this.version,
      damaged: false,
      ...more,
    };
    this.values.set(key, value);
    return value;
  }

  find(key: KeyBytes): Found {
    if (this.findThrows) throw this.findError;
    const value = this.values.get(keyText(key));
    this.found.load(value);
    return this.found;
  }

  /** The next pieces of large values that are not ready at once. */
  coldPieces = 0;
  /** The next look-ups of `findResident` that answer "cold", and what they are waiting for. */
  coldAnswers = 0;
  warming: Array<() => void> = [];

  findResident(key: KeyBytes): Found {
    const found = this.find(key);
    if (this.coldAnswers > 0) {
      this.coldAnswers--;
      found.state = "cold";
    }
    return found;
  }

  now(): number {
    return Date.now();
  }

  end(_key: KeyBytes, done: WriteDone): boolean {
    setImmediate(() => done(this.fill(null, "", null)));
    return true;
  }

  warm(done: () => void): void {
    if (this.held) this.warming.push(done);
    else setImmediate(done);
  }

  submit(head: WriteHead, body: Uint8Array, done: WriteDone): boolean {
    if (this.submitThrows) throw new Error("submit is broken");
    if (this.full) return false;
    if (body.length > CHUNK_BYTES) throw new Error("submit got more than a chunk");
    const copy = { ...head, keyText: keyText(head.key) };
    const bytes = Uint8Array.from(body);
    this.enqueue(() => this.execute(copy, bytes, done));
    return true;
  }

  upload(head: WriteHead): Upload | null {
    if (this.full) return null;
    const copy = { ...head, keyText: keyText(head.key) };
    this.uploadsOpen++;
    const pieces: Uint8Array[] = [];
    let pendingBytes = 0;
    let takenBytes = 0;
    let open = true;
    let failed: Failure | null = null;
    const close = () => {
      if (!open) return false;
      open = false;
      this.uploadsOpen--;
      return true;
    };
    const upload: Upload = {
      onDrain: () => {},
      onFail: () => {},
      write: (bytes) => {
        if (!open) throw new Error("write on a closed upload");
        if (this.failUploadAt?.throws) throw new Error("upload is broken");
        if (pendingBytes >= this.uploadWindowBytes) this.bytesAfterFull += bytes.length;
        takenBytes += bytes.length;
        pendingBytes += bytes.length;
        this.uploadBytes += bytes.length;
        if (!this.forgetBodies) pieces.push(Uint8Array.from(bytes));
        const failAt = this.failUploadAt;
        if (failAt !== null && takenBytes >= failAt.bytes) {
          failed = failAt.failure;
          this.later(() => {
            if (close()) upload.onFail(this.fill(failAt.failure.error, failAt.failure.detail ?? "", null));
          });
          return true;
        }
        if (pendingBytes < this.uploadWindowBytes) return true;
        this.uploadPauses++;
        this.later(() => {
          pendingBytes = 0;
          if (open) upload.onDrain();
        });
        return false;
      },
      commit: (done) => {
        if (!open) throw new Error("commit on a closed upload");
        const failure = failed;
        close();
        this.enqueue(() => {
          if (failure !== null) return done(this.fill(failure.error, failure.detail ?? "", null));
          this.execute(copy, Buffer.concat(pieces), done);
        });
      },
      abort: () => {
        if (close()) this.uploadsAborted++;
      },
    };
    return upload;
  }

  stats(): VaultStats {
    const first = this.shardStats[0];
    first.keys = this.values.size;
    first.liveBytes = [...this.values.values()].reduce((total, value) => total + value.bytes.length, 0);
    return {
      shards: this.shardStats,
    };
  }

  async close(): Promise<void> {}

  /** Lets held batches and drains go. */
  release(): void {
    this.held = false;
    const waiting = this.waiting;
    this.waiting = [];
    for (const run of waiting) run();
    for (const run of this.warming.splice(0)) run();
  }

  private later(run: () => void): void {
    const start = () => (this.drainMs > 0 ? setTimeout(run, this.drainMs) : setImmediate(run));
    if (this.held) this.waiting.push(start);
    else start();
  }

  private enqueue(run: () => void): void {
    this.queue.push(run);
    this.figures.queued(0);
    if (this.scheduled) return;
    this.scheduled = true;
    this.later(() => {
      const batch = this.queue;
      this.queue = [];
      this.scheduled = false;
      this.figures.answered(batch.length, 0);
      for (const each of batch) each();
    });
  }

  private execute(head: QueuedHead, body: Uint8Array, done: WriteDone): void {
    done(this.outcome(head, body));
  }

  private outcome(head: QueuedHead, body: Uint8Array): WriteResult {
    if (this.nextFailure !== null) {
      const { error, detail } = this.nextFailure;
      this.nextFailure = null;
      return this.fill(error, detail ?? "", null);
    }
    const old = this.values.get(head.keyText);
    const oldEtag = old === undefined ? "" : etagText(old.version);
    if (!conditionsHold(head, old === undefined ? null : oldEtag))
      return this.fill("precondition_failed", "", old === undefined ? null : Buffer.from(oldEtag));
    if (head.verb === "delete") {
      this.values.delete(head.keyText);
      const deleted = this.fill(null, "", old ? Buffer.from(etagText(++this.version)) : null);
      deleted.deleted = old !== undefined;
      return deleted;
    }
    if (head.verb === "post" && old) return this.fill("exists", "", Buffer.from(oldEtag));
    const failure = head.json ? jsonFailure(body) : null;
    if (failure !== null) return this.fill(failure, "", null);
    const value = this.put(head.keyText, body, {
      json: head.json,
      contentType: head.contentType,
      trailer: withEnd(head.trailer, endOfLife(head.life, this.now())),
    });
    const stored = this.fill(null, "", Buffer.from(etagText(value.version)));
    stored.created = old === undefined;
    return stored;
  }

  private fill(error: ErrorCode | null, detail: string, etag: Uint8Array | null): WriteResult {
    Object.assign(this.result, { error, detail, etag, created: false, deleted: false });
    return this.result;
  }
}

/** A head whose key no longer depends on the caller's scratch. */
type QueuedHead = WriteHead & { keyText: string };

class FakeFound implements Found {
  state: Found["state"] = "absent";
  json = false;
  contentType = "";
  trailer = NO_TRAILER;
  isBare = true;
  end = 0;
  valueBytes = 0;
  versionMs = 0;
  readonly etag = Uint8Array.from(NO_ETAG);
  private readonly vault: FakeVault;
  private value: StoredValue | undefined;
  private etagVersion = -1;

  constructor(vault: FakeVault) {
    this.vault = vault;
  }

  load(value: StoredValue | undefined): void {
    this.value = value;
    this.state = value === undefined ? "absent" : value.damaged ? "damaged" : "found";
    if (value === undefined) return;
    this.json = value.json;
    this.contentType = value.contentType;
    this.trailer = value.trailer;
    this.end = endOf(value.trailer);
    this.isBare = value.trailer.length === (this.end === 0 ? 0 : END_BYTES);
    this.valueBytes = value.virtualBytes ?? value.bytes.length;
    if (this.etagVersion !== value.version) this.etag.set(Buffer.from(etagText(value.version)));
    this.etagVersion = value.version;
    this.versionMs = versionMs(value.version);
  }

  view(start = 0, end = this.valueBytes): Uint8Array {
    const value = this.value as StoredValue;
    if (this.valueBytes > CHUNK_BYTES) throw new Error("view of a value of several records");
    if (value.brokenAt !== undefined) throw new VaultError("corrupt");
    return value.bytes.subarray(start, end);
  }

  copy(): Uint8Array {
    return this.view().slice();
  }

  open(): ValueReader {
    const vault = this.vault;
    const value = this.value as StoredValue;
    const valueBytes = this.valueBytes;
    let open = true;
    vault.readersOpen++;
    return {
      valueBytes,
      ready(_offset, then) {
        if (vault.coldPieces === 0) return true;
        vault.coldPieces--;
        vault.warm(then);
        return false;
      },
      read(offset) {
        if (!open) throw new Error("read after close");
        const end = Math.min(valueBytes, (Math.floor(offset / CHUNK_BYTES) + 1) * CHUNK_BYTES);
        if (offset >= end) throw new Error("read past the end");
        if (value.brokenAt !== undefined && value.brokenAt < end) throw new VaultError("corrupt");
        if (value.virtualBytes === undefined) return value.bytes.subarray(offset, end);
        const phase = offset % PIECE_PATTERN;
        return PATTERN.subarray(phase, phase + end - offset);
      },
      close() {
        if (open) vault.readersOpen--;
        open = false;
      },
    };
  }
}

export function etagText(version: number): string {
  return `"${version.toString(16).padStart(32, "0")}"`;
}

/** What the version's tag says of its time: milliseconds since 1970. */
function versionMs(version: number): number {
  return Number.parseInt(etagText(version).slice(1, 13), 16);
}

function keyText(key: KeyBytes): string {
  return Buffer.from(key.bytes.subarray(0, key.length)).toString("utf8");
}

function jsonFailure(body: Uint8Array): ErrorCode | null {
  try {
    const document: unknown = JSON.parse(Buffer.from(body).toString("utf8"));
    if (typeof document !== "object" || document === null) return "bad_json";
    return "value" in document ? null : "no_value";
  } catch {
    return "bad_json";
  }
}
