/** S3 over a cluster of three: what one node has stored the others have, also when one of them is killed. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import {
  CreateBucketCommand,
  DeleteObjectCommand,
  GetBucketLocationCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type S3Client,
} from "@aws-sdk/client-s3";
import { type Cluster, startCluster } from "../cluster/workers.ts";
import { closeConnections } from "../rest/client.ts";
import { waitUntil } from "../rest/server.ts";
import { client, KEY, printedS3Port, untilS3Listens } from "./harness.ts";

const Bucket = "shared";
let cluster: Cluster;
let clients: S3Client[] = [];
before(async () => {
  cluster = await startCluster({ workers: 3, key: KEY, flags: ["-s3-port", "0", "-sync", "os"] });
  await cluster.ready();
  clients = await Promise.all(cluster.workers.map(async (worker) => client(await untilS3Listens(worker))));
  await answerTo(() => clients[0].send(new CreateBucketCommand({ Bucket })));
});
after(async () => {
  for (const one of clients) one.destroy();
  closeConnections();
  await cluster?.dispose();
});

/** Asks until it is answered: where the machine is busy a node may refuse for a moment. */
async function answerTo<Answer>(ask: () => Promise<Answer>): Promise<Answer> {
  let answer: Answer | undefined;
  await waitUntil("the nodes answer", async () => {
    try {
      answer = await ask();
      return true;
    } catch (error) {
      const { $metadata } = error as { $metadata?: { httpStatusCode?: number } };
      if (($metadata?.httpStatusCode ?? 503) < 500) throw error;
      return false;
    }
  });
  return answer as Answer;
}

async function readOnce(s3: S3Client, Key: string): Promise<Buffer> {
  const { Body } = await s3.send(new GetObjectCommand({ Bucket, Key }));
  return Buffer.from((await Body?.transformToByteArray()) ?? []);
}

const read = (s3: S3Client, Key: string) => answerTo(() => readOnce(s3, Key));

const keysAt = (s3: S3Client): Promise<string[]> =>
  answerTo(async () => {
    const { Contents = [] } = await s3.send(new ListObjectsV2Command({ Bucket }));
    return Contents.map(({ Key, Size }) => `${Key} ${Size}`);
  });

test("objects of any size are at all nodes, with what is kept with them", async () => {
  for (const [index, bytes] of [0, 10, 1_000_000, 3_000_001].entries()) {
    const value = Buffer.alloc(bytes, `${bytes} `);
    const Key = `of ${bytes}`;
    const put = { Bucket, Key, Body: value, ContentType: "text/x", Metadata: { n: String(bytes) } };
    const { ETag } = await answerTo(() => clients[index % 3].send(new PutObjectCommand(put)));
    for (const s3 of clients) {
      assert.deepEqual(await read(s3, Key), value);
      const head = await answerTo(() => s3.send(new HeadObjectCommand({ Bucket, Key })));
      assert.deepEqual([head.ETag, head.ContentType, head.Metadata], [ETag, "text/x", { n: String(bytes) }]);
    }
  }
  const all = ["of 0 0", "of 10 10", "of 1000000 1000000", "of 3000001 3000001"];
  for (const s3 of clients) assert.deepEqual((await keysAt(s3)).sort(), all.sort());
});

test("three that put at three nodes what must be new: one has put it", async () => {
  for (const [round, bytes] of [5, 1_500_000, 5].entries()) {
    const Key = `new ${round}`;
    const all = await Promise.allSettled(
      clients.map((s3, i) =>
        s3.send(
          new PutObjectCommand({ Bucket, Key, Body: Buffer.alloc(bytes, String(i)), IfNoneMatch: "*" }),
        ),
      ),
    );
    const winners = all.flatMap(({ status }, i) => (status === "fulfilled" ? [i] : []));
    // Who was neither told yes nor no may have been the one.
    const unclear = all.flatMap((one, i) =>
      one.status === "rejected" && one.reason.$metadata?.httpStatusCode !== 412 ? [i] : [],
    );
    assert.ok(winners.length === 1 || (winners.length === 0 && unclear.length > 0), JSON.stringify(all));
    let first: Buffer;
    try {
      first = await read(clients[0], Key);
    } catch (error) {
      // Or nobody was.
      assert.ok(winners.length === 0 && (error as Error).name === "NoSuchKey", String(error));
      continue;
    }
    const stored = Number(String(first.subarray(0, 1)));
    assert.ok([...winners, ...unclear].includes(stored));
    for (const s3 of clients) assert.deepEqual(await read(s3, Key), Buffer.alloc(bytes, String(stored)));
  }
});

