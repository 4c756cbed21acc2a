/**
 * A bucket of 1,000,000 objects is listed by S3, page by page, beside writes and deletes between them: those that are there all the time come
 * exactly once, in order. KEYS says how many.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import path from "node:path";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { ListObjectsV2Command } from "@aws-sdk/client-s3";
import { fillStore } from "../engine/fill.ts";
import { type Diagnostic, Random, randomSeed } from "../random.ts";
import { call, closeConnections } from "../rest/client.ts";
import { hasProc, memoryLine, watchMemory } from "../rest/process-memory.ts";
import { removeFolder, temporaryFolder, waitUntil } from "../rest/server.ts";
import { environmentOf, missing } from "../s3/foreign.ts";
import { ask, client, KEY, type S3Server, startS3 } from "../s3/harness.ts";

const KEYS = Number(process.env.KEYS ?? 1_000_000);
const KEYS_A_FOLDER = 1000;
const WRITERS = 8;
/** Keys that come and go behind one that stays: few enough that every list ends. */
const CHURN_KEYS = 20_000;
/** Longest that a slow machine may take for the list that a node makes of what it finds. */
const BUILD_MS_MAX = 600_000;
const BUCKET = "many";
const CHURN = "-churn";

after(closeConnections);

const digits = (number: number, count: number): string => String(number).padStart(count, "0");

/** Key of an object that stays, in its bucket; they rise with their numbers. */
function keyOf(number: number): string {
  return `${digits(Math.floor(number / KEYS_A_FOLDER), 6)}/${digits(number, 9)}`;
}

/** Judges a list as it comes. */
class Judge {
  listed = 0;
  private next = 0;
  private last = "";

  take(key: string): void {
    assert.ok(key > this.last, `${key} came behind ${this.last}`);
    this.last = key;
    this.listed++;
    if (key.includes(CHURN)) return;
    assert.equal(key, keyOf(this.next));
    this.next++;
  }

  end(): void {
    assert.equal(this.next, KEYS, "objects that were there all the time");
  }
}

/** Writes and deletes until `stop`, which answers how often. */
function churn(server: S3Server, random: Random): () => Promise<number> {
  let isOver = false;
  let writes = 0;
  const write = async (index: number): Promise<void> => {
    const headers = { Authorization: `Bearer ${KEY}` };
    while (!isOver) {
      const near = keyOf(
        random.below(Math.min(KEYS, CHURN_KEYS)) * Math.max(1, Math.floor(KEYS / CHURN_KEYS)),
      );
      const target = `/${BUCKET}/${near}${CHURN}`;
      const isPut = random.below(2) === 0;
      // Half of them by S3, half by the others' interface. Some may be refused where the machine is busy.
      const sent =
        index % 2 === 0
          ? ask(server.s3Port, { method: isPut ? "PUT" : "DELETE", target, body: isPut ? "churn" : "" })
          : call(server.port, isPut ? "PUT" : "DELETE", target, {
              headers,
              ...(isPut ? { body: "churn" } : {}),
            });
      await sent.catch(() => {});
      writes++;
    }
  };
  const all = Promise.all(Array.from({ length: WRITERS }, (_, index) => write(index)));
  return async () => {
    isOver = true;
    await all;
    return writes;
  };
}

/** Lists beside churn; says how long it took, and what the node needed. */
async function listed(
  t: Diagnostic,
  name: string,
  server: S3Server,
  random: Random,
  list: (judge: Judge) => Promise<void>,
): Promise<void> {
  const judge = new Judge();
  const stop = churn(server, random);
  const memory = hasProc ? watchMemory(server.pid) : null;
  const begunMs = performance.now();
  let writes = 0;
  try {
    await list(judge);
  } finally {
    writes = await stop();
  }
  const seconds = (performance.now() - begunMs) / 1000;
  judge.end();
  t.diagnostic(
    `${name}: ${judge.listed} objects in ${seconds.toFixed(1)} s (${Math.round(judge.listed / seconds)} a second), ${writes} writes beside it`,
  );
  if (memory !== null) t.diagnostic(`MiB: ${memoryLine(memory.start, memory.stop())}`);
}

test(`s3: a bucket of ${KEYS} objects is listed beside churn`, async (t) => {
  const random = new Random(randomSeed(t));
  const folder = temporaryFolder();
  const data = path.join(folder, "data");
  await fillStore(data, { keys: KEYS, valueBytes: 10, nameOf: (number) => `${BUCKET}/${keyOf(number)}` });
  const server = await startS3({ data });
  const s3 = client(server.s3Port);
  try {
    // What was filled without a node has no list yet.
    const isBuilt = async (): Promise<boolean> =>
      (await ask(server.s3Port, { method: "GET", target: `/${BUCKET}?list-type=2` })).status === 200;
    await waitUntil("the list of all keys is built", isBuilt, BUILD_MS_MAX);
    await t.test("by ListObjectsV2, page by page", (t) =>
      listed(t, "ListObjectsV2", server, random, async (judge) => {
        for (let ContinuationToken: string | undefined; ; ) {
          const page = await s3.send(new ListObjectsV2Command({ Bucket: BUCKET, ContinuationToken }));
          const { Contents = [], IsTruncated, KeyCount, NextContinuationToken } = page;
          assert.equal(KeyCount, Contents.length);
          if (IsTruncated) assert.ok(Contents.length === 1000 && NextContinuationToken, "a page is full");
          for (const { Key = "" } of Contents) judge.take(Key);
          if (!IsTruncated) return;
          ContinuationToken = NextContinuationToken;
        }
      }),
    );
    await t.test("by its folders", async () => {
      const folders: string[] = [];
      for (let ContinuationToken: string | undefined; ; ) {
        const asked = { Bucket: BUCKET, Delimiter: "/", ContinuationToken };
        const page = await s3.send(new ListObjectsV2Command(asked));
        folders.push(...(page.CommonPrefixes ?? []).map(({ Prefix = "" }) => Prefix));
        assert.deepEqual(page.Contents ?? [], []);
        ContinuationToken = page.NextContinuationToken;
        if (ContinuationToken === undefined) break;
      }
      assert.deepEqual(
        folders,
        Array.from({ length: Math.ceil(KEYS / KEYS_A_FOLDER) }, (_, index) => `${digits(index, 6)}/`),
      );
    });
    await t.test("by aws s3 ls --recursive", { skip: missing(folder, "aws", "--version") }, (t) =>
      listed(t, "aws s3 ls --recursive", server, random, async (judge) => {
        const words = ["--endpoint-url", `http://127.0.0.1:${server.s3Port}`, "s3", "ls", "--recursive"];
        const program = spawn("aws", [...words, `s3://${BUCKET}`], {
          env: environmentOf(folder),
          stdio: ["ignore", "pipe", "inherit"],
        });
        const ended = new Promise<number | null>((resolve, reject) => {
          program.once("error", reject);
          program.once("close", resolve);
        });
        try {
          for await (const line of createInterface(program.stdout))
            judge.take(/^\S+ \S+ +\d+ (.*)$/.exec(line)?.[1] ?? line);
          assert.equal(await ended, 0, "aws has ended well");
        } finally {
          program.kill();
        }
      }),
    );
  } finally {
    s3.destroy();
    await server.dispose();
    removeFolder(folder);
  }
});
