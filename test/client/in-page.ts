/**
 * What the libraries do inside of a page. A browser gets this file without its types, so it imports nothing: what was built is handed to it.
 */

import type * as client from "../../src/client/index.ts";
import type {
  ClientOptions,
  MinivaultError,
  UnavailableError,
  UnknownOutcomeError,
} from "../../src/client/index.ts";
import type * as keyv from "../../src/client/keyv/keyv.ts";
import type * as unstorage from "../../src/client/unstorage/unstorage.ts";

type Client = typeof client;

/** What becomes of a promise that is to fail. */
async function errorOf(promise: Promise<unknown>): Promise<[name: string, status: number, code: string]> {
  try {
    await promise;
  } catch (error) {
    const { name, status, code } = error as MinivaultError;
    return [name, status, code];
  }
  throw new Error("it did not fail");
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 20));
}

/** Bytes that compression, or another order, would show. */
function content(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let at = 0, state = 1; at < length; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

function isSame(a: Uint8Array | undefined, b: Uint8Array): boolean {
  return a !== undefined && a.length === b.length && a.every((byte, at) => byte === b[at]);
}

function streamOf(bytes: Uint8Array<ArrayBuffer>, pieceBytes: number): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.length) return controller.close();
      controller.enqueue(bytes.subarray(at, at + pieceBytes));
      at += pieceBytes;
    },
  });
}

/** Every method, against one node. */
export async function everyMethod({ MinivaultClient }: Client, options: ClientOptions) {
  const store = new MinivaultClient(options);
  const stop = new AbortController();
  const told: string[] = [];
  const watching = (async () => {
    for await (const event of store.watch("b/", { initial: true, signal: stop.signal }))
      told.push("key" in event ? `${event.event} ${event.key}` : event.event);
  })().catch((error) => error);
  await until(() => told.includes("live"));

  const { created, etag } = await store.put("b/json", { a: ["ä"] }, { ttl: 3600, meta: { of: "a page" } });
  const entry = await store.getEntry("b/json");
  const bytes = content(100_000);
  await store.put("b/bytes", bytes);
  const results: Record<string, unknown> = {
    created,
    entry: entry && [entry.value, entry.type, entry.meta, entry.etag === etag, (entry.ttl ?? 0) > 3000],
    bytes: isSame(await store.get<Uint8Array>("b/bytes"), bytes),
    absent: [await store.get("b/absent"), await store.has("b/absent")].map(String),
    exists: await errorOf(store.create("b/json", 2)),
    condition: await errorOf(store.put("b/json", 2, { ifMatch: `"${"0".repeat(32)}"` })),
    isChanged: (await store.put("b/json", { a: 1 }, { ifMatch: etag })).created === false,
    increment: [await store.increment("b/n", 5), await store.increment("b/n")],
    patch: (await store.patch("b/json", { a: null, b: 2 })).value,
    append: (await store.append("b/list", 1).catch((error) => error)).name,
  };
  const names: string[] = [];
  for await (const item of store.list("b/", { limit: 2 })) if ("key" in item) names.push(item.key);
  results.list = [names, await store.count("b/")];
  const done = await store.batch([
    { op: "put", key: "b/batch", value: 1 },
    { op: "get", key: "b/bytes" },
  ]);
  results.batch = [done.map(({ status }) => status), isSame(done[1].value as Uint8Array, bytes)];
  const lock = await store.lock("b/lock", { ttl: 60 });
  results.lock = await errorOf(store.lock("b/lock"));
  await lock.release();
  results.deleted = [(await store.delete("b/n")).deleted, await store.has("b/n")];
  results.rest = await store.deleteAll("b/");
  await until(() => told.includes("delete b/json"));
  results.watch = ["put b/json", "put b/bytes", "put b/n", "delete b/n"].filter((one) => !told.includes(one));
  stop.abort(new Error("enough"));
  results.stopped = (await watching).message;
  return results;
}

