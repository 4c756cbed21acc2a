/** `minivault import -from-minikeyvalue`: all of a store, some of it, again, and what is wrong with it told by name. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, beforeEach, describe, test } from "node:test";
import { call, closeConnections, content } from "../rest/client.ts";
import { launch, type Server, startServer } from "../rest/server.ts";
import { type FakeMiniKeyValue, startMiniKeyValue } from "./fake-minikeyvalue.ts";

const MIB = 1024 * 1024;

let source: FakeMiniKeyValue;
let server: Server;
before(async () => {
  server = await startServer({ sync: "os" });
});
beforeEach(async () => {
  source = await startMiniKeyValue();
});
after(async () => {
  closeConnections();
  await server?.dispose();
});

interface Outcome {
  status: number | null;
  stored: number;
  kept: number;
  gone: number;
  refused: number;
  refusals: { key: string; error: string }[];
}

/** To its end, however long that takes. */
async function run(...words: string[]): Promise<{ status: number | null; output: string }> {
  const program = await launch(words);
  const { status } = await program.ended;
  return { status, output: program.output() };
}

const migrate = (...words: string[]): Promise<Outcome> => migrateTo(server.url, ...words);

async function migrateTo(url: string, ...words: string[]): Promise<Outcome> {
  const command = ["import", "-from-minikeyvalue", source.url, "-url", url, "-json", ...words];
  const { status, output } = await run(...command);
  const line = output.split("\n").find((one) => one.startsWith("{"));
  assert.ok(line !== undefined, output);
  return { status, ...JSON.parse(line) };
}

const pathOf = (name: string): string => `/_kv/${name.split("/").map(encodeURIComponent).join("/")}`;
const read = (name: string) => call(server.port, "GET", pathOf(name));
const fill = (prefix: string, count: number): void => {
  for (let i = 0; i < count; i++) source.values.set(`/${prefix}${i}`, content(i, 1 + (i % 300)));
};

