/** What a node makes of those who say that they belong to another cluster, by a clock of the test's own. */
import assert from "node:assert/strict";
import { mkdtempSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { encodeLife } from "../../src/cluster/identity/life.ts";
import { FENCED, Lives } from "../../src/cluster/identity/lives.ts";
import type { OwnLife } from "../../src/cluster/identity/own-life.ts";
import { Senders } from "../../src/cluster/identity/senders.ts";
import { firstLayout } from "../../src/cluster/layout/steps.ts";
import { loadHash } from "../../src/util/hash.ts";
import { removeFolder, temporaryFolder } from "../rest/server.ts";

before(loadHash);
const folder = temporaryFolder();
after(() => removeFolder(folder));

test("senders: a member that is refused as an earlier life of itself is fenced; who is no member waits for what the master says", () => {
  const url = "http://a:1";
  const layout = firstLayout([{ id: url, url, region: "eu", host: "a", state: "active" }], 1);
  const about = { cluster: null, epoch: 1, layout: null, store: "5".repeat(32), session: "0123456789abcdef" };
  for (const isMember of [true, false]) {
    const fenced: string[] = [];
    const own = { isProven: true, fence: (reason: string) => void fenced.push(reason) } as unknown as OwnLife;
    const senders = new Senders({
      ...{ url, layout: () => (isMember ? layout : null), incarnation: () => 1, own },
      lives: new Lives(mkdtempSync(path.join(folder, "lives-")), () => {}),
      now: () => 0,
      log: { error: () => {} },
    });
    const life = encodeLife({ ...about, incarnation: 1, votes: true, url });
    senders.wasRefused(life, `${FENCED} start 3 of it is known`);
    assert.equal(fenced.length, isMember ? 1 : 0);
  }
});

test("senders: a stranger is shown while it speaks, is over when it was silent for a minute, and is said again when it comes back", () => {
  const url = "http://a:1";
  const layout = firstLayout([{ id: url, url, region: "eu", host: "a", state: "active" }], 1);
  const said: object[] = [];
  let nowMs = 0;
  const senders = new Senders({
    ...{ url, layout: () => layout, incarnation: () => 1, own: {} as OwnLife },
    lives: new Lives(mkdtempSync(path.join(folder, "lives-")), () => {}),
    now: () => nowMs,
    log: { error: (fields) => void said.push(fields) },
  });
  const about = {
    epoch: 1,
    layout: null,
    store: "5".repeat(32),
    incarnation: 1,
    session: "0123456789abcdef",
  };
  const stranger = encodeLife({ ...about, cluster: "7".repeat(32), votes: true, url: "http://x:1" });
  const speaks = (): void => assert.match(String(senders.hear(stranger, null)), /another cluster/);
  for (; nowMs < 120_000; nowMs += 1000) speaks();
  assert.match(String(senders.problem), /http:\/\/x:1 belongs to another cluster/);
  assert.equal(said.length, 1);
  nowMs += 58_000;
  assert.notEqual(senders.problem, null);
  nowMs += 2000;
  assert.equal(senders.problem, null);
  speaks();
  assert.equal(said.length, 2);
  assert.notEqual(senders.problem, null);
});
