/**
 * A store for Keyv 5 (npm): `new Keyv({ store: new KeyvMinivault({ url: "http://localhost:3000" }) })`.
 *
 * The key `k` of the namespace `n` is `keyv/n:k` here. What Keyv has made a text of is kept as that text, and
 * ends by itself when its time is over.
 */
import { MinivaultClient } from "../client.ts";
import type { OperationResult } from "../options/operations.ts";
import type { ClientOptions } from "../options/options.ts";

export interface KeyvMinivaultOptions extends Partial<ClientOptions> {
  /** In place of `url` and its like. */
  client?: MinivaultClient;
  /** What all keys begin with; "keyv/" when left out. */
  prefix?: string;
}

/** A store's entry as Keyv gives it to `setMany`. */
export interface KeyvEntry {
  key: string;
  value: unknown;
  /** Milliseconds. */
  ttl?: number | undefined;
}

const PREFIX_DEFAULT = "keyv/";
const TEXT_TYPE = "text/plain; charset=utf-8";
/** What the server takes: ten years. Keyv keeps the real end in its text. */
const TTL_MS_MAX = 3653 * 86_400_000;
/** Of one request: far below what the server takes. */
const BATCH_KEYS = 1000;
const BATCH_BYTES = 4 * 1024 * 1024;
/** A larger value is sent, or asked for, alone. */
const BATCHED_BYTES_MAX = 256 * 1024;

type Listener = (...words: unknown[]) => void;

export class KeyvMinivault {
  /** Set by Keyv. */
  namespace: string | undefined;
  /** By these Keyv knows a store that can be iterated; it believes it of some names only. */
  readonly opts: { url: string; dialect: string } & Record<string, unknown>;
  readonly client: MinivaultClient;
  private readonly prefix: string;
  private readonly listeners = new Map<string, Listener[]>();

  constructor(options: KeyvMinivaultOptions | string) {
    const given = typeof options === "string" ? { url: options } : options;
    const { client, prefix = PREFIX_DEFAULT, url, ...more } = given;
    if (client === undefined && url === undefined)
      throw new TypeError("name the url of a node, or give a client");
    // The last one counts, as in any cache: a write that is sent again does no harm.
    this.client = client ?? new MinivaultClient({ once: false, ...more, url: url ?? "" });
    this.prefix = prefix;
    this.opts = { url: String(url ?? ""), dialect: "redis" };
  }

  on(event: string, listener: Listener): this {
    this.listeners.set(event, [...(this.listeners.get(event) ?? []), listener]);
    return this;
  }

  async get<Value>(key: string): Promise<Value | undefined> {
    return this.told(() => this.client.get<Value>(this.prefix + key));
  }

  async getMany<Value>(keys: string[]): Promise<(Value | undefined)[]> {
    return this.told(async () => {
      const found: (Value | undefined)[] = [];
      for (let from = 0; from < keys.length; from += BATCH_KEYS) {
        const some = keys.slice(from, from + BATCH_KEYS);
        const results = await this.client.batch(some.map((key) => ({ op: "get", key: this.prefix + key })));
        const values = results.map((result, index) => this.valueIn<Value>(result, some[index]));
        found.push(...(await Promise.all(values)));
      }
      return found;
    });
  }

  private valueIn<Value>(
    result: OperationResult,
    key: string,
  ): Value | undefined | Promise<Value | undefined> {
    if (result.status === 200) return result.value as Value;
    // Too large for a batch, or it could not be told now: alone it is asked for with patience.
    return result.status === 404 ? undefined : this.client.get<Value>(this.prefix + key);
  }

  async set(key: string, value: unknown, ttl?: number): Promise<boolean> {
    await this.client.put(this.prefix + key, value, { ...typed(value), ...lifeOf(ttl) });
    return true;
  }

