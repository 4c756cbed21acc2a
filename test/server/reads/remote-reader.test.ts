/** Reading a value piece by piece from another node. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { RemoteReader } from "../../../src/server/reads/remote-reader.ts";

/** A stream that counts what is done with it. */
function streamOf(pieces: readonly string[], failure?: Error) {
  const seen = { destroyed: 0, asked: 0 };
  const stream = {
    async *[Symbol.asyncIterator]() {
      for (const piece of pieces) {
        seen.asked++;
        yield Buffer.from(piece);
      }
      seen.asked++;
      if (failure !== undefined) throw failure;
    },
    destroy: () => void seen.destroyed++,
  };
  return { stream, seen };
}

/** Waits until the piece at `offset` is here, or cannot come. */
function wait(reader: RemoteReader, offset: number): Promise<void> {
  return new Promise((resolve) => {
    if (reader.ready(offset, resolve)) resolve();
  });
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();
const settled = () => new Promise((resolve) => setImmediate(resolve));

test("remote reader: pieces come in order, empty ones are passed over, and none is asked for before its turn", async () => {
  const { stream, seen } = streamOf(["abc", "", "de"]);
  const reader = new RemoteReader(stream, 100, 10, 15);
  await wait(reader, 10);
  assert.equal(text(reader.read(10)), "abc");
  assert.equal(text(reader.read(12)), "c");
  assert.equal(reader.ready(12, assert.fail), true);
  assert.equal(seen.asked, 1);
  await wait(reader, 13);
  assert.equal(text(reader.read(13)), "de");
  reader.close();
  await settled();
  assert.deepEqual(seen, { destroyed: 0, asked: 4 });
});

test("remote reader: a value that ends too early, or breaks off, cannot be read on", async () => {
  const short = new RemoteReader(streamOf(["abc"]).stream, 5, 0, 5);
  await wait(short, 0);
  await wait(short, 3);
  assert.throws(() => short.read(3), { code: "unavailable", message: /sent too little/ });
  const broken = new RemoteReader(streamOf(["abc"], new Error("cut")).stream, 5, 0, 5);
  await wait(broken, 0);
  await wait(broken, 3);
  assert.throws(() => broken.read(3), { code: "unavailable", message: /broke off: cut/ });
});

test("remote reader: closed before its end, it gives the stream up, once", async () => {
  const { stream, seen } = streamOf(["abc", "de"]);
  const reader = new RemoteReader(stream, 5, 0, 5);
  await wait(reader, 0);
  reader.close();
  reader.close();
  await settled();
  assert.deepEqual(seen, { destroyed: 1, asked: 1 });
});

test("remote reader: a stream that goes on behind its end is given up", async () => {
  const { stream, seen } = streamOf(["abcde", "f"]);
  const reader = new RemoteReader(stream, 5, 0, 5);
  await wait(reader, 0);
  reader.close();
  await settled();
  assert.equal(seen.destroyed, 1);
});
