/** Workers of -volumes before there is a layout: what holds the beginning up is said, and ends nobody. */
import assert from "node:assert/strict";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { PeerTls } from "../../src/cluster/link/peer-tls.ts";
import type { MemberDocument } from "../../src/cluster/membership/messages.ts";
import type { MembershipOptions } from "../../src/cluster/membership/options.ts";
import { StaticPeers } from "../../src/cluster/membership/static-peers.ts";
import { loadHash } from "../../src/util/hash.ts";

before(loadHash);

/** A worker that says of itself what it is given; answers its port. */
async function worker(says: (port: number) => Partial<MemberDocument>): Promise<number> {
  const server = http.createServer((_, response) => {
    const { port } = server.address() as AddressInfo;
    response.end(JSON.stringify(documentOf(`http://127.0.0.1:${port}`, says(port))));
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  after(() => {
    server.close();
    server.closeAllConnections();
  });
  return (server.address() as AddressInfo).port;
}

function documentOf(url: string, more: Partial<MemberDocument>): object {
  return {
    ...{ url, region: "eu", host: "h", store: "b".repeat(32), epoch: 0, empty: true, voting: false },
    ...{ features: 1, layout: null, birth: {}, volumes: null, ...more },
  };
}

/** What a worker says that finds these others; it is the first of the list, which makes the layout. */
async function firstSaid(own: string, volumes: string[]): Promise<{ said: string; reason: string }> {
  const urls = [own, ...volumes].sort();
  let tell = (_: string): void => {};
  const first = new Promise<string>((resolve) => {
    tell = resolve;
  });
  const member = {
    layout: null,
    document: () => documentOf(own, { volumes: urls, store: "a".repeat(32) }) as MemberDocument,
    takeFromMaker: () => tell("a layout"),
    observe() {},
  };
  const peers = new StaticPeers(member, {
    ...{ url: own, volumes, replicas: 3, partitions: null, isEmpty: () => true },
    ...{ signer: null, tls: new PeerTls(null, null) },
    log: { info() {}, warn: ({ reason }: { reason: string }) => tell(reason), error() {} },
  } as unknown as MembershipOptions);
  peers.start();
  try {
    return { said: await first, reason: peers.reason };
  } finally {
    await peers.close();
  }
}

const OWN = "http://127.0.0.1:1";

test("static peers: a worker that stands twice in -volumes is named, and so is oneself", async () => {
  const urls: string[] = [OWN];
  const port = await worker(() => ({ volumes: [...urls].sort() }));
  const names = [`http://127.0.0.1:${port}`, `http://localhost:${port}`];
  urls.push(...names);
  const twice = await firstSaid(OWN, names);
  assert.match(twice.said, new RegExp(`^${names[1]} leads to ${names[0]}: -volumes names each worker once`));
  assert.equal(twice.reason, twice.said);
  const self = await worker(() => ({ url: OWN, store: "a".repeat(32) }));
  const { said } = await firstSaid(OWN, [`http://127.0.0.1:${self}`]);
  assert.match(said, new RegExp(`^http://127.0.0.1:${self} leads to this worker itself, ${OWN}: `));
});

test("static peers: what another says of itself that no layout can have ends nobody", async () => {
  const urls: string[] = [OWN];
  let region = "";
  const port = await worker(() => ({ volumes: [...urls].sort(), region }));
  urls.push(`http://127.0.0.1:${port}`);
  assert.match(
    (await firstSaid(OWN, urls.slice(1))).said,
    /^no layout can be made of what the workers say: /,
  );
  region = "eu";
  assert.equal((await firstSaid(OWN, urls.slice(1))).said, "a layout");
});
