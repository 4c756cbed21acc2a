/** Operations out of a batch's text: what JSON.parse says of it, and each value's own text. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { OPERATIONS_MAX, type Operation, operationsOf } from "../../src/server/batch/parse.ts";
import { BatchError } from "../../src/server/batch/text.ts";
import { randomSeed } from "../random.ts";

const read = (text: string | Uint8Array, isLines = false) => [
  ...operationsOf(typeof text === "string" ? Buffer.from(text) : text, isLines),
];
const bodyOf = (one: unknown) => Buffer.from((one as Operation).body).toString("utf8");

test("batch: random operations, with blanks anywhere, come out as they went in", (t) => {
  const blank = fc.stringMatching(/^[ \t\r\n]{0,3}$/);
  const operation = fc.record({
    op: fc.constantFrom("put", "post"),
    key: fc.string({ unit: "grapheme", minLength: 1, maxLength: 40 }),
    value: fc.jsonValue(),
    blanks: fc.array(blank, { minLength: 6, maxLength: 6 }),
    last: fc.boolean(),
  });
  const seed = randomSeed(t);
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 20 }), blank, (operations, outer) => {
      const texts = operations.map(({ op, key, value, blanks: [a, b, c, d, e, f], last }) => {
        const text = JSON.stringify(value);
        const member = `"value"${a}:${b}${text}`;
        const others = `"op":${c}"${op}",${d}"key":${JSON.stringify(key)}`;
        return `{${e}${last ? `${others},${member}` : `${member}${f},${others}`}${a}}`;
      });
      const parsed = read(
        `${outer}{"operations"${outer}:[${outer}${texts.join(`${outer},`)}${outer}]}${outer}`,
      );
      assert.equal(parsed.length, operations.length);
      parsed.forEach((one, index) => {
        const { op, key, value } = operations[index];
        assert.deepEqual(
          [(one as Operation).verb, Buffer.from((one as Operation).key).toString()],
          [op, key],
        );
        assert.equal(bodyOf(one), JSON.stringify(value));
      });
    }),
    { seed, numRuns: 300 },
  );
});

test("batch: any text is an array of operations, or an error of ours", (t) => {
  const seed = randomSeed(t);
  const token = fc.constantFrom(
    ...[
      '{"operations":[',
      "]}",
      "{",
      "}",
      "[",
      "]",
      ",",
      ":",
      '"op"',
      '"get"',
      '"key"',
      '"a"',
      '"',
      "\\",
      " ",
      "1",
      "nul",
    ],
  );
  fc.assert(
    fc.property(fc.array(token, { maxLength: 30 }), fc.boolean(), (tokens, isLines) => {
      try {
        read(tokens.join(""), isLines);
      } catch (error) {
        assert.ok(error instanceof BatchError, String(error));
      }
    }),
    { seed, numRuns: 3000 },
  );
});

test("batch: values keep their own text, also where it is not JSON: the store says that", () => {
  for (const text of [
    "12345678901234567890",
    "1e400",
    '{"b":1, "a":2}',
    '"\\u00e4"',
    "[ 1,\n2 ]",
    "nope",
    "[1}",
    "01",
  ]) {
    const [one] = read(`{"operations":[{"op":"put","key":"k","value": ${text} }]}`);
    assert.equal(bodyOf(one), text);
  }
});

test("batch: names and texts with escapes say what they say without", () => {
  const escaped = (text: string) =>
    [...text].map((one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`).join("");
  for (const op of ["get", "put", "post", "delete", "patch"]) {
    const members = { op, key: 'a/"ä"', ...(op === "get" || op === "delete" ? {} : { value: "v" }) };
    const plain = Object.entries(members).map(([name, text]) => `"${name}":${JSON.stringify(text)}`);
    const other = Object.entries(members).map(([name, text]) => `"${escaped(name)}":"${escaped(text)}"`);
    const [one] = read(`{"operations":[{${plain.join(",")}}]}`) as Operation[];
    const [two] = read(`{"operations":[{${other.join(",")}}]}`) as Operation[];
    assert.equal(Buffer.from(one.key).toString(), members.key);
    assert.deepEqual(Buffer.from(two.key), Buffer.from(one.key));
    assert.deepEqual({ ...two, key: null, body: null }, { ...one, key: null, body: null });
    assert.throws(() => read(`{"operations":[{${plain[0]},${other[0]},${plain[1]}}]}`), /"op" twice/);
  }
});

test("batch: an operation with a hundred thousand members is refused alone", () => {
  const many = Array.from({ length: 100_000 }, (_, index) => `"m${index}":0`).join(",");
  const [one] = read(`{"operations":[{"op":"get","key":"a",${many}}]}`);
  assert.match((one as { detail: string }).detail, /"m0" is not supported/);
});

test("batch: an operation ends in its line, also where the lines after it would make it whole", () => {
  const wrong = [
    '{"op":"put","key":"a","value":["\n{"op":"get","key":"]}"}',
    '{"op":"put","key":"a","value":[1,\n{"op":"get","key":"b"}]}',
    '{"op":"get","key":"a"\n}\n{"op":"get","key":"b"}',
    '{"op":"get","key":"a"} {"op":"get","key":"b"}\n',
  ];
  for (const text of wrong) assert.throws(() => read(text, true), BatchError, text);
});

test("batch: lines", () => {
  const parsed = read(
    '{"op":"get","key":"a"}\n\r\n  {"op":"delete","key":"b"}  \n{"op":"get","key":"c"}',
    true,
  );
  assert.deepEqual(
    parsed.map((one) => Buffer.from((one as Operation).key).toString()),
    ["a", "b", "c"],
  );
  assert.deepEqual(read("", true), []);
  assert.deepEqual(read('{"operations":[]}'), []);
});

test("batch: what is malformed as a whole", () => {
  const wrong = [
    "",
    "[]",
    "{}",
    '{"operations":{}}',
    '{"operations":[]',
    '{"operations":[]} x',
    '{"operations":[],"operations":[]}',
    '{"operations":[],"atomic":true}',
    '{"operations":[],"more":1}',
    '{"operations":[{"op":"get","key":"a"},]}',
    '{"operations":[,{"op":"get","key":"a"}]}',
    '{"operations":[{"op":"get" "key":"a"}]}',
    '{"operations":[{"op":"get","op":"put","key":"a"}]}',
    '{"operations":[{"op":"get","key":"a"} {"op":"get","key":"a"}]}',
    '{"operations":[1]}',
    '{"operations":["a"]}',
    '{"operations":[{"op":"get","key":"a}]}',
  ];
  for (const text of wrong) assert.throws(() => read(text), BatchError, text);
  assert.throws(() => read('{"op":"get","key":"a"} {"op":"get","key":"b"}', true), BatchError);
  assert.throws(() => read(Buffer.from([0x22, 0xff, 0x22])), BatchError);
  const one = '{"op":"get","key":"a"}\n';
  assert.equal(read(one.repeat(OPERATIONS_MAX), true).length, OPERATIONS_MAX);
  assert.throws(() => read(one.repeat(OPERATIONS_MAX + 1), true), /at most 10000/);
});

test("batch: an operation that could not be done alone is refused alone", () => {
  const wrong: [string, string][] = [
    ['"op":"fly","key":"a"', "bad_request"],
    ['"key":"a"', "bad_request"],
    ['"op":"get"', "bad_request"],
    ['"op":"get","key":7', "bad_request"],
    ['"op":"get","key":"a","value":1', "bad_request"],
    ['"op":"put","key":"a"', "bad_request"],
    ['"op":"put","key":"a","value":1,"base64":""', "bad_request"],
    ['"op":"put","key":"a","base64":"*"', "bad_request"],
    ['"op":"put","key":"a","base64":"","type":"a\\nb"', "bad_request"],
    ['"op":"put","key":"a","base64":"","type":"application/json"', "bad_request"],
    ['"op":"put","key":"a","value":1,"ttl":0', "bad_request"],
    ['"op":"put","key":"a","value":1,"ttl":"soon"', "bad_request"],
    ['"op":"put","key":"a","value":1,"ttl":true', "bad_request"],
    ['"op":"post","key":"a","value":1,"ttl":"keep"', "bad_request"],
    ['"op":"get","key":"a","ttl":5', "bad_request"],
    ['"op":"put","key":"a","value":1,"ifMatch":"\\"a"', "bad_request"],
    ['"op":"get","key":""', "bad_key"],
    ['"op":"get","key":"\\ud800"', "bad_key"],
    [`"op":"get","key":"${"ä".repeat(513)}"`, "key_too_long"],
    [`"op":"put","key":"a","base64":"${"A".repeat(1_500_000)}"`, "too_large"],
  ];
  for (const [text, code] of wrong) {
    const [one] = read(`{"operations":[{${text}}]}`);
    assert.equal((one as { code?: string }).code, code, text.slice(0, 60));
  }
});
