/** What is under way while the layout changes: large values that come slowly. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import http from "node:http";
import { test } from "node:test";
import { startCluster } from "../cluster/workers.ts";
import { call, digest } from "../rest/client.ts";
import { waitUntil } from "../rest/server.ts";

const RAW = { "Content-Type": "application/octet-stream" };
/** What a client sends each second that is slow, but not too slow. */
const DRIP_BYTES = 8192;

interface LayoutAnswer {
  epoch: number;
  layout: { nodes: unknown[]; previous: unknown };
}

/** An upload that stops in its middle; `finish` sends the rest and answers the status. */
async function uploadInHalves(
  port: number,
  key: string,
  value: Buffer,
): Promise<() => Promise<{ status: number; text: string }>> {
  const request = http.request({
    ...{ port, method: "PUT", path: key, agent: false },
    headers: { ...RAW, "Content-Length": value.length },
  });
  const answered = new Promise<{ status: number; text: string }>((resolve, reject) => {
    request.once("error", reject);
    request.once("response", (response) => {
      let text = "";
      response.on("data", (piece) => {
        text += piece;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
    });
  });
  answered.catch(() => {});
  const half = value.length >> 1;
  request.write(value.subarray(0, half));
  let sent = half;
  // Whoever sends nothing at all is given up.
  const drip = setInterval(() => {
    if (sent + DRIP_BYTES >= value.length) return;
    request.write(value.subarray(sent, sent + DRIP_BYTES));
    sent += DRIP_BYTES;
  }, 1000);
  return () => {
    clearInterval(drip);
    request.end(value.subarray(sent));
    return answered;
  };
}

test("moves: large uploads that began before one are done after it, and whole at every node", async (t) => {
  const cluster = await startCluster({ workers: 1, flags: ["-max-value", "64MiB"] });
  t.after(() => cluster.dispose());
  const layout = async (): Promise<LayoutAnswer> => (await call(cluster.masterPort, "GET", "/layout")).json();
  const values = Array.from({ length: 8 }, () => randomBytes(3 * 1024 * 1024 + 11));
  const begin = (round: string) =>
    Promise.all(
      values.map((value, index) => uploadInHalves(cluster.workers[0].port, `/${round}-${index}`, value)),
    );
  const finish = async (round: string, finishes: Awaited<ReturnType<typeof begin>>): Promise<void> => {
    const answers = await Promise.all(finishes.map((end) => end()));
    assert.deepEqual(
      answers.map(({ status }) => status),
      values.map(() => 201),
      `${round}: ${answers.map(({ text }) => text)}`,
    );
    for (const worker of cluster.workers)
      for (const [index, value] of values.entries())
        assert.equal(
          (await digest(worker.port, "GET", `/${round}-${index}`)).sha256,
          createHash("sha256").update(value).digest("hex"),
          `${round}-${index} at worker ${worker.number}`,
        );
  };
  // From one copy to three: over the beginning of the move, and over all of it.
  const early = await begin("early");
  const late = await begin("late");
  await Promise.all([cluster.add(), cluster.add()]);
  await waitUntil("the move begins", async () => (await layout()).epoch > 1);
  await finish("early", early);
  await waitUntil("the move is over", async () => {
    const { nodes, previous } = (await layout()).layout;
    return nodes.length === 3 && previous === null;
  });
  await cluster.ready();
  await finish("late", late);
  // Of three replicas two are others by the end.
  const most = await begin("most");
  await Promise.all([cluster.add(), cluster.add(), cluster.add()]);
  await waitUntil("the second move is over", async () => {
    const { nodes, previous } = (await layout()).layout;
    return nodes.length === 6 && previous === null;
  });
  await cluster.ready();
  await finish("most", most);
});