  /** Whether each was stored. Keyv's type says that it is told nothing, and Keyv itself wants to know. */
  // biome-ignore lint/suspicious/noExplicitAny: an array of booleans that is nothing, too
  async setMany(entries: KeyvEntry[]): Promise<any> {
    const done: boolean[] = [];
    for (const some of piecesOf(entries)) {
      const results = await this.client.batch(
        some.map(({ key, value, ttl }) => ({
          ...{ op: "put", key: this.prefix + key, value },
          ...typed(value),
          ...lifeOf(ttl),
        })),
      );
      const alone = results.map(async ({ status }, index) => {
        const { key, value, ttl } = some[index];
        return status < 300 || this.set(key, value, ttl);
      });
      done.push(...(await Promise.all(alone)));
    }
    return done;
  }

  async delete(key: string): Promise<boolean> {
    return (await this.client.delete(this.prefix + key)).deleted;
  }

  /** Whether all of them were there. */
  async deleteMany(keys: string[]): Promise<boolean> {
    let all = keys.length > 0;
    for (let from = 0; from < keys.length; from += BATCH_KEYS) {
      const some = keys.slice(from, from + BATCH_KEYS);
      const results = await this.client.batch(some.map((key) => ({ op: "delete", key: this.prefix + key })));
      const alone = results.map(({ status, deleted }, index) =>
        status < 300 ? deleted : this.delete(some[index]),
      );
      all = (await Promise.all(alone)).every((deleted) => deleted === true) && all;
    }
    return all;
  }

  async has(key: string): Promise<boolean> {
    return this.told(() => this.client.has(this.prefix + key));
  }

  hasMany(keys: string[]): Promise<boolean[]> {
    return Promise.all(keys.map((key) => this.has(key)));
  }

  /** Removes what is in the namespace; without one, all below the prefix. */
  async clear(): Promise<void> {
    await this.client.deleteAll(this.prefixOf(this.namespace));
  }

  async *iterator<Value>(namespace?: string): AsyncGenerator<[string, Value | undefined], void> {
    for await (const item of this.client.list(this.prefixOf(namespace), { values: true })) {
      if (!("key" in item)) continue;
      // Large ones do not come with a list.
      const value = "value" in item ? item.value : await this.client.get(item.key);
      if (value !== undefined) yield [item.key.slice(this.prefix.length), value as Value];
    }
  }

  async disconnect(): Promise<void> {}

  private prefixOf(namespace: string | undefined): string {
    return namespace === undefined ? this.prefix : `${this.prefix}${namespace}:`;
  }

  /** Keyv says nothing of reads that fail, if it is not told so. */
  private async told<T>(read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (error) {
      for (const listener of this.listeners.get("error") ?? []) listener(error);
      throw error;
    }
  }
}

export default KeyvMinivault;

/** Texts are kept as such; whatever else a serializer gives as what it is. */
function typed(value: unknown): { type?: string } {
  return typeof value === "string" ? { type: TEXT_TYPE } : {};
}

function lifeOf(ttl: number | undefined): { ttl?: string } {
  if (ttl === undefined || ttl === null || ttl === 0) return {};
  return { ttl: `${Math.min(TTL_MS_MAX, Math.max(1, Math.ceil(ttl)))}ms` };
}

/** Entries in pieces that fit a request each. */
function* piecesOf(entries: readonly KeyvEntry[]): Generator<KeyvEntry[]> {
  let piece: KeyvEntry[] = [];
  let bytes = 0;
  for (const entry of entries) {
    const size = sizeOf(entry.value);
    const isFull = piece.length === BATCH_KEYS || bytes + size > BATCH_BYTES;
    if (piece.length > 0 && (isFull || size > BATCHED_BYTES_MAX)) {
      yield piece;
      piece = [];
      bytes = 0;
    }
    piece.push(entry);
    bytes += size;
  }
  if (piece.length > 0) yield piece;
}

/** Bytes, at most. */
function sizeOf(value: unknown): number {
  if (value instanceof Uint8Array) return value.length;
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "");
  return text.length * 3;
}
