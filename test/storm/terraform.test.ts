/** Terraform keeps its state, and its locks, on a cluster. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { startCluster } from "../cluster/workers.ts";
import { endTerraform, Folder, needsTerraform } from "../rest/terraform-program.ts";

after(endTerraform);

test("Terraform over three nodes, one of which is killed while a lock is held", needsTerraform, async () => {
  const cluster = await startCluster({ workers: 3 });
  try {
    const [first, second, third] = cluster.workers;
    const ada = new Folder("ada at a cluster", first.port);
    const bob = new Folder("bob at a cluster", third.port);
    await ada.init();
    await ada.applies("one");
    ada.moveTo(second.port);
    await ada.init();
    await bob.init();
    assert.equal(await bob.output(), "one");
    const held = await ada.holds("two");
    await bob.lockedOut();
    await first.kill();
    await bob.lockedOut();
    ada.goesOn();
    const ended = await held.ended;
    assert.equal(ended.status, 0, ended.output);
    assert.equal(await bob.output(), "two");
    await bob.applies("three");
    assert.equal(await ada.output(), "three");
  } finally {
    await cluster.dispose();
  }
});
