/**
 * A fuzzer that knows the rules of framing: requests that are right and requests that are not, each sent whole, cut in two at a byte, or cut off at a byte,
 * and several at once on a connection. Each request gets its one answer; what was refused, or did not come whole, is not stored; what was answered 201 is, byte by byte.
 * Where the parser is known to differ, framing-rules.ts says so.
 *
 * `CASE=n SEED=s` repeats the batch that case n is in.
 */
import assert from "node:assert/strict";
import { type Diagnostic, Random, randomSeed } from "../random.ts";
import { call } from "../rest/client.ts";
import { RawConnection } from "../rest/raw.ts";
import { runProgram, waitUntil, withServer } from "../rest/server.ts";
import { isCutRefused, type ParserRules, rulesOf } from "./framing-rules.ts";
import { checkedValue, inChunks, pick } from "./requests.ts";

const BATCH = 48;
const THERE = "/framing-there";
const ABSENT = "/framing-absent";

/** A request, and all that it may lead to. */
interface Message {
  what: string;
  bytes: Buffer;
  /** Statuses that are right. Empty: no answer is. */
  statuses: readonly number[];
  /** No answer may be right, too. */
  maySilent: boolean;
  head: boolean;
  /** It closes the connection, whatever it is answered. */
  closes: boolean;
  key: string | null;
  /** What is stored under `key` after a 201. */
  value: Buffer | null;
}

const CRLF = "\r\n";
const HTTP = "HTTP/1.1";
const HOST = "Host: x";

function request(lines: string[], body: string | Buffer = ""): Buffer {
  return Buffer.concat([Buffer.from(lines.join(CRLF) + CRLF + CRLF, "latin1"), Buffer.from(body as string)]);
}

const REFUSED = [400, 411, 431, 505] as const;
const PLAIN = { maySilent: false, head: false, closes: false, key: null, value: null };

/** A request that is framed as it should be. */
function right(random: Random, key: string): Message {
  const value = checkedValue(random, random.below(random.below(6) === 0 ? 40_000 : 300));
  const stored = { ...PLAIN, key, value, statuses: [201] };
  const read = { ...PLAIN, statuses: [200] };
  const kinds: (() => Message)[] = [
    () => ({
      ...stored,
      what: "PUT with a length",
      bytes: request([`PUT /${key} ${HTTP}`, HOST, `Content-Length: ${value.length}`], value),
    }),
    () => ({
      ...stored,
      what: "PUT in chunks",
      bytes: request([`PUT /${key} ${HTTP}`, HOST, "Transfer-Encoding: chunked"], inChunks(random, value)),
    }),
    () => ({
      ...stored,
      what: "POST, names in any case, blanks around values",
      bytes: request([`POST /${key} ${HTTP}`, "hOST:\t x ", `content-LENGTH:  ${value.length}\t`], value),
    }),
    () => ({
      ...stored,
      what: "PUT that waits for 100",
      bytes: request(
        [`PUT /${key} ${HTTP}`, HOST, "Expect: 100-continue", `Content-Length: ${value.length}`],
        value,
      ),
    }),
    () => ({
      ...stored,
      what: "PUT of nothing",
      value: Buffer.alloc(0),
      bytes: request([`PUT /${key} ${HTTP}`, HOST, "Content-Length: 0"]),
    }),
    () => ({ ...read, what: "GET", bytes: request([`GET ${THERE} ${HTTP}`, HOST]) }),
    () => ({ ...read, what: "HEAD", head: true, bytes: request([`HEAD ${THERE} ${HTTP}`, HOST]) }),
    () => ({
      ...read,
      what: "GET with a body",
      bytes: request(
        [`GET ${THERE} ${HTTP}`, HOST, "Content-Length: 31"],
        "GET /inside HTTP/1.1\r\nHost: x\r\n",
      ),
    }),
    () => ({
      ...read,
      what: "HEAD with a body in chunks",
      head: true,
      bytes: request([`HEAD ${THERE} ${HTTP}`, HOST, "Transfer-Encoding: chunked"], "3\r\nabc\r\n0\r\n\r\n"),
    }),
    () => ({
      ...read,
      what: "DELETE with a body",
      bytes: request([`DELETE ${ABSENT} ${HTTP}`, HOST, "Content-Length: 3"], "abc"),
    }),
    () => ({
      ...PLAIN,
      statuses: [404],
      what: "GET of nothing",
      bytes: request([`GET ${ABSENT} ${HTTP}`, HOST]),
    }),
    () => ({
      ...read,
      what: "GET with many headers",
      bytes: request([
        `GET ${THERE} ${HTTP}`,
        HOST,
        ...Array.from({ length: 40 }, (_, number) => `X-${number}: ${"y".repeat(200)}`),
      ]),
    }),
  ];
  return pick(random, kinds)();
}

