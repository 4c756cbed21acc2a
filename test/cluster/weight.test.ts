import assert from "node:assert/strict";
import { test } from "node:test";
import { patiently } from "./patience.ts";
import { startCluster } from "./workers.ts";

test("weight: comes back with small and large values at every node, and after kill -9", async () => {
  const cluster = await startCluster({ workers: 3 });
  try {
    const [first, second, third] = cluster.workers;
    for (const [name, bytes] of [
      ["small", 10],
      ["large", 3_000_000],
    ] as const) {
      const put = await patiently(first.port, "PUT", `/${name}`, "a".repeat(bytes), {
        "X-Weight": "513",
      });
      assert.ok(put.status < 300, put.text);
    }
    await third.kill();
    await third.start();
    for (const { port } of [first, second, third])
      for (const name of ["small", "large"])
        assert.equal((await patiently(port, "GET", `/${name}`)).headers["x-weight"], "513");
    const bad = await patiently(first.port, "PUT", "/small", "x", { "X-Weight": "65536" });
    assert.equal(bad.status, 400);
  } finally {
    await cluster.dispose();
  }
});
