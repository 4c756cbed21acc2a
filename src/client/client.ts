/**
 * A client of minivault, for Node.js, browsers and whatever else has `fetch`.
 *
 *   const store = new MinivaultClient({ url: "http://localhost:3000" });
 *   await store.put("greeting", { text: "hello" }, { ttl: "5m" });
 *   await store.get("greeting");  // { text: "hello" }
 */
import { batch } from "./batch/batch.ts";
import {
  conditionsOf,
  deletedIn,
  documentOf,
  entryOf,
  existsOf,
  infoOf,
  rangeText,
  streamOf,
  writtenOf,
} from "./entries.ts";
import { count, list } from "./items.ts";
import { Lock, leasesOf } from "./lock.ts";
import type { BatchOptions, Operation, OperationResult } from "./options/operations.ts";
import type {
  ClientOptions,
  Deleted,
  DeleteOptions,
  Entry,
  IncrementOptions,
  Info,
  ListItem,
  ListOptions,
  ListPrefix,
  LockOptions,
  Patched,
  PatchOptions,
  ReadOptions,
  Signalled,
  StreamEntry,
  StreamOptions,
  WatchEvent,
  WatchOptions,
  WriteOptions,
  Written,
} from "./options/options.ts";
import { appendOf, type Change, incrementOf, patchOf } from "./transport/changes.ts";
import { type Fetch, Nodes } from "./transport/nodes.ts";
import { momentText, pathOf, queryOf, ttlText } from "./transport/paths.ts";
import {
  type Answer,
  ATTEMPT_MS_DEFAULT,
  type Call,
  RETRIES_DEFAULT,
  Requests,
  randomName,
} from "./transport/requests.ts";
import { type Body, BYTES_TYPE, bodyOf, isBytes, isJsonType, sendableOf } from "./transport/values.ts";
import { watch } from "./watch.ts";

/** A larger body carries no key: the server does not remember it. */
const ONCE_BYTES_MAX = 1024 * 1024;

export class MinivaultClient {
  private readonly requests: Requests;
  private readonly once: boolean;

  constructor(options: ClientOptions) {
    const { url, token, retries = RETRIES_DEFAULT, attemptMs = ATTEMPT_MS_DEFAULT, once = true } = options;
    // Called as a function of its own, which browsers demand.
    const fetch: Fetch = options.fetch ?? ((target, init) => globalThis.fetch(target, init));
    const authorization = token === undefined ? {} : { Authorization: `Bearer ${token}` };
    const headers = { ...authorization, ...options.headers };
    const nodes = new Nodes(typeof url === "string" ? [url] : url, fetch);
    this.requests = new Requests(nodes, fetch, { headers, retries, attemptMs });
    this.once = once;
  }

  /**
   * The value of a key: of JSON its value, of a text its text, of anything else its bytes; undefined: there
   * is none.
   */
  async get<T = unknown>(key: string, options: ReadOptions = {}): Promise<T | undefined> {
    return (await this.getEntry<T>(key, options))?.value;
  }

  /** The value with its version, type, end of life and metadata; undefined: there is none. */
  async getEntry<T = unknown>(key: string, options: ReadOptions = {}): Promise<Entry<T> | undefined> {
    const answer = await this.read("GET", key, options);
    return answer === null ? undefined : (entryOf(key, answer) as Entry<T>);
  }

  /** What is kept under a key, byte for byte: of JSON its text. */
  async getBytes(key: string, options: ReadOptions = {}): Promise<Uint8Array | undefined> {
    return (await this.read("GET", key, options))?.bytes;
  }

  /** The value, or a part of it, as it comes. Read it to its end, or cancel it. */
  async getStream(key: string, options: StreamOptions = {}): Promise<StreamEntry | undefined> {
    const range = rangeText(options);
    const answer = await this.read("GET", key, options, range === null ? {} : { Range: range }, true);
    return answer === null ? undefined : streamOf(key, answer);
  }

