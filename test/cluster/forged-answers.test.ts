/**
 * Somebody between two nodes who has no key: whatever they make of an answer, it never counts as "nothing was
 * done", nor as a value.
 */
import assert from "node:assert/strict";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { freePort } from "../../native-bench/processes.ts";
import { KeyRing } from "../../src/auth/keys.ts";
import { RequestSigner } from "../../src/auth/signature.ts";
import type { ExchangeError } from "../../src/cluster/link/exchange.ts";
import { NodeHttp } from "../../src/cluster/link/node-http.ts";
import { type PeerClient, PeerError } from "../../src/cluster/peers/peer-client.ts";
import { ERRORS } from "../../src/util/errors.ts";
import { call } from "../rest/client.ts";
import { until } from "../server/harness.ts";
import { createClient, KEY, type Node, startNode } from "./peer-harness.ts";

interface Passing {
  method: string;
  path: string;
  headers: http.IncomingHttpHeaders;
  body: Buffer;
}

interface Reply {
  status: number;
  headers: http.IncomingHttpHeaders | http.OutgoingHttpHeaders;
  body: Buffer;
}

/** What becomes of a request; `pass` takes it to the node, as often as it is called. */
type Meddle = (request: Passing, pass: () => Promise<Reply>) => Promise<Reply>;

const honest: Meddle = (_request, pass) => pass();

class Middle {
  meddle: Meddle = honest;
  port = 0;
  private readonly server = http.createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on("data", (piece) => pieces.push(piece));
    request.on("end", () => {
      const passing = {
        method: request.method ?? "",
        path: request.url ?? "",
        headers: request.headers,
        body: Buffer.concat(pieces),
      };
      const isPing = passing.path.startsWith("/_peer/ping");
      const meddle = isPing ? honest : this.meddle;
      meddle(passing, () => send(this.target, passing)).then(
        ({ status, headers, body }) => {
          response.writeHead(status, { ...headers, "content-length": body.length });
          response.end(body);
        },
        () => response.destroy(),
      );
    });
  });

  /** @param target port of the node behind it */
  constructor(public target: number) {}

  listen(): Promise<void> {
    return new Promise((resolve) => {
      this.server.listen(0, "127.0.0.1", () => {
        this.port = (this.server.address() as AddressInfo).port;
        resolve();
      });
    });
  }

  close(): void {
    this.server.close();
    this.server.closeAllConnections();
  }
}

function send(port: number, { method, path, headers, body }: Passing): Promise<Reply> {
  const { "transfer-encoding": _, "content-length": __, ...others } = headers;
  return call(port, method, path, { headers: others as Record<string, string>, body, agent: false });
}

async function setUp(t: TestContext): Promise<{ node: Node; middle: Middle; client: PeerClient }> {
  const node = await startNode({ port: await freePort() });
  const middle = new Middle(node.front.port);
  await middle.listen();
  const client = createClient(node.url, { address: `http://127.0.0.1:${middle.port}` });
  t.after(async () => {
    await client.close();
    middle.close();
    await node.front.close(1000);
  });
  await until(() => client.state === "up", "the node is up");
  return { node, middle, client };
}

const text = (answer: Uint8Array) => Buffer.from(answer).toString();
const errorBody = (code: string) => Buffer.from(`{"success":false,"error":"no","code":"${code}"}`);

function isUnknown(error: unknown): boolean {
  assert.ok(error instanceof PeerError, String(error));
  assert.equal(error.outcome, "unknown", error.message);
  return true;
}

/** Sends until the node takes it: a failure before makes it count as doubtful for a moment. */
async function sendAgain(client: PeerClient, frame: string): Promise<string> {
  for (;;)
    try {
      return text(await client.send(Buffer.from(frame)));
    } catch (error) {
      assert.ok(error instanceof PeerError);
      await until(() => client.state === "up", "the node is up again");
    }
}

