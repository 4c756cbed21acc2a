/** Commands that ask a master: of several that are named, one that can be reached is enough. */
import assert from "node:assert/strict";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { freePort } from "../../native-bench/processes.ts";
import { DRAIN, NODES } from "../../src/cli/cluster/cluster-commands.ts";
import { SUBCOMMANDS } from "../../src/cli/commands.ts";
import type { Words } from "../../src/cli/subcommand/subcommand.ts";

/** A master that answers all requests with one document, or not at all; answers its URL and what it was asked. */
async function master(t: TestContext, document: object | null): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = [];
  const server = http.createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    if (document === null) request.socket.destroy();
    else response.end(JSON.stringify(document));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

const dead = async () => `http://127.0.0.1:${await freePort()}`;

async function run(command: typeof NODES, masters: string[], operands: string[] = []): Promise<string> {
  let text = "";
  const terminal = {
    out: (piece: string) => {
      text += piece;
    },
    err: () => {},
    isTerminal: false,
  };
  const words = {
    operands,
    values: { master: masters },
    options: {},
    switches: new Set(["detach"]),
    given: new Set(),
  };
  assert.equal(await command.run(words as unknown as Words, terminal as never), 0);
  return text;
}

const EMPTY = { success: true, epoch: 3, nodes: [] };

test("masters: the next one is asked when one cannot be reached, or breaks off", async (t) => {
  const good = await master(t, EMPTY);
  const broken = await master(t, null);
  assert.match(await run(NODES, [await dead(), broken.url, good.url]), /epoch 3/);
  assert.deepEqual([broken.asked, good.asked], [["GET /nodes"], ["GET /nodes"]]);
});

test("masters: none can be reached: all are named", async () => {
  const urls = [await dead(), await dead()];
  await assert.rejects(run(NODES, urls), (error: Error) => urls.every((url) => error.message.includes(url)));
});

test("masters: one that refuses is believed, and one that may have made a change is the last that is asked", async (t) => {
  const good = await master(t, { ...EMPTY, layout: null, move: null, waiting: [] });
  const refusing = await master(t, { success: false, error: "it is so" });
  await assert.rejects(run(NODES, [refusing.url, good.url]), /it is so/);
  assert.deepEqual(good.asked, []);
  const broken = await master(t, null);
  await assert.rejects(run(DRAIN, [broken.url, good.url], ["http://127.0.0.1:1"]), /cannot be reached/);
  assert.deepEqual(good.asked, ["GET /layout"]);
});

test("masters: every command that asks one takes an operator's token", () => {
  const asking = SUBCOMMANDS.filter(({ flags, name }) => flags.includes("master") && name !== "backup");
  assert.equal(asking.length, 7);
  for (const { options = {} } of asking) assert.equal(options.token?.hasVariable, true);
});