  /** What is known of a value, without it. */
  async head(key: string, options: ReadOptions = {}): Promise<Info | undefined> {
    const answer = await this.read("HEAD", key, options);
    return answer === null ? undefined : infoOf(key, answer);
  }

  async has(key: string, options: ReadOptions = {}): Promise<boolean> {
    return (await this.read("HEAD", key, options)) !== null;
  }

  /**
   * Stores a value: bytes (Uint8Array, ArrayBuffer, Blob, ReadableStream) as they are, a text with a `type`
   * as that text, anything else as JSON. A stream is sent once, whatever becomes of it; a browser collects it
   * first.
   */
  put(key: string, value: unknown, options: WriteOptions = {}): Promise<Written> {
    return this.store("PUT", key, value, options);
  }

  /** The same, only where there is no such key yet. Throws ExistsError. */
  create(key: string, value: unknown, options: WriteOptions = {}): Promise<Written> {
    return this.store("POST", key, value, options);
  }

  async delete(key: string, options: DeleteOptions = {}): Promise<Deleted> {
    const { signal, once } = options;
    const headers = conditionsOf(options);
    const call = { method: "DELETE", path: pathOf("_kv", key), headers, writes: true, signal };
    const answer = await this.requests.send({ ...call, ...this.onceOf(once, 0) });
    const { deleted = true } = documentOf(answer);
    return { deleted: deleted === true, etag: answer.headers.get("etag") };
  }

  /** Another end of life for what is there: `"none"` takes it away. Throws NotFoundError. */
  async touch(key: string, ttl: number | string, options: DeleteOptions = {}): Promise<{ etag: string }> {
    const { signal, once } = options;
    const path = `${pathOf("_kv", key)}${queryOf({ ttl: ttlText(ttl) })}`;
    const call = { method: "PATCH", path, headers: conditionsOf(options), writes: true, signal };
    const answer = await this.requests.send({ ...call, ...this.onceOf(once, 0) });
    return { etag: answer.headers.get("etag") ?? "" };
  }

  /**
   * Changes a JSON value in place, with no other write in between: an array is a list of operations (RFC
   * 6902), an object is merged into it (RFC 7396).
   */
  patch<T = unknown>(key: string, change: object, options: PatchOptions = {}): Promise<Patched<T>> {
    return this.change<T>(key, textOf(patchOf(change)), options);
  }

  /** Adds an element to an array, or a text to a text; with bytes: to bytes. */
  append<T = unknown>(key: string, value: unknown, options: PatchOptions = {}): Promise<Patched<T>> {
    if (isBytes(value)) return this.change<T>(key, bodyOf(value, BYTES_TYPE), options, true);
    return this.change<T>(key, textOf(appendOf(value)), options);
  }

  /** Adds to a number, which begins as `initial` where there is none; answers the sum. */
  async increment(key: string, by: number | bigint = 1, options: IncrementOptions = {}): Promise<number> {
    const body = textOf(incrementOf(by, options));
    return (await this.change<number>(key, body, options)).value;
  }

  /** The keys that begin with a prefix, in order of their bytes. */
  list(prefix = "", options: ListOptions = {}): AsyncGenerator<ListItem | ListPrefix, void, void> {
    return list(this.requests, prefix, options);
  }

  /** How many keys begin with a prefix. */
  count(prefix = "", options: Pick<ListOptions, "signal" | "consistency"> = {}): Promise<number> {
    return count(this.requests, prefix, options);
  }

  /**
   * Follows the keys that begin with a prefix, over as many connections as it takes. Leave the loop, or abort
   * the signal, to end it.
   */
  watch(prefix = "", options: WatchOptions = {}): AsyncGenerator<WatchEvent, void, void> {
    return watch(this.requests, prefix, options);
  }