test("forged answers: a refusal of somebody else never counts as one", async (t) => {
  const { node, middle, client } = await setUp(t);
  const refusals = Object.values(ERRORS).map(({ status }) => status);
  for (const status of new Set([...refusals, 200, 204, 302, 418, 599])) {
    middle.meddle = async (_request, pass) => {
      await pass();
      return { status, headers: {}, body: errorBody("unavailable") };
    };
    const name = `frame for ${status}`;
    await assert.rejects(client.send(Buffer.from(name)), isUnknown, name);
    assert.ok(node.handler.frames.includes(name), "it was done");
    middle.meddle = honest;
    assert.equal(await sendAgain(client, "x"), "echo x");
  }
});

test("forged answers: a genuine one with another status, body, clock or session is none", async (t) => {
  const { middle, client } = await setUp(t);
  const edits: Array<(reply: Reply) => void> = [
    (reply) => {
      reply.status = 503;
    },
    (reply) => {
      reply.body[reply.body.length - 1] ^= 1;
    },
    (reply) => {
      reply.body = Buffer.concat([reply.body, Buffer.from("x")]);
    },
    (reply) => {
      reply.body = Buffer.alloc(0);
    },
    (reply) => {
      delete reply.headers["minivault-answer"];
    },
    (reply) => {
      reply.headers["minivault-answer"] = `1${reply.headers["minivault-answer"]}`;
    },
    (reply) => {
      reply.headers["minivault-answer"] = String(reply.headers["minivault-answer"]).slice(0, -1);
    },
  ];
  for (const [index, edit] of edits.entries()) {
    middle.meddle = async (_request, pass) => {
      const reply = await pass();
      edit(reply);
      return reply;
    };
    await assert.rejects(client.send(Buffer.from(`edit ${index}`)), isUnknown);
    middle.meddle = honest;
    assert.equal(await sendAgain(client, "x"), "echo x");
  }
});

test("forged answers: the answer to another request is none, genuine as it is", async (t) => {
  const { node, middle, client } = await setUp(t);
  let kept: Reply | null = null;
  middle.meddle = async (_request, pass) => {
    kept = await pass();
    return kept;
  };
  await assert.rejects(client.send(Buffer.from("stopping")), (error: PeerError) => {
    assert.deepEqual([error.code, error.outcome], ["peer_refused", "not_sent"], "the genuine refusal counts");
    return true;
  });
  middle.meddle = async (_request, pass) => {
    await pass();
    return kept as Reply;
  };
  await assert.rejects(client.send(Buffer.from("done all the same")), isUnknown);
  assert.ok(node.handler.frames.includes("done all the same"));
});

test("forged answers: the refusal of a replay is not shown for the answer of what was done", async (t) => {
  const { node, middle, client } = await setUp(t);
  let second = 0;
  middle.meddle = async (_request, pass) => {
    assert.equal((await pass()).status, 200);
    const again = await pass();
    second = again.status;
    return again;
  };
  await assert.rejects(client.send(Buffer.from("once")), isUnknown);
  assert.equal(second, 401);
  assert.deepEqual(
    node.handler.frames.filter((frame) => frame === "once"),
    ["once"],
  );
});

test("forged answers: nor is that of a later run of the node", async (t) => {
  const { node, middle, client } = await setUp(t);
  middle.meddle = async (_request, pass) => {
    assert.equal((await pass()).status, 200);
    // The node is started anew, on the same port and under the same name.
    await node.front.close(1000);
    const anew = await startNode({ port: node.front.port });
    t.after(() => anew.front.close(1000));
    const answer = await pass();
    assert.equal(answer.status, 401);
    assert.ok(answer.headers["minivault-answer"], "it is genuine");
    assert.deepEqual(anew.handler.frames, []);
    return answer;
  };
  await assert.rejects(client.send(Buffer.from("in the first run")), isUnknown);
  assert.ok(node.handler.frames.includes("in the first run"));
  middle.meddle = honest;
  assert.equal(await sendAgain(client, "x"), "echo x", "the later run is understood from then on");
});

