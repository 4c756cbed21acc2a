/**
 * Rows of `bench:peers` for S3: GET and PUT by presigned URLs beside nginx, which sends files and takes them by WebDAV. Both write to the page cache
 * (`-sync os`: nginx has nothing else). minivault checks a signature and, of PUTs, hashes the body for its ETag; nginx does neither.
 */
import { call, closeConnections } from "../test/rest/client.ts";
import { presign, startS3 } from "../test/s3/harness.ts";
import { keyPath, keysOf, runWrk } from "./load.ts";
import { startNginx } from "./nginx.ts";
import type { Stage } from "./rows.ts";
import { byteSize } from "./statistics.ts";

const SIZES = [100 * 1024, 5 * 2 ** 20];
const CONNECTIONS = 16;
const GOAL = 0.7;
const SIGNED_S = 86_400;

const workOf = (verb: "GET" | "PUT", bytes: number): string => `S3 ${verb} of ${byteSize(bytes)}`;

export function objectStage(options: {
  tiny: boolean;
  seconds: number;
  program: string | null;
  folder: string;
  has: (program: string) => boolean;
  /** Is told of requests that were not answered with 2xx. */
  failed: (count: number) => void;
}): Stage {
  const { program, seconds, folder, has, failed, tiny } = options;
  return async (result, wanted) => {
    const sizes = tiny ? SIZES.slice(0, 1) : SIZES;
    const verbs = ["GET", "PUT"] as const;
    if (!sizes.some((bytes) => verbs.some((verb) => wanted(workOf(verb, bytes)))) || !has("nginx")) return;
    const server = await startS3(program === null ? {} : { program });
    const port = server.s3Port;
    const signed = (verb: string, number: number): string =>
      presign(port, verb, `/bench${keyPath(number)}`, SIGNED_S);
    const bucket = await call(port, "PUT", presign(port, "PUT", "/bench", SIGNED_S));
    if (bucket.status !== 200) throw new Error(`the bucket is answered ${bucket.status}: ${bucket.text}`);
    for (const bytes of sizes) {
      const numbers = Array.from({ length: keysOf(bytes) }, (_, number) => number);
      const value = Buffer.alloc(bytes, "v");
      const nginx = await startNginx(
        Object.fromEntries(numbers.map((number) => [keyPath(number).slice(1), value])),
      );
      for (const number of numbers) {
        const { status, text } = await call(port, "PUT", signed("PUT", number), { body: value });
        if (status !== 200) throw new Error(`PUT is answered ${status}: ${text}`);
      }
      const rate = async (target: number, verb: "GET" | "PUT", paths?: readonly string[]) => {
        const job = { port: target, operation: verb, connections: CONNECTIONS, valueBytes: bytes };
        const times = { warmMs: 0, measureMs: seconds * 1000 };
        const load = await runWrk({ ...job, ...times, ...(paths === undefined ? {} : { paths }) }, folder);
        failed(load.failures);
        return load.perSecond;
      };
      for (const verb of verbs) {
        const paths = numbers.map((number) => signed(verb, number));
        await result({
          work: workOf(verb, bytes),
          against: verb === "GET" ? "nginx, sendfile" : "nginx, WebDAV",
          unit: "/s",
          compare: "ratio",
          goal: GOAL,
          ours: () => rate(port, verb, paths),
          theirs: () => rate(nginx.port, verb),
        });
      }
      await nginx.stop();
    }
    closeConnections();
    await server.dispose();
  };
}
