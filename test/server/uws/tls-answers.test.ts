/** Answers over TLS of which the socket does not take all at once, to clients that begin to read late. */
import assert from "node:assert/strict";
import fs from "node:fs";
import type http from "node:http";
import https from "node:https";
import os from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { type FrontContext, InFlight } from "../../../src/server/http/context.ts";
import type { Handler, HttpServer } from "../../../src/server/http/http.ts";
import { Pacer } from "../../../src/server/http/pace.ts";
import { Download } from "../../../src/server/reads/download.ts";
import { createHttp } from "../../../src/server/uws/uws.ts";
import { makeCertificates } from "../../certificate.ts";

const MIB = 1024 * 1024;
/** More than the buffers of both ends hold. */
const BYTES = 48 * MIB;

describe("answers over TLS", () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "minivault-test-"));
  const body = Buffer.alloc(BYTES, "0123456789abcdef");
  let server: HttpServer;
  let port: number;
  let ca: string | Buffer;

  before(async () => {
    const { authority, certificateFile, keyFile } = makeCertificates(folder);
    ca = authority;
    const context = { inFlight: new InFlight(), pacer: new Pacer() } as unknown as FrontContext;
    const get: Handler = (res, req) => {
      if (req.getUrl() === "/whole") {
        res.writeStatus("200 OK");
        res.end(body);
        return;
      }
      const reader = { valueBytes: BYTES, read: (offset: number) => body.subarray(offset), close: () => {} };
      res.writeStatus("200 OK");
      new Download(context, res, reader, body, 0, BYTES, () => {}).begin();
    };
    const handlers = { get, head: get, put: get, post: get, delete: get, other: get };
    const tls = { certificate: certificateFile, key: keyFile };
    server = createHttp(handlers, () => {}, { tls });
    port = await server.listen("127.0.0.1", 0);
  });
  after(() => {
    server.closeConnections();
    fs.rmSync(folder, { recursive: true, force: true });
  });

  for (const pathname of ["/whole", "/pieces"])
    test(`whole, however late it is read: ${pathname}`, async () => {
      const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
        https.get({ host: "localhost", port, path: pathname, ca, agent: false }, resolve).on("error", reject);
      });
      const pieces: Buffer[] = [];
      for await (const piece of response) pieces.push(piece);
      assert.ok(Buffer.concat(pieces).equals(body));
    });
});
