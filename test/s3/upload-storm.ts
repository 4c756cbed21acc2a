/** Uploads in parts that are given up at every stage, for a short form (test/s3) and a long one (test/storm). */
import assert from "node:assert/strict";
import net from "node:net";
import path from "node:path";
import { type Diagnostic, Random, randomSeed } from "../random.ts";
import { call } from "../rest/client.ts";
import { removeFolder, temporaryFolder, waitUntil } from "../rest/server.ts";
import { clockEnvironment, setClock } from "../wall-clock.ts";
import { ask, KEY, sign, startS3 } from "./harness.ts";

const WEEK_SECONDS = 7 * 24 * 3600;
/** Longest that what has ended waits to be removed, on a slow machine. */
const SWEEP_MS_MAX = 300_000;
/** Clients at once. */
const CLIENTS = 16;
const PART = Buffer.alloc(2000, 7);

/** At which stage an upload is given up. */
const STAGES = [
  "begun",
  "in a part",
  "after parts",
  "aborted",
  "aborted in a part",
  "completed wrongly",
] as const;

/**
 * Begins uploads and leaves them. What is aborted leaves nothing; what is left or was under way has an end
 * within the week, and is gone when that is over; nothing becomes an object.
 */
export async function uploadStorm(t: Diagnostic, uploads: number): Promise<void> {
  const random = new Random(randomSeed(t));
  const folder = temporaryFolder();
  const clock = path.join(folder, "clock");
  const server = await startS3({ env: clockEnvironment(folder, clock) });
  try {
    const port = server.s3Port;
    await ask(port, { method: "PUT", target: "/storm" });
    const aborted = new Set<string>();
    let next = 0;
    const client = async (): Promise<void> => {
      for (let number = next++; number < uploads; number = next++) {
        const stage = STAGES[random.below(STAGES.length)];
        const id = await giveUp(port, number, stage, random.below(3));
        if (stage === "aborted") aborted.add(id);
      }
    };
    await Promise.all(Array.from({ length: CLIENTS }, client));
    const left = await storeKeys(server.port);
    t.diagnostic(
      `${uploads} uploads, ${aborted.size} aborted in order, ${left.length} keys wait for their end`,
    );
    for (const { key, ttl } of left) {
      assert.ok(ttl !== null && ttl > 0 && ttl <= WEEK_SECONDS, `${key} ends in ${ttl} s`);
      const id = /([0-9a-f]{32})/.exec(key)?.[1] ?? "";
      assert.ok(!aborted.has(id), `${key} is left of an upload that was aborted`);
    }
    const objects = await call(server.port, "GET", "/storm/?list&limit=10", { headers: bearer });
    assert.deepEqual(
      objects.json().keys.map(({ key }: { key: string }) => key),
      ["storm/"],
      "nothing became an object",
    );
    setClock(clock, (WEEK_SECONDS + 60) * 1000);
    await waitUntil(
      "a week later nothing is left but the bucket",
      async () => {
        const stats = (await call(server.port, "GET", "/_stats", { headers: bearer })).json();
        return stats.keys === 1 && (await storeKeys(server.port)).length === 0;
      },
      SWEEP_MS_MAX,
    );
  } finally {
    await server.dispose();
    removeFolder(folder);
  }
}

const bearer = { Authorization: `Bearer ${KEY}` };

async function giveUp(
  port: number,
  number: number,
  stage: (typeof STAGES)[number],
  parts: number,
): Promise<string> {
  const target = `/storm/object-${number}`;
  const begun = await ask(port, { method: "POST", target: `${target}?uploads=` });
  const id = /<UploadId>(\w+)</.exec(begun.text)?.[1] ?? "";
  assert.equal(begun.status, 200, begun.text);
  if (stage === "begun") return id;
  for (let part = 1; part <= parts; part++) {
    const put = await ask(port, {
      ...{ method: "PUT", target: `${target}?partNumber=${part}&uploadId=${id}`, body: PART },
    });
    assert.equal(put.status, 200, put.text);
  }
  const isAborted = stage === "aborted" || stage === "aborted in a part";
  const cutOff =
    stage === "in a part" || stage === "aborted in a part"
      ? cut(port, `${target}?partNumber=${parts + 1}&uploadId=${id}`)
      : null;
  if (isAborted) {
    const gone = await ask(port, { method: "DELETE", target: `${target}?uploadId=${id}` });
    assert.equal(gone.status, 204, gone.text);
    const again = await ask(port, { method: "DELETE", target: `${target}?uploadId=${id}` });
    assert.equal(again.status, 404);
  }
  if (stage === "completed wrongly") {
    const body = `<CompleteMultipartUpload><Part><PartNumber>9</PartNumber><ETag>"${"0".repeat(32)}"</ETag></Part></CompleteMultipartUpload>`;
    const refused = await ask(port, { method: "POST", target: `${target}?uploadId=${id}`, body });
    assert.equal(refused.status, 400, refused.text);
  }
  await cutOff;
  return id;
}

/** Sends half of a part and goes. */
export function cut(port: number, target: string, body = PART): Promise<void> {
  const { headers } = sign(port, { method: "PUT", target, body });
  const lines = Object.entries({ ...headers, "content-length": String(body.length) });
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, "127.0.0.1", () => {
      const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join("");
      socket.write(`PUT ${target} HTTP/1.1\r\n${head}\r\n`);
      socket.write(body.subarray(0, body.length / 2), () => socket.destroy());
    });
    socket.once("error", reject);
    socket.once("close", () => resolve());
  });
}

/** What uploads have in the store. */
async function storeKeys(port: number): Promise<{ key: string; ttl: number | null }[]> {
  const keys: { key: string; ttl: number | null }[] = [];
  for (let cursor = ""; ; ) {
    const query = `/_kv/_s3/?list&limit=10000${cursor === "" ? "" : `&cursor=${encodeURIComponent(cursor)}`}`;
    const page = (await call(port, "GET", query, { headers: bearer })).json();
    keys.push(...page.keys);
    if (page.cursor === null) return keys;
    cursor = page.cursor;
  }
}
