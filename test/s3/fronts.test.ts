/** S3 with -fronts: each thread answers it, on one port, and they are one server to whoever asks. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { startCluster } from "../cluster/workers.ts";
import { call, closeConnections } from "../rest/client.ts";
import { removeFolder, runProgram, temporaryFolder, waitUntil } from "../rest/server.ts";
import { type Answer, ask, codeOf, KEY, startS3, untilS3Listens } from "./harness.ts";

const FRONTS = 3;
/** So many connections that no thread has none of them. */
const CONNECTIONS = 24;
const AUTH = { Authorization: `Bearer ${KEY}` };
const folder = temporaryFolder();
after(() => {
  closeConnections();
  removeFolder(folder);
});

/** The same by many connections at once; the system deals them out among the threads. */
const byAll = (ask: (number: number) => Promise<Answer>): Promise<Answer[]> =>
  Promise.all(Array.from({ length: CONNECTIONS }, (_, number) => ask(number)));

const statuses = (answers: Answer[]): number[] => [...new Set(answers.map(({ status }) => status))];

test("s3 fronts: what one thread has stored all have, objects in parts too, and each thread answers", async () => {
  const server = await startS3({ flags: ["-fronts", String(FRONTS)] });
  try {
    const { s3Port } = server;
    const put = (target: string, body = "") => ask(s3Port, { method: "PUT", target, body });
    const get = (target: string) => ask(s3Port, { method: "GET", target });
    assert.equal((await put("/all")).status, 200);
    assert.deepEqual(statuses(await byAll((number) => put(`/all/${number}`, `value ${number}`))), [200]);
    for (const [number, read] of (await byAll((number) => get(`/all/${number}`))).entries())
      assert.equal(read.text, `value ${number}`);
    for (const list of await byAll(() => get("/all?list-type=2")))
      assert.equal([...list.text.matchAll(/<Key>/g)].length, CONNECTIONS);

    const begun = await ask(s3Port, { method: "POST", target: "/all/parts?uploads=" });
    const id = /<UploadId>([^<]+)</.exec(begun.text)?.[1];
    const parts = await byAll((number) =>
      ask(s3Port, {
        method: "PUT",
        target: `/all/parts?partNumber=${number + 1}&uploadId=${id}`,
        body: Buffer.alloc(5 * 2 ** 20, `part ${number} `),
      }),
    );
    assert.deepEqual(statuses(parts), [200]);
    const document = parts
      .map(
        (part, number) =>
          `<Part><PartNumber>${number + 1}</PartNumber><ETag>${part.headers.etag}</ETag></Part>`,
      )
      .join("");
    const completed = await ask(s3Port, {
      method: "POST",
      target: `/all/parts?uploadId=${id}`,
      body: `<CompleteMultipartUpload>${document}</CompleteMultipartUpload>`,
    });
    assert.equal(completed.status, 200, completed.text);
    const whole = await get("/all/parts");
    assert.equal(whole.body.length, CONNECTIONS * 5 * 2 ** 20);
    assert.equal(whole.body.subarray(7 * 5 * 2 ** 20).indexOf("part 7 "), 0);

    const { requestsByFront } = (await call(server.port, "GET", "/_stats", { headers: AUTH })).json();
    assert.equal(requestsByFront.length, 2 * FRONTS);
    for (const requests of requestsByFront.slice(FRONTS)) assert.ok(requests > 0, `${requestsByFront}`);

    const ended = await server.kill("SIGTERM");
    assert.equal(ended.status, 0, server.log());
  } finally {
    await server.dispose();
  }
});

test("s3 fronts: a bucket that has gone is gone at all of them at once", async () => {
  const server = await startS3({ flags: ["-fronts", String(FRONTS)] });
  try {
    const { s3Port } = server;
    const to = (method: string, target: string) => ask(s3Port, { method, target });
    for (let round = 0; round < 4; round++) {
      const bucket = `/short-${round}`;
      assert.equal((await to("PUT", bucket)).status, 200);
      // Now all know it.
      assert.deepEqual(statuses(await byAll((number) => to("PUT", `${bucket}/${number}`))), [200]);
      assert.deepEqual(statuses(await byAll((number) => to("DELETE", `${bucket}/${number}`))), [204]);
      assert.equal((await to("DELETE", bucket)).status, 204);
      for (const answer of await byAll((number) => to("PUT", `${bucket}/${number}`)))
        assert.equal(codeOf(answer), "NoSuchBucket", answer.text);
    }
  } finally {
    await server.dispose();
  }
});

test("s3 fronts: a token that was taken out of the file opens nothing at any of them", async () => {
  const file = path.join(folder, "tokens");
  const words = [
    "token",
    "mine",
    "-s3",
    "-prefix",
    "mine/",
    "-allow",
    "read,list,write",
    "-tokens",
    file,
    "-json",
  ];
  const { status, output } = await runProgram(words);
  assert.equal(status, 0, output);
  const credentials = JSON.parse(output);
  const server = await startS3({ flags: ["-fronts", String(FRONTS), "-tokens", file] });
  try {
    const put = (number: number) =>
      ask(server.s3Port, { method: "PUT", target: `/mine/${number}`, body: "1", credentials });
    assert.equal((await ask(server.s3Port, { method: "PUT", target: "/mine", credentials })).status, 200);
    assert.deepEqual(statuses(await byAll(put)), [200]);
    fs.writeFileSync(file, "");
    process.kill(server.pid, "SIGHUP");
    await waitUntil("all threads have read the file", async () =>
      (await byAll(put)).every((answer) => codeOf(answer) === "InvalidAccessKeyId"),
    );
  } finally {
    await server.dispose();
  }
});

test("s3 fronts: threads of a cluster's nodes serve it as their main thread does", async () => {
  const cluster = await startCluster({
    ...{ workers: 3, key: KEY, fronts: 2 },
    flags: ["-s3-port", "0", "-sync", "os"],
  });
  try {
    await cluster.ready();
    const ports = await Promise.all(cluster.workers.map(untilS3Listens));
    const decided = async (number: number, method: string, target: string, body = ""): Promise<Answer> => {
      let answer: Answer | null = null;
      await waitUntil("it is decided", async () => {
        answer = await ask(ports[number % 3], { method, target, body });
        return answer.status < 500;
      });
      return answer as unknown as Answer;
    };
    assert.equal((await decided(0, "PUT", "/shared")).status, 200);
    const puts = await byAll((number) => decided(number, "PUT", `/shared/${number}`, `value ${number}`));
    assert.deepEqual(statuses(puts), [200]);
    for (let node = 0; node < 3; node++) {
      const reads = await byAll((number) => decided(node, "GET", `/shared/${number}`));
      for (const [number, read] of reads.entries()) {
        assert.equal(read.text, `value ${number}`);
        assert.equal(read.headers.etag, puts[number].headers.etag);
      }
    }
    for (const { port } of cluster.workers) {
      const { requestsByFront } = (await call(port, "GET", "/_stats", { headers: AUTH })).json();
      assert.equal(requestsByFront.length, 4);
      for (const requests of requestsByFront.slice(2)) assert.ok(requests > 0, `${requestsByFront}`);
    }
  } finally {
    await cluster.dispose();
  }
});