/** A request that no server may take. */
function wrong(random: Random, key: string, rules: ParserRules): Message {
  const put = `PUT /${key} ${HTTP}`;
  const refused = { ...PLAIN, key, statuses: REFUSED, closes: true };
  const head = { ...refused, maySilent: rules.malformedHead === "silent" };
  const stray = { ...refused, maySilent: rules.strayLineEnd === "silent" };
  const lax = { ...refused, maySilent: true, statuses: rules.laxChunks ? [...REFUSED, 201] : REFUSED };
  const chunked = (body: string) => request([put, HOST, "Transfer-Encoding: chunked"], body);
  const with1 = (...lines: string[]) => request([put, HOST, ...lines], "1\r\nx\r\n0\r\n\r\n");
  const kinds: (() => Message)[] = [
    () => ({ ...head, what: "no header at all", bytes: request([`GET ${THERE} ${HTTP}`]) }),
    () => ({ ...refused, what: "no Host", bytes: request([put, "Content-Length: 1"], "x") }),
    () => ({
      ...head,
      what: "folded header",
      bytes: request([put, HOST, "X: a", " b", "Content-Length: 1"], "x"),
    }),
    () => ({
      ...head,
      what: "blank before the colon",
      bytes: request([put, HOST, "Content-Length : 1"], "x"),
    }),
    () => ({
      ...stray,
      what: "carriage return alone",
      bytes: request([put, `${HOST}\rX: y`, "Content-Length: 1"], "x"),
    }),
    () => ({
      ...stray,
      what: "empty line in front",
      bytes: Buffer.concat([Buffer.from(CRLF), request([put, HOST, "Content-Length: 1"], "x")]),
    }),
    () => ({
      ...refused,
      what: "line feeds alone",
      bytes: Buffer.from(`${put}\n${HOST}\nContent-Length: 1\n\nx`),
    }),
    () => ({
      ...refused,
      what: "HTTP/1.0",
      bytes: request([`PUT /${key} HTTP/1.0`, HOST, "Content-Length: 1"], "x"),
    }),
    () => ({
      ...refused,
      what: "HTTP/2.0",
      bytes: request([`PUT /${key} HTTP/2.0`, HOST, "Content-Length: 1"], "x"),
    }),
    () => ({
      ...refused,
      what: "huge header",
      bytes: request([put, HOST, `X: ${"y".repeat(20_000)}`, "Content-Length: 1"], "x"),
    }),
    () => ({
      ...refused,
      what: "length and chunks",
      bytes: with1("Content-Length: 1", "Transfer-Encoding: chunked"),
    }),
    () => ({
      ...refused,
      what: "chunks and length",
      bytes: with1("Transfer-Encoding: chunked", "Content-Length: 1"),
    }),
    () => ({
      ...refused,
      what: "bad length",
      bytes: with1(
        `Content-Length: ${pick(random, ["-1", "+1", "1x", "0x1", "1, 1", "1 1", "99999999999999999999"])}`,
      ),
    }),
    () => ({
      ...refused,
      what: "two lengths",
      bytes: request([put, HOST, "Content-Length: 1", "Content-Length: 2"], "1"),
    }),
    () => ({
      ...refused,
      what: "unknown coding",
      bytes: with1(
        `Transfer-Encoding: ${pick(random, ["gzip", "gzip, chunked", "chunked, gzip", "xchunked", "chunked\r\nTransfer-Encoding: x"])}`,
      ),
    }),
    () => ({
      ...refused,
      what: "neither length nor chunks",
      closes: false,
      statuses: [411],
      bytes: request([put, HOST]),
    }),
    () => ({
      ...refused,
      what: "bad chunk size",
      bytes: chunked(`${pick(random, ["zz", "0x1", "-1", "ffffffffffffffffff"])}\r\nx\r\n0\r\n\r\n`),
    }),
    () => ({
      ...refused,
      // What follows on the connection is taken for its content, too.
      statuses: [...REFUSED, 408],
      what: "chunk extension",
      bytes: chunked("3;a=b\r\nabc\r\n0\r\n\r\n"),
    }),
    () => ({ ...lax, what: "digit beyond F", bytes: chunked("G\r\n0123456789abcdef\r\n0\r\n\r\n") }),
    () => ({ ...lax, what: "empty chunk size", bytes: chunked("3\r\nabc\r\n\r\n\r\n") }),
    () => ({ ...lax, what: "no line end behind a chunk", bytes: chunked("3\r\nabcde0\r\n\r\n") }),
  ];
  return pick(random, kinds)();
}

