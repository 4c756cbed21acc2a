/**
 * A driver for unstorage (npm): `createStorage({ driver: minivault({ url: "http://localhost:3000" }) })`.
 *
 * The key `a:b` is `a/b` here, below the base if there is one: as the server's own `/_unstorage/` has it.
 */
import { MinivaultClient } from "../client.ts";
import type { ClientOptions, ListItem, ListPrefix, WatchEvent } from "../options/options.ts";
import { BYTES_TYPE, type Bytes } from "../transport/values.ts";

export interface MinivaultDriverOptions extends Partial<ClientOptions> {
  /** In place of `url` and its like. */
  client?: MinivaultClient;
  /** What all keys begin with, such as "app": then nothing else is seen or removed. */
  base?: string;
  /** Told when nothing can be watched any more; the console when left out. */
  onWatchError?: (error: unknown) => void;
}

export interface TransactionOptions {
  /** Seconds. */
  ttl?: number;
  // biome-ignore lint/suspicious/noExplicitAny: unstorage hands on what its callers give
  [name: string]: any;
}

/** As unstorage calls what it takes for a value. */
export type StorageValue = null | string | number | boolean | object;

type WatchCallback = (event: "update" | "remove", key: string) => unknown;

/** What is known of a value. */
export interface Meta {
  mtime?: Date;
  /** Seconds. */
  ttl?: number;
  /** Bytes. */
  size?: number;
  etag?: string;
  [name: string]: StorageValue | Date | undefined;
}

/** What unstorage needs of a driver, as far as it is here. */
export interface MinivaultDriver {
  name: string;
  options: MinivaultDriverOptions;
  flags: { ttl: boolean };
  getInstance(): MinivaultClient;
  hasItem(key: string): Promise<boolean>;
  getItem(key: string): Promise<StorageValue>;
  getItems(items: { key: string }[]): Promise<{ key: string; value: StorageValue }[]>;
  getItemRaw(key: string): Promise<Uint8Array | null>;
  setItem(key: string, value: string, options?: TransactionOptions): Promise<void>;
  setItemRaw(key: string, value: unknown, options?: TransactionOptions): Promise<void>;
  removeItem(key: string): Promise<void>;
  getMeta(key: string): Promise<Meta | null>;
  getKeys(base?: string): Promise<string[]>;
  clear(base?: string): Promise<void>;
  watch(callback: WatchCallback): Promise<() => Promise<void>>;
}

const TEXT_TYPE = "text/plain; charset=utf-8";
/** Removals under way at once. */
const LANES = 16;
const BATCH_KEYS = 1000;

/** unstorage calls these as functions of their own, so each knows what it belongs to. */
class Driver implements MinivaultDriver {
  readonly name = "minivault";
  readonly options: MinivaultDriverOptions;
  readonly flags = { ttl: true };
  private readonly client: MinivaultClient;
  private readonly prefix: string;

  constructor(options: MinivaultDriverOptions) {
    const { client, base = "", onWatchError: _, url, ...more } = options;
    if (client === undefined && url === undefined)
      throw new TypeError("name the url of a node, or give a client");
    this.options = options;
    // The last one counts, as with any other driver: a write that is sent again does no harm.
    this.client = client ?? new MinivaultClient({ once: false, ...more, url: url ?? "" });
    this.prefix = pathOf(base);
  }

  readonly getInstance = (): MinivaultClient => this.client;

  readonly hasItem = (key: string): Promise<boolean> => this.client.has(this.nameOf(key));

  readonly getItem = async (key: string): Promise<StorageValue> =>
    shown(await this.client.get(this.nameOf(key)));

  readonly getItems = async (items: { key: string }[]): Promise<{ key: string; value: StorageValue }[]> => {
    const values: unknown[] = [];
    for (let from = 0; from < items.length; from += BATCH_KEYS) {
      const some = items.slice(from, from + BATCH_KEYS).map(({ key }) => this.nameOf(key));
      const results = await this.client.batch(some.map((key) => ({ op: "get", key })));
      const alone = results.map(({ status, value }, index) =>
        // Too large for a batch, or it could not be told now: alone it is asked for with patience.
        status === 200 || status === 404 ? value : this.client.get(some[index]),
      );
      values.push(...(await Promise.all(alone)));
    }
    return items.map(({ key }, index) => ({ key, value: shown(values[index]) }));
  };

  readonly getItemRaw = async (key: string): Promise<Uint8Array | null> =>
    (await this.client.getBytes(this.nameOf(key))) ?? null;

  readonly setItem = async (key: string, value: string, { ttl }: TransactionOptions = {}): Promise<void> => {
    await this.client.put(this.nameOf(key), value, { type: TEXT_TYPE, ...lifeOf(ttl) });
  };