test("a node that has been started anew: what may be done twice is signed again, once; the rest has failed", async (t) => {
  // Asked for by its number, so that it can be had again at once.
  const port = await freePort();
  const first = await startNode({ port });
  const signer = new RequestSigner(new KeyRing([KEY]));
  const layout = Buffer.from('{"epoch":9}');
  const clients = [false, true].map((repeatable) => {
    const client = new NodeHttp({ url: first.url, signer, connections: 1, repeatable });
    t.after(() => client.close());
    return client;
  });
  const ask = (client: NodeHttp) => client.request("GET", "/_peer/layout", null, 20_000);
  const tell = (client: NodeHttp) => client.request("POST", "/_peer/layout", layout, 20_000);
  for (const client of clients) assert.equal((await ask(client)).status, 200);
  await first.front.close(1000);
  const second = await startNode({ port });
  t.after(() => second.front.close(1000));
  const [careful, repeating] = clients;
  await assert.rejects(tell(careful), (error: ExchangeError) => {
    assert.equal(error.sent, true, error.message);
    return true;
  });
  assert.deepEqual(second.handler.layouts, []);
  assert.equal((await tell(careful)).status, 200, "the failure has told for which run to sign");
  assert.equal((await tell(repeating)).status, 200);
  assert.equal(second.handler.layouts.length, 2);
  await second.front.close(1000);
  const third = await startNode({ port });
  t.after(() => third.front.close(1000));
  for (const client of clients) assert.equal((await ask(client)).status, 200);
});

test("forged answers: a node without the key is nobody", async (t) => {
  const open = await startNode({ auth: null });
  const client = createClient(open.url, { limits: { silenceMs: 1000 } });
  t.after(async () => {
    await client.close();
    await open.front.close(1000);
  });
  await assert.rejects(client.send(Buffer.from("x")), isUnknown);
  await until(() => client.state === "down", "it counts as down");
  assert.match(client.lastFailure, /without a valid signature/);
});

test("forged answers: values come whole and as they were, or fail", async (t) => {
  const { node, middle, client } = await setUp(t);
  const value = Buffer.alloc(200_000, "v");
  node.handler.values.set("v", value);
  const fetchValue = async (): Promise<Buffer> => {
    const { body } = await client.getStream(Buffer.from("v"));
    const pieces: Buffer[] = [];
    for await (const piece of body) pieces.push(piece);
    return Buffer.concat(pieces);
  };
  const edits: Array<(reply: Reply) => void> = [
    (reply) => {
      reply.body[150_000] ^= 1;
    },
    (reply) => {
      reply.body[6] ^= 1;
    },
    (reply) => {
      reply.body = reply.body.subarray(0, -36);
    },
    (reply) => {
      reply.body = reply.body.subarray(0, 100_000);
    },
    (reply) => {
      reply.body = Buffer.alloc(0);
    },
    (reply) => {
      reply.status = 404;
    },
    (reply) => {
      delete reply.headers["minivault-answer"];
    },
    (reply) => {
      reply.status = 404;
      reply.headers = {};
      reply.body = errorBody("not_found");
    },
  ];
  for (const [index, edit] of edits.entries()) {
    middle.meddle = async (_request, pass) => {
      const reply = await pass();
      edit(reply);
      return reply;
    };
    await assert.rejects(fetchValue(), (error: Error) => {
      if (error instanceof PeerError) assert.equal(error.outcome, "unknown", `edit ${index}`);
      return true;
    });
  }
  middle.meddle = honest;
  assert.ok((await fetchValue()).equals(value));
  await assert.rejects(client.getStream(Buffer.from("absent")), (error: PeerError) => {
    assert.deepEqual([error.status, error.outcome], [404, "not_sent"]);
    return true;
  });
  await until(() => node.handler.sourcesOpen === 0, "all are closed");
});

test("forged answers: an upload that was taken is not called refused", async (t) => {
  const { node, middle, client } = await setUp(t);
  middle.meddle = async (_request, pass) => {
    assert.equal((await pass()).status, 200);
    return { status: 503, headers: {}, body: errorBody("overloaded") };
  };
  const source = async function* () {
    yield Buffer.alloc(100_000, "u");
  };
  await assert.rejects(client.putStream(Buffer.from("u"), source()), isUnknown);
  assert.equal(node.handler.values.get("u")?.length, 100_000);
});