test("a delete with an ETag never takes another object, whoever writes or deletes beside it", async () => {
  const ifMatch = createHash("md5").update("old").digest("hex");
  for (let round = 0; round < 6; round++) {
    const Key = `gone ${round % 2}`;
    // Every other time nothing is there: then it deletes nothing, and that is well.
    const old = new PutObjectCommand({ Bucket, Key, Body: "old" });
    if (round % 2 === 0) await answerTo(() => clients[round % 3].send(old));
    const remove = (s3: S3Client) => s3.send(new DeleteObjectCommand({ Bucket, Key, IfMatch: ifMatch }));
    const [put, ...deletes] = await Promise.allSettled([
      clients[(round + 2) % 3].send(new PutObjectCommand({ Bucket, Key, Body: "new" })),
      ...clients.map(remove),
    ]);
    for (const one of deletes)
      if (one.status === "rejected") assert.notEqual(one.reason.$metadata?.httpStatusCode, 404, Key);
    if (put.status === "fulfilled")
      for (const s3 of clients) assert.equal(String(await read(s3, Key)), "new", Key);
    await answerTo(() => clients[0].send(new DeleteObjectCommand({ Bucket, Key })));
  }
});

test("where a bucket is all nodes say as its maker", async () => {
  const made = { Bucket: "located", CreateBucketConfiguration: { LocationConstraint: "eu-west-3" } } as const;
  await answerTo(() => clients[1].send(new CreateBucketCommand(made)));
  for (const s3 of clients) {
    const asked = new GetBucketLocationCommand({ Bucket: made.Bucket });
    const { LocationConstraint } = await answerTo(() => s3.send(asked));
    assert.equal(LocationConstraint, "eu-west-3");
  }
});

test("the longest key of S3 is at all nodes, and in their lists", async () => {
  const Key = "k".repeat(1024);
  await answerTo(() => clients[1].send(new PutObjectCommand({ Bucket, Key, Body: "long" })));
  for (const s3 of clients) {
    assert.equal(String(await read(s3, Key)), "long");
    assert.ok((await keysAt(s3)).includes(`${Key} 4`));
  }
  await answerTo(() => clients[2].send(new DeleteObjectCommand({ Bucket, Key })));
  for (const s3 of clients) assert.ok(!(await keysAt(s3)).includes(`${Key} 4`));
});

test("with one node killed the others go on, and it catches up", async () => {
  const [first, second, third] = cluster.workers;
  await third.kill("SIGKILL");
  const value = Buffer.alloc(2_000_000, "while it was away");
  await answerTo(() => clients[0].send(new PutObjectCommand({ Bucket, Key: "meanwhile", Body: value })));
  assert.deepEqual(await read(clients[1], "meanwhile"), value);
  assert.ok((await keysAt(clients[1])).includes("meanwhile 2000000"));
  await third.start();
  await cluster.ready([first, second, third]);
  await waitUntil("it reads by S3 what it has missed", async () => {
    const again = client(printedS3Port(third.log()) ?? 0);
    try {
      assert.deepEqual(await readOnce(again, "meanwhile"), value);
      return true;
    } catch (error) {
      // Its port is another one, and is in the log a moment later.
      if (error instanceof assert.AssertionError) throw error;
      return false;
    } finally {
      again.destroy();
    }
  });
});