  readonly setItemRaw = async (
    key: string,
    value: unknown,
    { ttl }: TransactionOptions = {},
  ): Promise<void> => {
    await this.client.put(this.nameOf(key), rawOf(value), { type: BYTES_TYPE, ...lifeOf(ttl) });
  };

  readonly removeItem = async (key: string): Promise<void> => {
    await this.client.delete(this.nameOf(key));
  };

  readonly getMeta = async (key: string): Promise<Meta | null> => {
    const info = await this.client.head(this.nameOf(key));
    if (info === undefined) return null;
    const { lastModified, ttl, bytes, etag } = info;
    return {
      etag,
      ...(lastModified === null ? {} : { mtime: lastModified }),
      ...(ttl === null ? {} : { ttl }),
      ...(bytes === null ? {} : { size: bytes }),
    };
  };

  readonly getKeys = async (base = ""): Promise<string[]> => {
    const found: string[] = [];
    for await (const item of this.client.list(this.prefix + pathOf(base))) {
      const key = keyIn(item, this.prefix);
      if (key !== null) found.push(key);
    }
    return found;
  };

  readonly clear = async (base = ""): Promise<void> => {
    const path = this.prefix + pathOf(base);
    if (path !== "") {
      await this.client.deleteAll(path);
      return;
    }
    // Of a whole store only what unstorage has names for.
    const keys = await this.getKeys();
    const lane = async (): Promise<void> => {
      for (let key = keys.pop(); key !== undefined; key = keys.pop()) await this.removeItem(key);
    };
    await Promise.all(Array.from({ length: LANES }, lane));
  };

  readonly watch = (callback: WatchCallback): Promise<() => Promise<void>> =>
    follow(this.client, this.prefix, callback, this.options.onWatchError ?? report);

  private nameOf(key: string): string {
    return this.prefix + key.replaceAll(":", "/");
  }
}

export function minivault(options: MinivaultDriverOptions | string): MinivaultDriver {
  return new Driver(typeof options === "string" ? { url: options } : options);
}

export default minivault;

/** What keys below a base begin with. */
function pathOf(base: string): string {
  const segments = base.split(/[:/\\]/).filter((segment) => segment !== "");
  return segments.length === 0 ? "" : `${segments.join("/")}/`;
}

/** The key of an item; null: unstorage has no name for it. */
function keyIn(item: ListItem | ListPrefix, prefix: string): string | null {
  if (!("key" in item)) return null;
  const name = item.key.slice(prefix.length);
  if (/[:\\?]/.test(name)) return null;
  const segments = name.split("/");
  return segments.some((segment) => /^\.{0,2}$/.test(segment)) ? null : segments.join(":");
}

/** What unstorage makes a value of. */
function shown(value: unknown): StorageValue {
  if (value === undefined) return null;
  return value instanceof Uint8Array ? new TextDecoder().decode(value) : (value as StorageValue);
}

function rawOf(value: unknown): Bytes | string {
  const isBytes =
    value instanceof Uint8Array ||
    value instanceof ArrayBuffer ||
    value instanceof Blob ||
    value instanceof ReadableStream;
  if (isBytes || typeof value === "string") return value;
  return JSON.stringify(value);
}

function lifeOf(ttl: number | undefined): { ttl?: number } {
  return ttl === undefined || !(ttl > 0) ? {} : { ttl };
}

function report(error: unknown): void {
  console.error("minivault: nothing can be watched any more:", error);
}

/** Tells of changes once it follows them, until what it answers is called. */
async function follow(
  client: MinivaultClient,
  prefix: string,
  callback: WatchCallback,
  failed: (error: unknown) => void,
): Promise<() => Promise<void>> {
  const stop = new AbortController();
  const events = client.watch(prefix, { progress: true, signal: stop.signal });
  const tell = async (event: WatchEvent): Promise<void> => {
    if (event.event === "reset") {
      // Something may have been missed: whatever is there may be new.
      for await (const item of client.list(prefix, { signal: stop.signal })) {
        const key = keyIn(item, prefix);
        if (key !== null) callback("update", key);
      }
      return;
    }
    if (!("key" in event)) return;
    const key = keyIn({ key: event.key } as ListItem, prefix);
    if (key !== null) callback(event.event === "put" ? "update" : "remove", key);
  };
  // The first one says that it follows.
  const first = await events.next();
  if (first.done !== true) await tell(first.value);
  const following = (async () => {
    for await (const event of events) await tell(event);
  })().catch((error) => {
    if (!stop.signal.aborted) failed(error);
  });
  return async () => {
    stop.abort();
    await following;
  };
}