interface Case {
  number: number;
  what: string;
  messages: Message[];
  /** Sent first; the rest, if any, when the server has surely read that. */
  first: Buffer;
  rest: Buffer;
  /** The stream ends behind `first`. */
  cutOff: boolean;
  mayRefuseCut: boolean;
}

function makeCase(random: Random, number: number, seed: number, rules: ParserRules): Case {
  const key = (index: number) => `framing/${seed}/${number}/${index}`;
  const how = random.below(8);
  const pipelined = how >= 6;
  const count = pipelined ? 2 + random.below(4) : 1;
  const messages = Array.from({ length: count }, (_, index) =>
    random.below(pipelined ? 8 : 2) === 0 ? wrong(random, key(index), rules) : right(random, key(index)),
  );
  const all = Buffer.concat(messages.map(({ bytes }) => bytes));
  const isCut = how < 5;
  const cut = isCut ? 1 + random.below(all.length - 1) : all.length;
  const cutOff = how < 2;
  const name = messages.map(({ what }) => what).join(" + ");
  return {
    number,
    what: `CASE=${number}: ${name}${isCut ? `, cut ${cutOff ? "off " : ""}after ${cut} of ${all.length} bytes` : ""}`,
    messages,
    first: all.subarray(0, cut),
    rest: cutOff ? Buffer.alloc(0) : all.subarray(cut),
    cutOff,
    mayRefuseCut: isCut && isCutRefused(rules, all, cut),
  };
}

/** Every cut of one request, in two segments and off. */
export function everyCut(
  what: string,
  bytes: Buffer,
  key: string,
  value: Buffer,
  rules: ParserRules,
): Case[] {
  const message: Message = { ...PLAIN, what, bytes, statuses: [201], key, value };
  return Array.from({ length: 2 * (bytes.length - 1) }, (_, index) => {
    const cut = 1 + (index >> 1);
    const cutOff = index % 2 === 0;
    const own = `${key}-${index}`;
    const named = Buffer.from(bytes.toString("latin1").replace(key, own), "latin1");
    const at = cut + (cut > bytes.indexOf(key) ? own.length - key.length : 0);
    return {
      number: index,
      what: `${what}, cut ${cutOff ? "off " : ""}after ${at} bytes`,
      messages: [{ ...message, bytes: named, key: own }],
      first: named.subarray(0, at),
      rest: cutOff ? Buffer.alloc(0) : named.subarray(at),
      cutOff,
      mayRefuseCut: isCutRefused(rules, named, at),
    };
  });
}

interface Counts {
  cases: number;
  requests: number;
  answers: Map<string, number>;
}

const tally = (counts: Counts, name: string | number) =>
  counts.answers.set(String(name), (counts.answers.get(String(name)) ?? 0) + 1);

/** Sends the cases of a batch, side by side, and judges them. */
async function runBatch(port: number, cases: Case[], rules: ParserRules, counts: Counts): Promise<void> {
  const clients = await Promise.all(cases.map(() => RawConnection.open(port)));
  const barrier = async () => {
    // One thread reads all connections, and what came first, first: an answer to this means that it has read what was sent before.
    assert.equal((await call(port, "GET", "/health")).status, 200);
  };
  for (const [index, each] of cases.entries()) clients[index].send(each.first);
  await barrier();
  for (const [index, each] of cases.entries()) if (each.rest.length > 0) clients[index].send(each.rest);
  for (const [index, each] of cases.entries()) {
    try {
      await judge(port, clients[index], each, rules, counts);
    } catch (error) {
      throw new Error(`${each.what}: ${(error as Error).message}`);
    } finally {
      clients[index].destroy();
    }
  }
}

