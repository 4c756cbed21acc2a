import assert from "node:assert/strict";
import { hash, randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import { keepSlots, PERMISSIONS, parseTokens, type TokenRecord } from "../../src/auth/token-file.ts";
import { bitsOf, idForLog, Token, TokenSet } from "../../src/auth/tokens.ts";
import { Random, randomSeed } from "../random.ts";

const makeToken = () =>
  `mv1.${randomBytes(8).toString("base64url")}.${randomBytes(32).toString("base64url")}`;

function record(text: string, more: Partial<TokenRecord> = {}): TokenRecord {
  return {
    name: "t",
    sha256: hash("sha256", text, "hex"),
    prefix: [""],
    allow: PERMISSIONS,
    requestsPerSecond: null,
    expiresMs: null,
    s3: null,
    slot: 0,
    ...more,
  };
}

const SHA = "ab".repeat(32);
const line = (more: object): string => JSON.stringify({ name: "n", sha256: SHA, ...more });

describe("token file", () => {
  test("a line is what it says; what it does not say is denied; comments and empty lines are nothing", () => {
    const text = `\ufeff# tokens\r\n\n${line({ sha256: SHA.toUpperCase(), prefix: ["a/", "a/"], allow: ["read", "list"], requestsPerSecond: 2.5, expires: "2027-01-31T12:00:00+01:00" })}\n  \n${line({ sha256: "0".repeat(64), expires: 12 })}`;
    const [full, bare] = parseTokens(text);
    assert.deepEqual(full, {
      ...{ name: "n", sha256: SHA, prefix: ["a/"], allow: ["read", "list"], requestsPerSecond: 2.5 },
      ...{ expiresMs: Date.UTC(2027, 0, 31, 11), s3: null, slot: 0 },
    });
    assert.deepEqual(
      [bare.prefix, bare.allow, bare.requestsPerSecond, bare.expiresMs, bare.slot],
      [[], [], null, 12_000, 1],
    );
    assert.deepEqual(parseTokens(""), []);
  });

  for (const [what, text, sentence] of [
    ["no JSON", "{", /^line 1: it is no JSON$/],
    ["no object", "[1]", /no JSON object/],
    ["null", "null", /no JSON object/],
    ["no name", JSON.stringify({ sha256: SHA }), /"name" is a text/],
    ["a name with a line feed", line({ name: "a\nb" }), /"name" is a text/],
    ["no hash", JSON.stringify({ name: "n" }), /"sha256" is the SHA-256/],
    ["a short hash", line({ sha256: "ab" }), /"sha256" is the SHA-256/],
    ["a prefix that is a text", line({ prefix: "a/" }), /"prefix" is a list/],
    ["half a surrogate", `{"name":"n","sha256":"${SHA}","prefix":["\\ud800"]}`, /surrogate/],
    ["a permission that is none", line({ allow: ["read", "fly"] }), /"allow" is a list of "read"/],
    ["a rate of nothing", line({ requestsPerSecond: 0 }), /"requestsPerSecond"/],
    ["a rate that is a text", line({ requestsPerSecond: "9" }), /"requestsPerSecond"/],
    ["an end that is a text", line({ expires: "soon" }), /"expires"/],
    ["an end that cannot be", line({ expires: "2027-13-31T12:00:00Z" }), /"expires"/],
    ["a slip of the pen", line({ alow: ["read"] }), /nothing is known by the name "alow"/],
    ["half of a pair of S3", line({ accessKey: "MVAAAA" }), /come together/],
    [
      "the same token again",
      `${line({})}\n\n${line({ name: "m" })}`,
      /^line 3: it is the token of line 1 again$/,
    ],
  ] as const)
    test(`refused, by its line: ${what}`, () =>
      assert.throws(() => parseTokens(text), { message: sentence }));

  test("nothing that stands in a bad line is told", () => {
    try {
      parseTokens('{"name":"geheim","sha256":"geheim","secretKey":"geheim-geheim"}');
      assert.fail("it is taken");
    } catch (error) {
      assert.doesNotMatch((error as Error).message, /geheim/);
    }
  });

  test("tokens that stay keep the slot of their rate, whatever comes and goes around them; no two share one", (t) => {
    const random = new Random(randomSeed(t));
    let before: TokenRecord[] = [];
    const names = Array.from({ length: 40 }, (_, index) => `token ${index}`);
    for (let round = 0; round < 200; round++) {
      const fresh = names.filter(() => random.below(2) === 0).map((name, slot) => record(name, { slot }));
      const kept = keepSlots(fresh, before);
      assert.equal(new Set(kept.map(({ slot }) => slot)).size, kept.length);
      for (const { sha256, slot } of kept) {
        const old = before.find((one) => one.sha256 === sha256);
        assert.ok(old === undefined || old.slot === slot);
        assert.ok(slot < names.length);
      }
      before = kept;
    }
  });
});

describe("tokens", () => {
  test("found as Bearer and as the password of Basic, in any case and with blanks; nothing else is one", () => {
    const text = makeToken();
    const set = new TokenSet([record(text, { name: "it" }), record("other")]);
    const basic = (pair: string) => `Basic ${Buffer.from(pair).toString("base64")}`;
    for (let round = 0; round < 3; round++) {
      for (const header of [
        `Bearer ${text}`,
        `bearer   ${text}`,
        `BEARER ${text}`,
        basic(`u:${text}`),
        basic(`:${text}`),
      ])
        assert.equal(set.find(header)?.name, "it", header);
      for (const header of [
        ...["", "Bearer", "Bearer ", text, `Token ${text}`, `Bearer ${text}x`, `Bearer x${text}`],
        ...[`Bearer ${text.slice(0, -1)}`, `Bearer ${text.toUpperCase()}`, basic(text), basic(`${text}:`)],
        ...[
          basic(`u:${text}x`),
          `Basic ${text}`,
          `Bearer ${"x".repeat(5000)}`,
          `Bearer ${hash("sha256", text, "hex")}`,
        ],
      ])
        assert.equal(set.find(header), null, header.slice(0, 100));
    }
  });

  test("what is kept is bounded: a token sent in ever other forms takes four places, one that is wrong none", () => {
    const texts = Array.from({ length: 50 }, makeToken);
    const set = new TokenSet(texts.map((text, index) => record(text, { name: String(index) })));
    for (let user = 0; user < 100; user++)
      for (const [index, text] of texts.entries()) {
        const header = `Basic ${Buffer.from(`user${user}:${text}`).toString("base64")}`;
        assert.equal(set.find(header)?.name, String(index));
        assert.equal(set.find(header)?.name, String(index));
        assert.equal(set.find(`Bearer ${text}${user}`), null);
      }
    assert.equal(set.keptCount, 4 * texts.length);
    // Those that were put out are known again.
    for (const [index, text] of texts.entries()) {
      const header = `Basic ${Buffer.from(`user0:${text}`).toString("base64")}`;
      assert.equal(set.find(header)?.name, String(index));
    }
    assert.equal(set.keptCount, 4 * texts.length);
  });

  test("a token too long to be kept opens the same, each time", () => {
    for (const characters of [170, 173, 174, 400, 1_000]) {
      const text = "a-long-key/".repeat(100).slice(0, characters);
      const set = new TokenSet([record(text, { name: "long" }), record("other")]);
      for (let round = 0; round < 3; round++) {
        assert.equal(set.find(`Bearer ${text}`)?.name, "long");
        assert.equal(set.find(`Bearer ${text}a`), null);
      }
      assert.equal(set.keptCount, characters <= 173 ? 1 : 0);
    }
  });

  test("a byte more or less, or another one, at any place of a text that is kept is another text", () => {
    const text = makeToken();
    const set = new TokenSet([record(text)]);
    const header = `Bearer ${text}`;
    assert.notEqual(set.find(header), null);
    for (let index = 7; index < header.length; index++) {
      const other = header[index] === "A" ? "B" : "A";
      assert.equal(set.find(header.slice(0, index) + other + header.slice(index + 1)), null, `at ${index}`);
      assert.equal(set.find(header.slice(0, index) + header.slice(index + 1)), null, `without ${index}`);
    }
    assert.notEqual(set.find(header), null);
  });

  test("prefixes: of the key's bytes; what a prefix has in common with those of the token", () => {
    const bytes = (text: string) => Buffer.from(text);
    const within = (prefix: string[], asked: string) =>
      new Token(record("x", { prefix })).within(bytes(asked)).map((one) => Buffer.from(one).toString());
    const covers = (prefix: string[], key: string) =>
      new Token(record("x", { prefix })).covers(bytes(key), bytes(key).length);
    assert.deepEqual(
      ["a/", "a/b", "a", "b/x", "ü/1", "u"].map((key) => covers(["a/", "ü/"], key)),
      [true, true, false, false, true, false],
    );
    assert.equal(covers([""], "anything"), true);
    assert.equal(covers([], "anything"), false);
    assert.deepEqual(within(["b/", "a/", "a/b"], ""), ["a/", "b/"]);
    assert.deepEqual(within(["b/", "a/"], "a/x"), ["a/x"]);
    assert.deepEqual(within(["ab/", "aa/", "b/"], "a"), ["aa/", "ab/"]);
    assert.deepEqual(within(["a/"], "b/"), []);
    assert.deepEqual(within([], ""), []);
    assert.deepEqual(within([""], ""), [""]);
    // The key's memory may be longer than the key.
    assert.equal(new Token(record("x", { prefix: ["abc"] })).covers(bytes("abcdef"), 2), false);
  });

  test("permissions are what the line names; an end is an end", () => {
    const token = new Token(record("x", { allow: ["read", "metrics"], expiresMs: 1000 }));
    for (const one of PERMISSIONS)
      assert.equal(token.allows(bitsOf([one])), one === "read" || one === "metrics", one);
    assert.equal(token.allows(bitsOf(["read", "write"])), false);
    assert.deepEqual([token.isOver(999), token.isOver(1000)], [false, true]);
    assert.equal(new Token(record("x")).isOver(Number.MAX_VALUE), false);
  });

  test("rates: a second's worth at once, then as many a second, never more, whoever else counts beside", () => {
    const rates = new Float64Array(2);
    const token = new Token(record("x", { requestsPerSecond: 5, slot: 1 }));
    const taken = (nowMs: number) => {
      let count = 0;
      while (count < 100 && token.takes(rates, nowMs)) count++;
      return count;
    };
    assert.equal(taken(1000), 5);
    assert.equal(taken(1000), 0);
    assert.equal(taken(1199), 0);
    assert.equal(taken(1201), 1);
    assert.equal(taken(1801), 3);
    assert.equal(taken(10_000), 5);
    assert.deepEqual(rates[0], 0);
    // A clock of another thread that is a little behind takes nothing away for good.
    assert.equal(taken(9_999), 0);
    assert.equal(taken(11_001), 5);
  });

  test("what may be said of a header in a log holds no secret", () => {
    const text = makeToken();
    assert.equal(idForLog(`Bearer ${text}`), text.split(".")[1]);
    assert.equal(idForLog(`Basic ${Buffer.from(`u:${text}`).toString("base64")}`), text.split(".")[1]);
    assert.equal(idForLog(""), "none");
    assert.equal(idForLog("Bearer hunter2-hunter2-hunter2"), "unknown");
    assert.equal(idForLog("Digest username=hunter2"), "malformed");
  });
});