describe("minivault import -from-minikeyvalue", { concurrency: 1 }, () => {
  test("copies every key of several pages, with any name and of any size, and says how many", async () => {
    fill("all/", 130);
    const names = ["all/ü/\u{1f600}", "all/a b?c#d%2f", "all/./..//x", "all/\ufffe", "all/health", "all/_x"];
    for (const name of names) source.values.set(`/${name}`, Buffer.from(name));
    source.values.set("/all/large", content(7, 5 * MIB + 1));
    source.values.set("/all/one-record", content(8, MIB));
    const outcome = await migrate("-prefix", "all/");
    assert.deepEqual([outcome.status, outcome.stored, outcome.refused], [0, 138, 0], JSON.stringify(outcome));
    for (const [key, value] of source.values) {
      const { status, body, headers } = await read(key.slice(1));
      assert.equal(status, 200, key);
      assert.ok(body.equals(value), `${key} differs`);
      assert.equal(headers["content-type"], "application/octet-stream");
    }
    await source.close();
  });

  test("only keys with the prefix; what is there stays, and is not fetched again; -mode replace replaces it", async () => {
    fill("some/", 30);
    source.values.set("/other", Buffer.from("1"));
    await call(server.port, "PUT", "/some/3", { body: "ours" });
    const first = await migrate("-prefix", "some/");
    assert.deepEqual([first.status, first.stored, first.kept], [0, 29, 1]);
    assert.ok(!source.fetched.includes("/some/3"));
    assert.equal((await read("some/3")).text, "ours");
    assert.equal((await read("other")).status, 404);
    const fetched = source.fetched.length;
    const second = await migrate("-prefix", "some/");
    assert.deepEqual([second.status, second.stored, second.kept], [0, 0, 30]);
    assert.equal(source.fetched.length, fetched);
    const replaced = await migrate("-prefix", "some/", "-mode", "replace");
    assert.deepEqual([replaced.status, replaced.stored, replaced.kept], [0, 30, 0]);
    assert.ok((await read("some/3")).body.equals(source.values.get("/some/3") as Buffer));
    await source.close();
  });

  test("broken off by a source that dies, the same command goes on", async () => {
    fill("broken/", 150);
    let left = 70;
    source.onValue = () => {
      if (--left === 0) void source.close();
    };
    const { status, output } = await run(
      ...["import", "-from-minikeyvalue", source.url, "-url", server.url, "-prefix", "broken/"],
    );
    assert.equal(status, 1, output);
    assert.match(output, /cannot be reached/);
    const { values } = source;
    source = await startMiniKeyValue();
    for (const [key, value] of values) source.values.set(key, value);
    const outcome = await migrate("-prefix", "broken/");
    assert.deepEqual([outcome.status, outcome.refused], [0, 0], JSON.stringify(outcome));
    assert.ok(outcome.kept > 0, `${outcome.kept} were there`);
    assert.equal(outcome.stored + outcome.kept, 150);
    for (const [key, value] of values) assert.ok((await read(key.slice(1))).body.equals(value), key);
    await source.close();
  });

  test("what is lost, or not what the master knows, is told by name and not stored; the rest is copied", async () => {
    fill("bad/", 40);
    source.values.set("/bad/large-wrong", content(1, 3 * MIB));
    source.values.set("/bad/large-cut", content(2, 3 * MIB));
    source.values.set("/bad/cut-once", content(3, 1000));
    source.values.set("/bad/gone", Buffer.from("x"));
    source.lost.add("/bad/5");
    for (const key of ["/bad/6", "/bad/large-wrong"]) source.wrong.add(key);
    source.cut.set("/bad/large-cut", 100).set("/bad/cut-once", 1);
    source.onValue = (key) => {
      if (key === "/bad/gone") source.values.delete(key);
    };
    const outcome = await migrate("-prefix", "bad/");
    const refused = ["bad/5", "bad/6", "bad/large-cut", "bad/large-wrong"];
    assert.deepEqual(outcome.refusals.map(({ key }) => key).sort(), refused, JSON.stringify(outcome));
    assert.deepEqual([outcome.status, outcome.stored, outcome.gone, outcome.refused], [1, 39, 1, 4]);
    assert.match(outcome.refusals.find(({ key }) => key === "bad/6")?.error ?? "", /Content-Md5/);
    for (const name of [...refused, "bad/gone"]) assert.equal((await read(name)).status, 404, name);
    const hash = (bytes: Buffer): string => createHash("md5").update(bytes).digest("hex");
    assert.equal(hash((await read("bad/cut-once")).body), hash(content(3, 1000)));
    await source.close();
  });

  test("a node with -compat mkv takes it, too, and keeps what it has", async () => {
    const own = await startServer({ sync: "os", flags: ["-compat", "mkv"] });
    fill("m/", 20);
    source.values.set("/m/large", content(4, 2 * MIB));
    for (const [stored, kept] of [
      [21, 0],
      [0, 21],
    ]) {
      const outcome = await migrateTo(own.url);
      assert.deepEqual([outcome.status, outcome.stored, outcome.kept], [0, stored, kept]);
    }
    const list = (await call(own.port, "GET", "/?list&limit=3")).json();
    assert.deepEqual(list, { keys: ["/m/0", "/m/1", "/m/10"], next: "/m/11" });
    await own.dispose();
    await source.close();
  });

  test("what is used wrongly, and a source that is none", async () => {
    const wrong = async (...words: string[]) => (await run("import", ...words)).status;
    assert.equal(await wrong(), 2);
    assert.equal(await wrong("-from-minikeyvalue", source.url, "all.tar"), 2);
    assert.equal(await wrong("-from-minikeyvalue", source.url, "-mode", "newer"), 2);
    assert.equal(await wrong("-from-minikeyvalue", "ftp://x"), 2);
    assert.equal(await wrong("-prefix", "a", "all.tar"), 2);
    // A node of ours lists in another form.
    const { status, output } = await run("import", "-from-minikeyvalue", server.url, "-url", server.url);
    assert.equal(status, 1);
    assert.match(output, /minikeyvalue/);
    await source.close();
  });
});
