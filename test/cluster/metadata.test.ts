/** What a value carries beside its bytes reaches every replica of a cluster, on every way. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { FEATURES } from "../../src/cluster/layout/features.ts";
import { call } from "../rest/client.ts";
import { isWhole, layoutOf, put, SIZES, untilHeld, untilMoved } from "./kept-values.ts";
import { patiently } from "./patience.ts";
import { startCluster } from "./workers.ts";

test("metadata of a cluster: written through any node, read from each, repaired, and moved with its value", async () => {
  const cluster = await startCluster({ workers: 3 });
  try {
    const [first, second, third] = cluster.workers;
    assert.equal(
      (await layoutOf(cluster)).features,
      FEATURES,
      "a cluster of new programs begins at their level",
    );
    const names: [string, number][] = [];
    for (const worker of cluster.workers)
      for (const [size, bytes] of Object.entries(SIZES)) {
        const name = `${size}-${worker.number}`;
        await put(worker, name, bytes);
        names.push([name, bytes]);
        for (const reader of cluster.workers) {
          assert.ok(
            isWhole(await patiently(reader.port, "GET", `/${name}`), name, bytes),
            `${name} by ${reader.number}`,
          );
          const head = await patiently(reader.port, "HEAD", `/${name}`);
          assert.deepEqual([head.status, head.headers["x-meta-colour"]], [200, "blue"]);
          const range = { range: "bytes=5-9" };
          const part = await patiently(reader.port, "GET", `/${name}`, undefined, range);
          assert.deepEqual([part.status, part.headers["x-meta-colour"]], [206, "blue"]);
        }
      }
    await untilHeld(cluster.workers, names);
    await third.kill();
    for (const [size, bytes] of Object.entries(SIZES)) {
      await put(first, `missed-${size}`, bytes);
      names.push([`missed-${size}`, bytes]);
    }
    await third.start();
    await untilHeld([third], names);
    const fourth = await cluster.add();
    await untilMoved(cluster, 4);
    const left = await call(cluster.masterPort, "POST", "/layout", {
      body: JSON.stringify({ drain: second.url }),
    });
    assert.equal(left.status, 200, left.text);
    await untilMoved(cluster, 3);
    await untilHeld([fourth, first, third], names);
  } finally {
    await cluster.dispose();
  }
});
