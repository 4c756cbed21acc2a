/** S3 in a cluster: objects that lie at another node, and are replaced there, or cannot be had, just when they are opened. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createS3Front } from "../../src/s3/front.ts";
import { Meter } from "../../src/server/status/meter.ts";
import { FakeCluster, GONE, REFUSED } from "../server/fake-cluster.ts";
import { FakeVault } from "../server/fake-vault.ts";
import { byKey, type LogLine, until } from "../server/harness.ts";
import { type Answer, ask, codeOf, KEY, type Sent } from "./harness.ts";

const MIB = 1024 * 1024;
const OLD = Buffer.alloc(6 * MIB, "old ");
const NEW = Buffer.alloc(7 * MIB, "newer ");
const LOOKS = 5;

interface Bench {
  vault: FakeVault;
  cluster: FakeCluster;
  log: LogLine[];
  ask(sent: Sent): Promise<Answer>;
  /** Puts the object `bucket/o`, which is replaced before it is opened for the first time. */
  putReplaced(): Promise<string>;
  etagOf(key: string): Promise<string>;
}

async function withS3(body: (bench: Bench) => Promise<void>): Promise<void> {
  const vault = new FakeVault();
  const cluster = new FakeCluster(vault);
  const log: LogLine[] = [];
  const front = await createS3Front({
    ...{ vault, host: "127.0.0.1", port: 0, auth: byKey(KEY), maxValueBytes: 64 * MIB, meter: new Meter() },
    cluster: () => cluster,
    log: {
      info: (fields, message) => log.push({ level: "info", fields, message }),
      error: (fields, message) => log.push({ level: "error", fields, message }),
    },
  });
  vault.put("bucket/", "");
  const send = (sent: Sent): Promise<Answer> => ask(front.port, sent);
  const etagOf = async (key: string): Promise<string> =>
    String((await send({ method: "HEAD", target: `/bucket/${key}` })).headers.etag);
  const putReplaced = async (): Promise<string> => {
    vault.put("bucket/o", OLD);
    cluster.opens = 0;
    cluster.beforeOpen = (open) => {
      if (open === 1) vault.put("bucket/o", NEW);
      return null;
    };
    return etagOf("o");
  };
  try {
    await body({ vault, cluster, log, ask: send, putReplaced, etagOf });
    await until(() => cluster.streamsOpen === 0 && vault.uploadsOpen === 0, "all is closed");
    assert.deepEqual(
      log.filter(({ level }) => level === "error"),
      [],
    );
  } finally {
    await front.close(1000);
  }
}

const COPY = { method: "PUT", target: "/bucket/copy", headers: { "x-amz-copy-source": "/bucket/o" } };

test("S3 in a cluster: GetObject of what is replaced when it is opened is judged and answered as it is then", () =>
  withS3(async ({ ask, putReplaced, etagOf }) => {
    const get = (headers: Record<string, string>) => ask({ method: "GET", target: "/bucket/o", headers });
    const oldTag = await putReplaced();
    const part = await get({ range: `bytes=-${MIB}` });
    assert.deepEqual([part.status, part.headers.etag], [206, await etagOf("o")]);
    assert.notEqual(part.headers.etag, oldTag);
    assert.equal(part.headers["content-range"], `bytes ${6 * MIB}-${7 * MIB - 1}/${7 * MIB}`);
    assert.ok(part.body.equals(NEW.subarray(6 * MIB)));
    const other = await putReplaced();
    assert.equal((await get({ "if-match": other })).status, 412);
    const third = await putReplaced();
    const whole = await get({ range: "bytes=0-9", "if-range": third });
    assert.deepEqual([whole.status, whole.body.equals(NEW)], [200, true]);
  }));

test("S3 in a cluster: CopyObject and UploadPartCopy take what is there when they read, under their conditions", () =>
  withS3(async ({ vault, ask, putReplaced }) => {
    await putReplaced();
    assert.equal((await ask(COPY)).status, 200);
    assert.ok(Buffer.from(vault.values.get("bucket/copy")?.bytes ?? []).equals(NEW));
    const oldTag = await putReplaced();
    const bound = { ...COPY.headers, "x-amz-copy-source-if-match": oldTag };
    assert.equal((await ask({ ...COPY, headers: bound })).status, 412);
    const id = await begun(ask);
    await putReplaced();
    const headers = { ...COPY.headers, "x-amz-copy-source-range": `bytes=${4 * MIB}-${6 * MIB - 1}` };
    const part = await ask({ method: "PUT", target: `/bucket/up?partNumber=1&uploadId=${id}`, headers });
    assert.equal(part.status, 200, part.text);
    const stored = vault.values.get(`_s3/parts/${id}/00001`)?.bytes ?? [];
    assert.ok(Buffer.from(stored).equals(NEW.subarray(4 * MIB, 6 * MIB)));
  }));

test("S3 in a cluster: CompleteMultipartUpload looks again for a part that cannot be had where it was", () =>
  withS3(async ({ vault, cluster, ask }) => {
    const id = await begun(ask);
    const parts: string[] = [];
    for (const number of [1, 2]) {
      const target = `/bucket/up?partNumber=${number}&uploadId=${id}`;
      const { headers } = await ask({ method: "PUT", target, body: OLD });
      parts.push(`<Part><PartNumber>${number}</PartNumber><ETag>${headers.etag}</ETag></Part>`);
    }
    cluster.beforeOpen = (open) => (open === 2 ? REFUSED : null);
    const body = `<CompleteMultipartUpload>${parts.join("")}</CompleteMultipartUpload>`;
    const done = await ask({ method: "POST", target: `/bucket/up?uploadId=${id}`, body });
    assert.equal(done.status, 200, done.text);
    assert.equal(cluster.opens, 3);
    assert.ok(Buffer.from(vault.values.get("bucket/up")?.bytes ?? []).equals(Buffer.concat([OLD, OLD])));
  }));

test("S3 in a cluster: what cannot be had at all is ServiceUnavailable with a whole sentence, and no error of the program", () =>
  withS3(async ({ vault, cluster, ask }) => {
    vault.put("bucket/o", OLD);
    const assertRefused = (answer: Answer): void => {
      assert.deepEqual([answer.status, codeOf(answer)], [503, "ServiceUnavailable"]);
      assert.equal(answer.headers["retry-after"], "1");
      assert.doesNotMatch(answer.text, /answered 404|ECONNREFUSED/);
    };
    for (const error of [GONE, REFUSED, new Error("other side closed")])
      for (const sent of [{ method: "GET", target: "/bucket/o" }, COPY]) {
        cluster.opens = 0;
        cluster.beforeOpen = () => error;
        const answer = await ask(sent);
        assertRefused(answer);
        assert.match(answer.text, /each time the value was looked up it was replaced, or could not be read/);
        assert.equal(cluster.opens, LOOKS);
      }
    // It breaks off when some of it has been read already.
    cluster.beforeOpen = () => null;
    cluster.beforePiece = (offset) => (offset > 0 ? new Error("other side closed") : null);
    const broken = await ask(COPY);
    assertRefused(broken);
    assert.match(broken.text, /the node that has the value broke off/);
    assert.equal(vault.values.has("bucket/copy"), false);
  }));

/** Begins an upload in parts of `bucket/up`. */
async function begun(ask: Bench["ask"]): Promise<string> {
  const { text } = await ask({ method: "POST", target: "/bucket/up?uploads=" });
  return /<UploadId>(\w+)</.exec(text)?.[1] ?? "";
}
