/** Terraform keeps its state, and its locks, on a node. Over three nodes: test/storm/terraform.test.ts. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, describe, test } from "node:test";
import { withServer } from "./server.ts";
import { ask, endTerraform, Folder, needsTerraform, STATE, tokens } from "./terraform-program.ts";

after(endTerraform);

describe("terraform: the program", needsTerraform, () => {
  test("terraform: init, plan, apply, a lock that keeps others out, one that is taken away, destroy", async () => {
    await withServer({ flags: tokens() }, async ({ port }) => {
      const ada = new Folder("ada", port);
      const bob = new Folder("bob", port);
      await ada.init();
      await bob.init();
      await ada.applies("one");
      const same = await bob.run("plan", "-no-color", "-input=false", "-detailed-exitcode", "-var=text=one");
      assert.equal(same.status, 0, same.output);
      const other = await bob.run("plan", "-no-color", "-input=false", "-detailed-exitcode", "-var=text=two");
      assert.equal(other.status, 2, other.output);
      assert.equal(await bob.output(), "one");
      const state = (await ask(port, STATE)).json();
      assert.equal(state.outputs.text.value, "one");
      assert.equal((await ask(port, `${STATE}.tflock`)).status, 404);

      // A lock keeps another one out, and is given back.
      const held = await ada.holds("two");
      const id = await bob.lockedOut();
      assert.equal((await ask(port, `${STATE}.tflock`)).json().ID, id);
      ada.goesOn();
      const ended = await held.ended;
      assert.equal(ended.status, 0, ended.output);
      assert.equal(await bob.output(), "two");

      // One whose holder has died stays until it is taken away.
      const dies = await ada.holds("three");
      dies.child.kill("SIGKILL");
      ada.goesOn();
      await dies.ended;
      const left = await bob.lockedOut();
      assert.notEqual(left, id);
      const unlocked = await bob.run("force-unlock", "-force", left);
      assert.equal(unlocked.status, 0, unlocked.output);
      await bob.applies("four");

      // Whose lock was taken away while it worked does not write over what another one has done.
      const robbed = await ada.holds("five");
      const taken = await bob.run("force-unlock", "-force", await bob.lockedOut());
      assert.equal(taken.status, 0, taken.output);
      await bob.applies("six");
      ada.goesOn();
      const late = await robbed.ended;
      assert.equal(late.status, 1, late.output);
      assert.match(late.output, /Failed to save state/);
      assert.ok(fs.existsSync(path.join(ada.path, "errored.tfstate")));
      assert.equal(await bob.output(), "six");

      const gone = await bob.run("destroy", "-no-color", "-auto-approve", "-input=false", "-var=text=six");
      assert.equal(gone.status, 0, gone.output);
      assert.deepEqual((await ask(port, STATE)).json().resources, []);
      assert.equal((await ask(port, `${STATE}.tflock`)).status, 404);
    });
  });
});
