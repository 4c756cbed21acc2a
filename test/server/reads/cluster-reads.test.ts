/** Large values that lie at another node, and are replaced there, or cannot be had, just when they are opened. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ArchiveReader } from "../../../src/archive/tar-reader.ts";
import { FakeCluster, GONE, REFUSED } from "../fake-cluster.ts";
import { type Harness, until, withFront } from "../harness.ts";

const MIB = 1024 * 1024;
const OLD = Buffer.alloc(2 * MIB, "old ");
const NEW = Buffer.alloc(3 * MIB, "newer ");
const LOOKS = 5;

/** A front of a node of a cluster that has one large value, `v`, at another node. */
async function withCluster(
  body: (harness: Harness & { cluster: FakeCluster }) => Promise<void>,
): Promise<void> {
  let cluster: FakeCluster | null = null;
  await withFront({ cluster: () => cluster }, async (harness) => {
    const own = new FakeCluster(harness.vault);
    cluster = own;
    harness.vault.put("v", OLD);
    await body({ ...harness, cluster: own });
    await until(() => own.streamsOpen === 0, "what was opened is closed");
  });
}

/** Replaces the value before it is opened for the first time. */
function replacesOnce({ cluster, vault }: { cluster: FakeCluster } & Pick<Harness, "vault">): void {
  cluster.opens = 0;
  cluster.beforeOpen = (open) => {
    if (open === 1) vault.put("v", NEW);
    return null;
  };
}

function assertNoErrors({ log }: Pick<Harness, "log">): void {
  assert.deepEqual(
    log.filter(({ level }) => level === "error"),
    [],
  );
}

test("GET in a cluster: a large value that is replaced when it is opened is answered as it is then, head and bytes", () =>
  withCluster(async (harness) => {
    const { cluster, vault, call } = harness;
    replacesOnce(harness);
    const whole = await call("GET", "/v");
    assert.deepEqual([whole.status, whole.headers.etag], [200, cluster.etagOf("v")]);
    assert.ok(whole.body.equals(NEW));
    assert.equal(cluster.opens, 2);
    vault.put("v", OLD);
    replacesOnce(harness);
    const part = await call("GET", "/v", { headers: { range: `bytes=${2 * MIB - 2}-${2 * MIB + 9}` } });
    assert.deepEqual([part.status, part.headers.etag], [206, cluster.etagOf("v")]);
    assert.equal(part.headers["content-range"], `bytes ${2 * MIB - 2}-${2 * MIB + 9}/${3 * MIB}`);
    assert.ok(part.body.equals(NEW.subarray(2 * MIB - 2, 2 * MIB + 10)));
    assertNoErrors(harness);
  }));

test("GET in a cluster: conditions are judged of the version that is answered", () =>
  withCluster(async (harness) => {
    const { cluster, vault, call } = harness;
    const oldTag = cluster.etagOf("v");
    replacesOnce(harness);
    assert.equal((await call("GET", "/v", { headers: { "if-match": oldTag } })).status, 412);
    vault.put("v", OLD);
    const oldAgain = cluster.etagOf("v");
    replacesOnce(harness);
    // The range is of another version: all of this one is sent.
    const headers = { range: "bytes=0-9", "if-range": oldAgain };
    const whole = await call("GET", "/v", { headers });
    assert.deepEqual([whole.status, whole.body.length], [200, NEW.length]);
    cluster.beforeOpen = () => {
      vault.values.delete("v");
      return null;
    };
    assert.equal((await call("GET", "/v")).status, 404);
    assertNoErrors(harness);
  }));

test("GET in a cluster: a node that cannot be reached, or breaks off before the first byte, is no answer yet", () =>
  withCluster(async (harness) => {
    const { cluster, call } = harness;
    cluster.beforeOpen = (open) => (open <= 2 ? REFUSED : null);
    cluster.beforePiece = (_, open) => (open === 3 ? new Error("other side closed") : null);
    const { status, body } = await call("GET", "/v");
    assert.deepEqual([status, body.equals(OLD)], [200, true]);
    assert.equal(cluster.opens, 4);
    assertNoErrors(harness);
  }));

test("GET in a cluster: what cannot be had at all is a 503 with a whole sentence, and no error of the program", () =>
  withCluster(async (harness) => {
    const { cluster, call } = harness;
    cluster.beforeOpen = () => GONE;
    const { status, headers, text } = await call("GET", "/v");
    assert.deepEqual([status, cluster.opens], [503, LOOKS]);
    assert.ok(Number(headers["retry-after"]) > 0);
    assert.match(text, /each time the value was looked up it was replaced, or could not be read/);
    assert.doesNotMatch(text, /answered 404/);
    assertNoErrors(harness);
    assert.equal(
      harness.log.filter(({ message }) => /another node could not be read/.test(message)).length,
      LOOKS,
    );
  }));

test("export of a cluster: a large value that is replaced when its turn comes is in the archive as it is then", () =>
  withCluster(async (harness) => {
    const { cluster, call } = harness;
    replacesOnce(harness);
    const { status, body } = await call("GET", "/_export");
    assert.equal(status, 200);
    assert.ok((await valueIn(body)).equals(NEW));
    // It waits for what passes by itself, once it has begun.
    cluster.opens = 0;
    cluster.beforeOpen = (open) => (open <= LOOKS + 1 ? REFUSED : null);
    assert.ok((await valueIn((await call("GET", "/_export")).body)).equals(NEW));
    assertNoErrors(harness);
  }));

/** The bytes of the one value in an archive. */
async function valueIn(archive: Uint8Array): Promise<Buffer> {
  const reader = new ArchiveReader();
  reader.write(archive);
  reader.end();
  const values: Buffer[] = [];
  for await (const member of reader.members()) values.push(Buffer.from(await member.whole()));
  assert.equal(values.length, 1);
  return values[0];
}
