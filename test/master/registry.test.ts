import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { DOWN_MS, type Heartbeat, SUSPECT_MS } from "../../src/cluster/membership/messages.ts";
import { FORGET_MS, REGISTRY_TIMES, Registry, WORKERS_MAX } from "../../src/master/registry/registry.ts";

const report = (url: string, region = "eu", load: unknown = null): Heartbeat => ({
  ...{
    url,
    region,
    load,
    host: "h",
    store: "",
    epoch: 0,
    features: 1,
    empty: true,
    voting: false,
    rank: 0,
    progress: null,
  },
});
const states = (registry: Registry, nowMs: number) =>
  registry.list(nowMs).map(({ url, state, silentMs }) => [url, state, silentMs]);

describe("registry", () => {
  test("a silent worker is up, suspect, down, then forgotten", () => {
    const registry = new Registry([]);
    assert.equal(registry.hear(1000, report("http://a:1")), "new");
    const steps: [number, string][] = [
      [0, "up"],
      [SUSPECT_MS - 1, "up"],
      [SUSPECT_MS, "suspect"],
      [DOWN_MS - 1, "suspect"],
      [DOWN_MS, "down"],
      [FORGET_MS - 1, "down"],
    ];
    for (const [silentMs, state] of steps) {
      assert.deepEqual(states(registry, 1000 + silentMs), [["http://a:1", state, silentMs]]);
    }
    assert.deepEqual(states(registry, 1000 + FORGET_MS), []);
    assert.equal(registry.hear(2000 + FORGET_MS, report("http://a:1")), "new");
  });

  test("a heartbeat brings a worker up again and replaces what it said", () => {
    const registry = new Registry([]);
    registry.hear(0, report("http://a:1", "eu", { keys: 1 }));
    assert.equal(registry.hear(DOWN_MS, report("http://a:1", "us", { keys: 2 })), "known");
    assert.deepEqual(registry.list(DOWN_MS), [
      { ...report("http://a:1", "us", { keys: 2 }), state: "up", silentMs: 0, static: false },
    ]);
  });

  test("a static worker is there from the start, down until it reports, and never forgotten", () => {
    const registry = new Registry(["http://b:1", "http://a:1"]);
    assert.deepEqual(states(registry, 0), [
      ["http://a:1", "down", null],
      ["http://b:1", "down", null],
    ]);
    assert.equal(registry.hear(5, report("http://b:1")), "new");
    assert.equal(registry.hear(6, report("http://b:1")), "known");
    assert.deepEqual(states(registry, 6 + 2 * FORGET_MS), [
      ["http://a:1", "down", null],
      ["http://b:1", "down", 2 * FORGET_MS],
    ]);
    assert.equal(registry.list(7)[1].static, true);
  });

  test("rows are in the order of their URLs, whoever came first", () => {
    const registry = new Registry(["http://m:1"]);
    for (const name of ["z", "a", "q"]) registry.hear(0, report(`http://${name}:1`));
    const urls = registry.list(0).map((row) => row.url);
    assert.deepEqual(urls, ["http://a:1", "http://m:1", "http://q:1", "http://z:1"]);
  });

  test("a full table refuses new workers, keeps known ones, and makes room of forgotten ones", () => {
    const registry = new Registry([]);
    for (let index = 0; index < WORKERS_MAX; index++)
      assert.equal(registry.hear(0, report(`http://w${index}:1`)), "new");
    assert.equal(registry.hear(1, report("http://late:1")), "full");
    assert.equal(registry.hear(1, report("http://w0:1")), "known");
    assert.equal(registry.list(1).length, WORKERS_MAX);
    assert.equal(registry.hear(FORGET_MS, report("http://late:1")), "new");
    assert.deepEqual(
      states(registry, FORGET_MS).map(([url]) => url),
      ["http://late:1", "http://w0:1"],
    );
  });

  test("only what the table needs is kept of a report", () => {
    const registry = new Registry([]);
    registry.hear(0, { ...report("http://a:1"), extra: "x".repeat(1000) } as never);
    assert.ok(!("extra" in registry.list(0)[0]));
  });

  test("workers from before a restart are suspect until they report, then down, and members are never forgotten", () => {
    const members = new Set(["http://a:1"]);
    const registry = new Registry(["http://s:1"], REGISTRY_TIMES, (url) => members.has(url));
    const known = (name: string) => ({ url: `http://${name}:1`, region: "eu", host: name, store: "" });
    registry.restore(0, ["a", "b", "c", "s"].map(known));
    registry.hear(1, report("http://c:1"));
    const at = (nowMs: number) => registry.list(nowMs).map(({ url, state }) => `${url.slice(7, 8)} ${state}`);
    assert.deepEqual(at(1), ["a suspect", "b suspect", "c up", "s suspect"]);
    assert.deepEqual(at(DOWN_MS - SUSPECT_MS), ["a down", "b down", "c suspect", "s down"]);
    assert.equal(registry.find(1, "http://a:1")?.silentMs, null, "not heard of since the start");
    assert.equal(registry.find(1, "http://s:1")?.static, true);
    assert.deepEqual(at(FORGET_MS + 5), ["a down", "s down"]);
  });
});
