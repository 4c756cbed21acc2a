/** Lists beside churn, the short form. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type KeyRange, rangeOf } from "../../src/engine/catalog/runs/listing.ts";
import { CATALOG_FIGURES_BYTES, type CatalogAnswer } from "../../src/shards/catalog/messages.ts";
import { CatalogService } from "../../src/shards/catalog/service.ts";
import { SteadyClock } from "../../src/util/clock.ts";
import { Random, randomSeed } from "../random.ts";
import { churnRun } from "./catalog-churn.ts";
import { Store } from "./catalog-store.ts";
import { Harness, inDirectory } from "./harness.ts";

test("catalog: keys that stay come exactly once in every list, whatever else is written, merged and moved", async (t) => {
  const random = new Random(randomSeed(t));
  for (let run = 0; run < 8; run++) await inDirectory((directory) => churnRun(directory, random));
});

test("catalog: a first build writes what it has while it goes on, and holds little in memory", async () => {
  await inDirectory(async (directory) => {
    const keys = 20_000;
    const without = await Harness.open(directory, { slabBytes: 32 * 1024 });
    for (let i = 0; i < keys; i++) {
      without.stage(`key/${i}`, "v");
      if (i % 64 === 63) without.shard.commit();
    }
    without.shard.commit();
    await without.shard.close();
    const store = await Store.open(directory, 1);
    const figures = new Float64Array(CATALOG_FIGURES_BYTES / Float64Array.BYTES_PER_ELEMENT);
    const service = new CatalogService(
      store.catalog,
      store.shards[0].store,
      figures,
      new SteadyClock(),
      (text) => assert.fail(text),
    );
    let most = 0;
    while (store.catalog.state !== "ready") {
      most = Math.max(most, store.catalog.figures().tailKeys);
      await new Promise((resolve) => setImmediate(resolve));
    }
    // In a slice of time it may take in more than it waits for.
    assert.ok(most < keys / 2, `${most} keys in memory`);
    assert.ok(store.catalog.figures().flushes > 0);
    let counted = 0;
    // A busy machine tells it in several parts.
    for (let left: KeyRange | null = rangeOf(new Uint8Array(0)); left !== null; ) {
      const part: CatalogAnswer = await service.answer({ kind: "count", range: left });
      assert.ok(part.kind === "count", JSON.stringify(part));
      counted += part.count;
      left = part.left;
    }
    assert.equal(counted, keys);
    for (const harness of store.shards) await harness.shard.close();
    await service.close();
  });
});
