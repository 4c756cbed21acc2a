/**
 * What the way between two nodes costs: client and routes of the product, over loopback, signed, both in this process; so a figure holds
 * the work of both ends and of the kernel. The handler answers each frame with as many bytes.
 */

import { KeyRing } from "../src/auth/keys.ts";
import { RequestSigner } from "../src/auth/signature.ts";
import { PeerClient } from "../src/cluster/peers/peer-client.ts";
import type { PeerHandler } from "../src/cluster/peers/peer-handler.ts";
import { createFront } from "../src/server/front.ts";
import type { Vault } from "../src/shards/vault/vault.ts";
import type { Case } from "./native-cases.ts";

/** An operation on a key of 100 bytes, about. */
const FRAME_BYTES = 160;
const BATCHES = [1, 16, 64];
const START_MS_MAX = 10_000;
const KEY = "benchmark";

export interface BenchPeers {
  cases: Case[];
  close(): Promise<void>;
}

/** Starts a node that other nodes can reach, and connects to it. */
export async function openBenchPeers(vault: Vault): Promise<BenchPeers> {
  const nothing = () => {
    throw new Error("only frames are measured");
  };
  const handler: PeerHandler = {
    hear: () => null,
    hello: nothing,
    ownLife: () => null,
    frame: (bytes, reply) => reply(Buffer.from(bytes)),
    readLayout: nothing,
    takeLayout: nothing,
    openSink: nothing,
    openSource: nothing,
  };
  const front = await createFront({
    vault,
    host: "127.0.0.1",
    port: 0,
    auth: null,
    maxValueBytes: 1,
    role: "worker",
    version: "bench",
    log: { info: () => {}, error: (fields) => console.error(fields) },
    peers: { handler, ring: new KeyRing([KEY]), audience: () => null },
  });
  const client = new PeerClient({
    url: `http://127.0.0.1:${front.port}`,
    sign: new RequestSigner(new KeyRing([KEY])),
  });
  const close = async () => {
    await client.close();
    await front.close(1000);
  };
  const started = performance.now();
  while (client.state !== "up") {
    if (performance.now() - started > START_MS_MAX) {
      await close();
      throw new Error(`the node does not answer itself: ${client.lastFailure}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const frame = Buffer.alloc(FRAME_BYTES, "f");
  const cases = BATCHES.map(
    (frames): Case => ({
      name: `frame of ${FRAME_BYTES} B to a node and its answer, ${frames} in a batch (signed, both ends)`,
      operations: frames,
      runDeferred: (done) => {
        const answers = Array.from({ length: frames }, () => client.send(frame));
        void Promise.all(answers).then(done);
      },
    }),
  );
  return { cases, close };
}