/** Streams, files' way of being sent, and parts. */
export async function streams({ MinivaultClient }: Client, options: ClientOptions) {
  const store = new MinivaultClient(options);
  const bytes = content(9_000_001);
  const isThere = async (key: string): Promise<boolean> => {
    const { stream, bytes: length } = (await store.getStream(key)) ?? {};
    const pieces: Uint8Array<ArrayBuffer>[] = [];
    const reader = stream?.getReader();
    for (let piece = await reader?.read(); piece?.value !== undefined; piece = await reader?.read())
      pieces.push(piece.value as Uint8Array<ArrayBuffer>);
    const all = new Uint8Array(await new Blob(pieces).arrayBuffer());
    return isSame(all, bytes) && length === bytes.length;
  };
  await store.put("s/stream", streamOf(bytes, 70_000), { type: "video/mp4" });
  await store.put("s/blob", new Blob([bytes], { type: "image/png" }));
  await store.put("s/log", bytes.subarray(0, 1000));
  await store.append("s/log", streamOf(bytes.slice(1000, 5000), 700));
  await store.append("s/log", new Blob([bytes.subarray(5000, 6000)]));
  const part = await store.getStream("s/stream", { start: 5, end: 10 });
  const found = [...new Uint8Array(await new Response(part?.stream).arrayBuffer())];
  const left = await store.getStream("s/stream");
  await left?.stream.cancel();
  const broken = new ReadableStream({
    pull(controller) {
      controller.error(new Error("the source broke off"));
    },
  });
  const stop = new AbortController();
  const endless = new ReadableStream({
    pull() {
      stop.abort(new Error("no longer"));
      return new Promise(() => {});
    },
  });
  const messageOf = (error: Error): string => error.message;
  return {
    stream: await isThere("s/stream"),
    blob: await isThere("s/blob"),
    types: [(await store.head("s/stream"))?.type, (await store.head("s/blob"))?.type],
    log: isSame(await store.getBytes("s/log"), bytes.subarray(0, 6000)),
    part: [isSame(Uint8Array.from(found), bytes.subarray(5, 10)), part?.bytes === bytes.length],
    broken: await store.put("s/broken", broken).catch(messageOf),
    stopped: await store.put("s/broken", endless, { signal: stop.signal }).catch(messageOf),
    nothing: await store.has("s/broken"),
  };
}

/** The adapters. */
export async function adapters(
  keyvModule: typeof keyv,
  unstorageModule: typeof unstorage,
  options: ClientOptions,
) {
  const cache = new keyvModule.KeyvMinivault(options);
  await cache.set("a", "one");
  const storage = unstorageModule.minivault({ ...options, base: "files" });
  await storage.setItem?.("x:y", "two", {});
  return [await cache.get("a"), await storage.getItem("x:y"), await storage.getKeys("")];
}

/** A page that may not. */
export async function refused({ MinivaultClient }: Client, options: ClientOptions) {
  const store = new MinivaultClient({ ...options, retries: 0 });
  return [(await errorOf(store.get("r")))[0], (await errorOf(store.put("r", 1)))[0]];
}

/** Writes, reads and a watch go on while `killOne` ends a node. */
export async function failover(
  { MinivaultClient, UnavailableError, UnknownOutcomeError }: Client,
  options: ClientOptions,
  keys: readonly string[],
  killOne: () => Promise<void>,
) {
  const store = new MinivaultClient({ ...options, retries: 100 });
  const stop = new AbortController();
  const seen = new Set<string>();
  let isFollowing = false;
  const watching = (async () => {
    for await (const event of store.watch("k", { progress: true, signal: stop.signal })) {
      isFollowing = true;
      if ("key" in event) seen.add(event.key);
      // What was missed, if anything was, is listed.
      else if (event.event === "reset")
        for await (const item of store.list("k")) if ("key" in item) seen.add(item.key);
    }
  })().catch(() => {});
  await until(() => isFollowing);
  const isNotKnown = (error: unknown): error is UnavailableError | UnknownOutcomeError =>
    error instanceof UnknownOutcomeError || error instanceof UnavailableError;
  const counted = { sure: 0, perhaps: 0 };
  for (const [i, key] of keys.entries()) {
    const killed = i === keys.length / 2 ? killOne() : null;
    // What nobody knows the end of is put again: this is the only writer.
    for (let isWritten = false; !isWritten; )
      isWritten = await store.put(key, i).then(
        () => true,
        (error) => {
          if (isNotKnown(error)) return false;
          throw error;
        },
      );
    await store.increment("n").then(
      () => counted.sure++,
      (error) => {
        if (!isNotKnown(error)) throw error;
        counted.perhaps++;
      },
    );
    await killed;
  }
  const values: unknown[] = [];
  for (const key of keys) values.push(await store.get(key));
  const sum = (await store.get<number>("n")) ?? 0;
  const count = await store.count("k");
  await until(() => keys.every((key) => seen.has(key)));
  stop.abort();
  await watching;
  return { values, count, isExact: sum >= counted.sure && sum <= counted.sure + counted.perhaps };
}