async function judge(
  port: number,
  client: RawConnection,
  each: Case,
  rules: ParserRules,
  counts: Counts,
): Promise<void> {
  const { messages } = each;
  const [single] = messages;
  const isWhole = !each.cutOff;
  const maySilent = messages.some((message) => message.maySilent);
  const answers = () => client.parsed(messages.some(({ head }) => head)).answers;
  if (isWhole && !maySilent)
    await waitUntil("all answers, or the end", () => client.closed || answers().length >= messages.length);
  else if (isWhole) {
    // Whatever is answered is answered at once; a write takes a sync of the disk, which one that comes after it waits for, too.
    assert.equal((await call(port, "PUT", "/framing-barrier", { body: "x" })).status < 300, true);
    await waitUntil("what was begun is answered", async () => {
      const { queues } = (await call(port, "GET", "/_stats")).json();
      return queues.writes === 0;
    });
  }
  client.socket.end();
  await client.isClosed();
  const { problem } = client.parsed(true);
  assert.equal(problem, null);
  const seen = answers();
  counts.cases++;
  counts.requests += messages.length;
  if (seen.length === 0) tally(counts, "none");
  for (const { status } of seen) tally(counts, status);
  assert.ok(seen.length <= messages.length, `${seen.length} answers to ${messages.length} requests`);
  for (const [index, { status }] of seen.entries()) {
    const message = messages[index];
    const refusedLater = messages
      .slice(rules.losesAnswersBeforeRefusal ? 0 : index)
      .some(({ closes }) => closes);
    const isParsers = messages.length > 1 && REFUSED.includes(status as 400) && refusedLater;
    const isCut = each.cutOff || (each.mayRefuseCut && status === 505);
    assert.ok(
      message.statuses.includes(status) || isParsers || (isCut && status >= 400),
      `request ${index} (${message.what}) was answered ${status}`,
    );
  }
  if (isWhole && messages.length === 1 && !single.maySilent) assert.equal(seen.length, 1, "it got no answer");
  let unanswered = 0;
  for (const [index, { key, value, statuses, what }] of messages.entries()) {
    if (key === null) continue;
    const read = await call(port, "GET", `/${key}`);
    const answer = seen[index]?.status;
    if (answer === 201) {
      assert.equal(read.status, 200, `${what}: 201, and nothing is stored`);
      if (value !== null) assert.ok(read.body.equals(value), `${what}: another value is stored`);
    } else if (read.status !== 404) {
      // Written, and the connection was closed by what came behind it before the answer: once at most, and whole.
      unanswered++;
      assert.ok(
        messages.length > 1 && statuses.includes(201),
        `${what}: answered ${answer}, and something is stored`,
      );
      assert.ok(value === null || read.body.equals(value), `${what}: a part of a value is stored`);
    }
  }
  assert.ok(unanswered <= 1, "more than one write behind an unanswered one was executed");
}

/** @param cuts all cuts of so many sample requests, too */
export async function fuzzFraming(
  t: Diagnostic,
  { cases, cuts }: { cases: number; cuts: number },
): Promise<void> {
  const seed = randomSeed(t);
  const version = (await runProgram(["-version"])).output;
  const rules = rulesOf(version);
  await withServer({ sync: "os" }, async (server) => {
    const { port, pid } = server;
    assert.equal((await call(port, "PUT", THERE, { body: "value" })).status, 201);
    const counts: Counts = { cases: 0, requests: 0, answers: new Map() };
    const samples: [string, Buffer, Buffer][] = [
      [
        "chunks",
        Buffer.from("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"),
        Buffer.from("abc0123456789"),
      ],
      ["length", Buffer.from("Content-Length: 5\r\n\r\nvalue"), Buffer.from("value")],
    ];
    for (const [what, end, value] of samples.slice(0, cuts)) {
      const bytes = Buffer.concat([Buffer.from(`PUT /cut-${what} ${HTTP}\r\n${HOST}\r\n`), end]);
      const all = everyCut(`PUT, ${what}`, bytes, `cut-${what}`, value, rules);
      for (let at = 0; at < all.length; at += BATCH)
        await runBatch(port, all.slice(at, at + BATCH), rules, counts);
    }
    const only = process.env.CASE === undefined ? null : Math.floor(Number(process.env.CASE) / BATCH);
    for (let batch = only ?? 0; batch * BATCH < cases; batch++) {
      const random = new Random(Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) + Math.imul(batch, 0xc2b2ae35));
      const made = Array.from({ length: BATCH }, (_, index) =>
        makeCase(random, batch * BATCH + index, seed, rules),
      );
      await runBatch(port, made, rules, counts);
      if (only !== null) break;
    }
    const kinds = [...counts.answers].sort().map(([status, count]) => `${status}: ${count}`);
    t.diagnostic(
      `${rules.name}: ${counts.cases} cases, ${counts.requests} requests, answers: ${kinds.join(", ")}; wrong: 0`,
    );
    await waitUntil("nothing is left in flight", async () => {
      const { queues } = (await call(port, "GET", "/_stats")).json();
      return queues.requestsInFlight === 0 && queues.receivingBytes === 0;
    });
    assert.equal(server.pid, pid);
    assert.equal((await server.stop()).status, 0, server.log());
    assert.ok(!/a request failed|a write failed|could not be sent/.test(server.log()), server.log());
  });
}