  /**
   * Many operations in one request, each as if it were sent alone; their results, in their order. It comes
   * again as single writes do, where each key is named once, or only in increments, or only in gets.
   */
  batch(operations: readonly Operation[], options: BatchOptions = {}): Promise<OperationResult[]> {
    return batch(this.requests, operations, { ...options, once: options.once ?? this.once });
  }

  /** Deletes all keys that begin with a prefix; answers how many. The empty prefix means all keys. */
  async deleteAll(prefix: string, { signal }: Signalled = {}): Promise<number> {
    const path = `/_delete${queryOf(prefix === "" ? { all: 1 } : { prefix })}`;
    // Done again it goes on with what is left.
    const answer = await this.requests.send({ method: "POST", path, signal });
    const last = new TextDecoder().decode(answer.bytes).trim().split("\n").pop() ?? "{}";
    return deletedIn(last);
  }

  /** Takes a lock, which is renewed until it is released. Throws LockedError when somebody else holds it. */
  lock(key: string, options: LockOptions = {}): Promise<Lock> {
    return Lock.acquire(leasesOf(this, this.requests), key, options);
  }

  /** Null: there is no such key. */
  private async read(
    method: "GET" | "HEAD",
    key: string,
    { consistency, signal }: ReadOptions,
    headers: Record<string, string> = {},
    streams = false,
  ): Promise<Answer | null> {
    const path = `${pathOf("_raw", key)}${queryOf({ consistency })}`;
    const answer = await this.requests.send({ method, path, headers, signal, streams, expected: [404] });
    if (answer.status !== 404) return answer;
    await answer.stream?.cancel();
    return null;
  }

  private async store(
    method: "PUT" | "POST",
    key: string,
    value: unknown,
    options: WriteOptions,
  ): Promise<Written> {
    const { type, ttl, expires, meta = {}, once, signal } = options;
    const body = await sendableOf(bodyOf(value, type), signal);
    // What calls itself JSON and is to be kept as it is; there POST replaces.
    const isGiven = type !== undefined || typeof body.content !== "string";
    const isRaw = isGiven && isJsonType(body.type);
    const isCreate = isRaw && method === "POST";
    const headers = conditionsOf(isCreate ? { ...options, ifNoneMatch: "*" } : options);
    for (const [name, text] of Object.entries(meta)) headers[`X-Meta-${name}`] = text;
    const query = queryOf({ ttl: ttlText(ttl), expires: momentText(expires) });
    const path = `${pathOf(isRaw ? "_raw" : "_kv", key)}${query}`;
    const call = { method: isRaw ? "PUT" : method, path, headers, body, writes: true, signal };
    const answer = await this.requests.send({ ...call, ...this.onceOf(once, body.bytes) }).catch((error) => {
      throw isCreate ? existsOf(error) : error;
    });
    return writtenOf(answer);
  }

  private async change<T>(
    key: string,
    given: Body,
    options: PatchOptions & Pick<IncrementOptions, "ttl">,
    append = false,
  ): Promise<Patched<T>> {
    const { ttl, once, signal } = options;
    const body = await sendableOf(given, signal);
    const path = `${pathOf("_kv", key)}${queryOf({ ttl: ttlText(ttl), append })}`;
    const call = { method: "PATCH", path, headers: conditionsOf(options), body, writes: true, signal };
    const about = { ...this.onceOf(once, body.bytes), needsBody: true };
    const answer = await this.requests.send({ ...call, ...about });
    return { ...writtenOf(answer), value: documentOf(answer).value as T };
  }

  /** What a write is to be known by. */
  private onceOf(
    given: boolean | string | undefined,
    bytes: number | null,
  ): Pick<Call, "once" | "needsOnce"> {
    const wanted = given ?? this.once;
    if (wanted === false || bytes === null || bytes > ONCE_BYTES_MAX) return { once: null };
    return wanted === true ? { once: randomName() } : { once: wanted, needsOnce: true };
  }
}

function textOf({ text, type }: Change): Body {
  return bodyOf(text, type);
}
