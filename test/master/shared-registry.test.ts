/** A master's way to etcd, and who is refused there: one etcd that asks for a user, and masters in this process. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArguments } from "../../src/cli/arguments.ts";
import { firstLayout } from "../../src/cluster/layout/steps.ts";
import { writeState } from "../../src/master/layout/state.ts";
import { type RunningMaster, startMaster } from "../../src/master/master.ts";
import { createLog } from "../../src/platform/log.ts";
import { loadHash } from "../../src/util/hash.ts";
import { call } from "../rest/client.ts";
import { removeFolder, temporaryFolder } from "../rest/server.ts";
import { type Etcd, startEtcd, withoutEtcd } from "./etcd-server.ts";

const WAIT_MS_MAX = 120_000;
const USER = { name: "root", password: "s3cret" };

describe("masters' way to etcd", withoutEtcd, () => {
  const folder = temporaryFolder();
  const running = new Set<RunningMaster>();
  let etcd: Etcd;

  before(async () => {
    await loadHash();
    etcd = await startEtcd();
    await etcd.ask("auth/user/add", USER);
    await etcd.ask("auth/role/add", { name: "root" });
    await etcd.ask("auth/user/grant", { user: "root", role: "root" });
    await etcd.ask("auth/enable", {});
  });
  after(async () => {
    for (const master of running) await master.stop();
    await etcd.stop();
    removeFolder(folder);
  });

  const start = async (name: string, user = "root:s3cret@"): Promise<RunningMaster> => {
    const registry = `etcd://${user}127.0.0.1:${etcd.port}/way`;
    const words = [
      "-mode=master",
      "-host=127.0.0.1",
      "-port=0",
      "-data",
      path.join(folder, name),
      "-registry",
      registry,
    ];
    const parsed = parseArguments(words, {});
    if (parsed.kind !== "run") throw new Error(parsed.text);
    const master = await startMaster(parsed.config, createLog("silent", false));
    running.add(master);
    return master;
  };
  const stop = async (master: RunningMaster): Promise<void> => {
    running.delete(master);
    await master.stop();
  };
  const health = async ({ port }: RunningMaster) =>
    (await call(port, "GET", "/health", { agent: false })).json();
  /** A directory of a master that had a state of its own; answers the name of its cluster. */
  const ownState = (name: string): string => {
    const url = `http://${name}:3000`;
    const layout = firstLayout([{ id: url, url, region: "eu", host: name, state: "active" }], 1, 1);
    mkdirSync(path.join(folder, name, "master"), { recursive: true });
    writeState(path.join(folder, name, "master"), {
      layout,
      queue: [],
      stores: {},
      left: {},
      returning: {},
      nodes: [],
    });
    return layout.cluster as string;
  };

  test("what it had of its own goes to etcd once; another one goes on with it; a stranger is refused", async () => {
    const cluster = ownState("first");
    const first = await start("first");
    assert.equal((await health(first)).standby, false);
    assert.equal((await health(first)).epoch, 1);
    assert.ok(existsSync(path.join(folder, "first/master/MASTER.taken-over")));
    assert.ok(!existsSync(path.join(folder, "first/master/MASTER")));
    const second = await start("second");
    const { standby, leader, epoch } = await health(second);
    assert.deepEqual([standby, leader, epoch], [true, `http://localhost:${first.port}`, 1]);
    for (const target of ["/layout", "/nodes"]) {
      const reply = await call(second.port, "GET", target, { agent: false });
      assert.deepEqual([reply.status, reply.json().code], [503, "not_leading"]);
    }
    const report = { body: JSON.stringify({ url: "http://stranger:3000" }), agent: false } as const;
    const heard = await call(second.port, "POST", "/heartbeat", report);
    assert.deepEqual([heard.status, heard.json().leads], [200, false]);
    const other = ownState("stranger");
    assert.notEqual(other, cluster);
    await assert.rejects(start("stranger"), /holds the cluster .* but this master .* belongs to/);
    assert.ok(
      existsSync(path.join(folder, "stranger/master/MASTER")),
      "what is another cluster's stays as it is",
    );
    await stop(first);
    const deadline = performance.now() + WAIT_MS_MAX;
    while ((await health(second)).standby) {
      assert.ok(performance.now() < deadline, "the second one leads when the first has ended");
      await sleep(50);
    }
    const { layout } = (await call(second.port, "GET", "/layout", { agent: false })).json();
    assert.equal(layout.cluster, cluster);
  });

  test("a user that etcd does not let in, or none, is said", async () => {
    for (const [user, reason] of [
      ["root:wrong@", /does not let the user of -registry in/],
      ["", /it wants a user: -registry etcd:\/\/user:password@/],
    ] as const) {
      const master = await start(`user-${user.length}`, user);
      const said = await health(master);
      assert.deepEqual([said.status, said.standby, said.leader], ["degraded", true, null]);
      assert.match(said.reason, reason);
      assert.ok(!said.reason.includes("wrong"), "and nothing of a password");
      await stop(master);
    }
  });
});
