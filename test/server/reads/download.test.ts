/** Values that go out of a map in one send while their file is cut: through the real server, to a real socket. */
import assert from "node:assert/strict";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { test } from "node:test";
import { mapSlab, touchPages } from "../../../src/engine/slabs/maps.ts";
import { type FrontContext, InFlight } from "../../../src/server/http/context.ts";
import type { Res } from "../../../src/server/http/http.ts";
import { Pacer } from "../../../src/server/http/pace.ts";
import { Download } from "../../../src/server/reads/download.ts";
import { createHttp } from "../../../src/server/uws/uws.ts";
import type { ValueReader } from "../../../src/shards/vault/vault.ts";
import { temporaryFolder } from "../../rest/server.ts";

const VALUE_BYTES = 100 * 1024;
const CUT_BYTES = 40 * 1024;
const HEAD_END = "\r\n\r\n";

/** A value in a file of its own, which is cut once it was found to be whole. */
function createReader(file: string, cutBytes: number): ValueReader {
  const missing = new Int32Array(2);
  const map = mapSlab(file, VALUE_BYTES, missing, 1);
  let checks = 0;
  return {
    valueBytes: VALUE_BYTES,
    read: (offset) => map.bytes.subarray(offset, VALUE_BYTES),
    holds(from, to) {
      touchPages(map, from, to);
      const isGood = missing[0] === 0;
      if (checks++ === 0 && cutBytes < VALUE_BYTES) fs.truncateSync(file, cutBytes);
      return isGood;
    },
    close: () => {},
  };
}

interface Came {
  body: Buffer;
  complete: boolean;
  /** Of the first piece that was given to the socket. */
  firstBytes: number;
}

/** GETs a value whose file is cut so far, and answers what came of it. */
async function download(cutBytes: number, encrypts = false): Promise<Came> {
  const file = path.join(temporaryFolder(), "value");
  fs.writeFileSync(file, Buffer.alloc(VALUE_BYTES, "v"));
  const reader = createReader(file, cutBytes);
  const context = {
    ...{ pacer: new Pacer(), inFlight: new InFlight(), encrypts },
    log: { info: () => {}, error: () => {} },
  } as unknown as FrontContext;
  let firstBytes = 0;
  let onEnd: (complete: boolean) => void = () => {};
  const ended = new Promise<boolean>((resolve) => {
    onEnd = resolve;
  });
  const get = (res: Res): void => {
    const tryEnd = res.tryEnd.bind(res);
    res.tryEnd = (piece, totalBytes) => {
      firstBytes ||= piece.length;
      return tryEnd(piece, totalBytes);
    };
    res.writeStatus("200 OK");
    new Download(context, res, reader, reader.read(0), 0, VALUE_BYTES, onEnd).begin();
  };
  const handlers = { get, head: get, put: get, post: get, delete: get, other: get };
  const server = createHttp(handlers, (_, res) => res.close());
  const port = await server.listen("127.0.0.1", 0);
  try {
    const body = await new Promise<Buffer>((resolve, reject) => {
      const pieces: Buffer[] = [];
      const socket = net.connect(port, "127.0.0.1");
      socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
      socket.on("error", reject);
      const end = (): void => {
        const all = Buffer.concat(pieces);
        resolve(all.subarray(all.indexOf(HEAD_END) + HEAD_END.length));
        socket.destroy();
      };
      socket.on("close", end);
      let bytes = 0;
      socket.on("data", (piece) => {
        pieces.push(piece);
        bytes += piece.length;
        if (bytes > VALUE_BYTES) end();
      });
    });
    return { body, complete: await ended, firstBytes };
  } finally {
    server.closeConnections();
  }
}

test("download: a value leaves its map at once, and with TLS all but its end", async () => {
  for (const encrypts of [false, true]) {
    const { body, complete, firstBytes } = await download(VALUE_BYTES, encrypts);
    assert.ok(complete);
    assert.ok(body.equals(Buffer.alloc(VALUE_BYTES, "v")));
    assert.equal(firstBytes === VALUE_BYTES, !encrypts);
  }
});

for (const cutBytes of [0, 4096, CUT_BYTES, VALUE_BYTES - 4096])
  test(`download: a file that is cut to ${cutBytes} bytes just before the send ends the connection`, async () => {
    const { body, complete } = await download(cutBytes);
    assert.equal(complete, false);
    assert.ok(body.length <= cutBytes, `${body.length} bytes came`);
    assert.ok(body.equals(Buffer.alloc(body.length, "v")), "what came is right");
  });
