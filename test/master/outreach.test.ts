/** What a master asks of workers by itself, of small servers in their place. */
import assert from "node:assert/strict";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { firstLayout } from "../../src/cluster/layout/steps.ts";
import { PeerTls } from "../../src/cluster/link/peer-tls.ts";
import { Outreach } from "../../src/master/outreach.ts";
import type { Steward } from "../../src/master/steward/steward.ts";
import { loadHash } from "../../src/util/hash.ts";
import { waitUntil } from "../rest/server.ts";

before(loadHash);
const servers: http.Server[] = [];
after(() => {
  for (const server of servers) server.close();
});

/** A worker that answers each request so. */
async function worker(answer: (url: string) => { status: number; body: object }): Promise<string> {
  const server = http.createServer((_, response) => {
    const { status, body } = answer(url);
    response.writeHead(status).end(JSON.stringify(body));
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return url;
}

const memberAt = (url: string) => ({
  ...{
    success: true,
    url,
    region: "eu",
    host: "h",
    store: "5".repeat(32),
    epoch: 1,
    empty: true,
    voting: true,
  },
  ...{ birth: {}, volumes: null },
  layout: firstLayout([{ id: url, url, region: "eu", host: "h", state: "active" }], 1),
});

test("outreach: a newer layout is learned from whoever can be asked; that nobody can is shown while it is so", async () => {
  const gone = "http://127.0.0.1:1";
  const refusing = await worker(() => ({ status: 503, body: { error: "not now" } }));
  const foreign = await worker((url) => ({ status: 200, body: memberAt(url) }));
  const knowing = await worker((url) => ({ status: 200, body: memberAt(url) }));
  let newer = [gone, refusing];
  const said: string[] = [];
  const learned: string[] = [];
  const steward: Partial<Steward> = {
    uninvited: () => [],
    untried: () => [],
    newerAt: () => newer,
    learn: (_, { url }) => {
      if (url !== foreign) newer = [];
      learned.push(url);
      return url !== foreign;
    },
  };
  let nowMs = 0;
  const outreach = new Outreach({
    ...{ steward: steward as Steward, url: () => "http://m:1", signer: null, tls: new PeerTls(null, null) },
    now: () => nowMs,
    log: { info() {}, warn: (fields) => void said.push(JSON.stringify(fields)) },
  });
  const tick = (): void => {
    nowMs += 1000;
    outreach.tick();
  };
  try {
    await waitUntil("both are named", () => {
      tick();
      return outreach.problem?.includes(gone) === true && outreach.problem.includes("not now");
    });
    const lines = said.length;
    for (let more = 0; more < 10; more++) tick();
    assert.equal(said.length, lines, "each reason is said once");
    newer = [gone, refusing, foreign, knowing];
    await waitUntil("it is learned", () => {
      tick();
      return learned.includes(knowing);
    });
    assert.deepEqual(learned, learned.includes(foreign) ? [foreign, knowing] : [knowing]);
    await waitUntil("nothing is left to say", () => {
      tick();
      return outreach.problem === null;
    });
  } finally {
    await outreach.close();
  }
});
