import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { JSON_DEPTH_MAX } from "../../src/util/limits.ts";
import { ValueScanner } from "../../src/value/scanner.ts";

const SEED = process.env.SEED === undefined ? Date.now() & 0x7fffffff : Number(process.env.SEED);
const RUNS = Number(process.env.RUNS ?? 1000);
console.log(`scanner.test.ts: SEED=${SEED} RUNS=${RUNS}`);

interface Outcome {
  ok: boolean;
  error: string | null;
  detail: string;
  /** Text of the value when ok. */
  value: string;
}

const scanner = new ValueScanner();

/** Scans a body cut at the given offsets, and checks what the scanner promises between the pieces. */
function scan(body: Uint8Array, cuts: number[] = []): Outcome {
  scanner.reset();
  let ok = true;
  const promised: number[] = [];
  const edges = [0, ...cuts, body.length];
  for (let piece = 0; ok && piece + 1 < edges.length; piece++) {
    // The piece lies somewhere in a larger buffer whose other bytes must not matter.
    const padding = (piece * 7) % 5;
    const buffer = Buffer.alloc(edges[piece + 1] - edges[piece] + padding + 3, '"');
    buffer.set(body.subarray(edges[piece], edges[piece + 1]), padding);
    ok = scanner.feed(buffer, padding, buffer.length - 3);
    if (ok && scanner.valueStart >= 0 && scanner.valueEnd < 0) promised.push(edges[piece + 1]);
  }
  const finished = scanner.finish();
  assert.ok(ok || !finished, "finish must not succeed after a failed feed");
  assert.equal(finished, scanner.error === null);
  if (finished) {
    for (const offset of promised)
      assert.ok(offset <= scanner.valueEnd, "bytes promised to the value belong to it");
  }
  const { error, detail, valueStart, valueEnd } = scanner;
  const value = finished ? Buffer.from(body.subarray(valueStart, valueEnd)).toString() : "";
  return { ok: finished, error, detail, value };
}

function bytes(text: string): Buffer {
  return Buffer.from(text, "utf8");
}

const accepted = (body: string | Uint8Array, value: string): void => {
  const raw = typeof body === "string" ? bytes(body) : body;
  assert.deepEqual(scan(raw), { ok: true, error: null, detail: "", value });
  // One byte at a time must give the same.
  const each = Array.from({ length: Math.max(0, raw.length - 1) }, (_, index) => index + 1);
  assert.deepEqual(scan(raw, each), { ok: true, error: null, detail: "", value });
};

const refused = (body: string | Uint8Array, detail: RegExp | string, error = "bad_json"): void => {
  const raw = typeof body === "string" ? bytes(body) : body;
  const whole = scan(raw);
  assert.equal(whole.error, error);
  if (typeof detail === "string") assert.equal(whole.detail, detail);
  else assert.match(whole.detail, detail);
  const each = Array.from({ length: Math.max(0, raw.length - 1) }, (_, index) => index + 1);
  assert.deepEqual(scan(raw, each), whole);
};

/** A body whose value is these bytes. */
function around(...value: (number | string)[]): Buffer {
  const parts = value.map((part) => (typeof part === "number" ? Buffer.of(part) : bytes(part)));
  return Buffer.concat([bytes('{"value":'), ...parts, bytes("}")]);
}

describe("json: accepts", () => {
  // biome-ignore format: one line for each kind
  const values = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1",
    "10",
    "123456789",
    "12345678901234567890",
    "0.5",
    "-0.0",
    "1.25",
    "1e5",
    "1E5",
    "1e+5",
    "1e-5",
    "0e0",
    "0E+1",
    "0.1e-10",
    "1.5E99999",
    "-1e-0",
    "1e00",
    "9".repeat(400),
    `0.${"3".repeat(400)}`,
    `1e${"1".repeat(400)}`,
    '""',
    '"a"',
    '"\\""',
    '"\\\\"',
    '"\\/"',
    '"\\b\\f\\n\\r\\t"',
    '"\\u0000"',
    '"\\u00e9"',
    '"\\uABCD\\uabcd"',
    '"\\ud83d\\ude00"',
    '"\\ud800"',
    '"\\udc00"',
    '"\\udc00\\ud800"',
    '"\\ud800abc"',
    '"\\uD800\\n"',
    '"\x7f"',
    '"\u0080"',
    '"é"',
    '"ß水😀"',
    '"\u2028\u2029"',
    '"\ufeff"',
    '"\ufffe\uffff"',
    '"\u{10ffff}"',
    '"\u07ff\u0800\ud7ff\ue000"',
    '"{\\"value\\":1}"',
    '"]}"',
    "[]",
    "[ ]",
    "[1]",
    "[ 1 , 2 ]",
    "[[],[[]],{}]",
    '[null,true,false,0,-1.5e3,"x"]',
    "[\t1\n,\r2 ]",
    "{}",
    "{ }",
    '{"a":1}',
    '{"a":1,"a":2}',
    '{"":0}',
    '{"\\u0061":{}}',
    '{ "a" : [ { } ] , "b" : { "value" : 1 } }',
    '{"value":{"value":{"value":[]}}}',
    '{"__proto__":1}',
  ];
  for (const value of values) {
    test(value.length > 60 ? `${value.slice(0, 50)}… (${value.length})` : value, () => {
      accepted(`{"value":${value}}`, value);
      accepted(` \t\n\r{ "value" :\n${value}\t \r\n} \n`, value);
      assert.deepEqual(
        JSON.parse(`{"value":${value}}`),
        JSON.parse(`{"value":${value}}`),
        "JSON.parse agrees",
      );
    });
  }

  test("every character of 1 to 4 bytes, at the edges of each range", () => {
    for (const point of [
      0x20, 0x7f, 0x80, 0x7ff, 0x800, 0xfff, 0x1000, 0xcfff, 0xd000, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x3ffff,
      0x40000, 0xfffff, 0x100000, 0x10ffff,
    ]) {
      accepted(around('"', String.fromCodePoint(point), '"'), `"${String.fromCodePoint(point)}"`);
    }
  });

  test("the name, also when it is written with escapes", () => {
    accepted('{"\\u0076alue":1}', "1");
    accepted('{"\\u0076\\u0061\\u006C\\u0075\\u0065":[]}', "[]");
    accepted('{"valu\\u0065" : "x"}', '"x"');
  });

  test("nesting up to the limit", () => {
    for (const depth of [1, 31, 32, 33, 63, 64, 65, 1000, JSON_DEPTH_MAX]) {
      const arrays = "[".repeat(depth) + "]".repeat(depth);
      accepted(`{"value":${arrays}}`, arrays);
      const objects = `${'{"a":'.repeat(depth - 1)}{}${"}".repeat(depth - 1)}`;
      assert.equal(scan(bytes(`{"value":${objects}}`)).value, objects);
      const mixed = `${'[{"a":'.repeat(depth >> 1)}1${"}]".repeat(depth >> 1)}`;
      assert.equal(scan(bytes(`{"value":${mixed}}`)).value, mixed);
    }
  });
});

describe("json: refuses", () => {
  const table: [string | Uint8Array, RegExp | string][] = [
    // The document as a whole
    ["", "the body is empty"],
    [" ", "the body ends too early at byte 1"],
    ["null", 'unexpected "n" at byte 0'],
    ["[]", 'unexpected "[" at byte 0'],
    ['"value"', /unexpected "\\?"/],
    ["1", 'unexpected "1" at byte 0'],
    ["}", 'unexpected "}" at byte 0'],
    ["{", "the body ends too early at byte 1"],
    ['{"value"', "the body ends too early at byte 8"],
    ['{"value":', "the body ends too early at byte 9"],
    ['{"value":1', "the body ends too early at byte 10"],
    ['{"value":1,', "the body ends too early at byte 11"],
    ['{"value"}', 'unexpected "}" at byte 8'],
    ['{"value" 1}', 'unexpected "1" at byte 9'],
    ['{"value"::1}', 'unexpected ":" at byte 9'],
    ['{"value":}', 'unexpected "}" at byte 9'],
    ['{"value":1,}', 'unexpected "}" at byte 11'],
    ['{,"value":1}', 'unexpected "," at byte 1'],
    ['{"value":1}}', 'unexpected "}" at byte 11'],
    ['{"value":1]', 'unexpected "]" at byte 10'],
    ['{"value":1} x', 'unexpected "x" at byte 12'],
    ['{"value":1}{"value":1}', 'unexpected "{" at byte 11'],
    ['{"value":1}\0', "unexpected byte 0x00 at byte 11"],
    ['{"value":1 2}', 'unexpected "2" at byte 11'],
    ['{"value":""""}', /unexpected """ at byte 11/],
    ["{value:1}", 'unexpected "v" at byte 1'],
    ["{'value':1}", 'unexpected "\'" at byte 1'],
    ['\ufeff{"value":1}', "unexpected byte 0xef at byte 0"],
    ['{"value":1}\ufeff', "unexpected byte 0xef at byte 11"],
    ['{"value":\u00a01}', "unexpected byte 0xc2 at byte 9"],
    ['{"value":\f1}', "unexpected byte 0x0c at byte 9"],
    ['{"value":\v1}', "unexpected byte 0x0b at byte 9"],
    ['/**/{"value":1}', 'unexpected "/" at byte 0'],
    ['{"value":1}//', 'unexpected "/" at byte 11'],
    ['{"value":1#}', 'unexpected "#" at byte 10'],
    ['{"value":\x7f}', "unexpected byte 0x7f at byte 9"],
    // Members
    ['{"x":1}', 'member "x" is not allowed'],
    ['{"":1}', 'member "" is not allowed'],
    ['{"Value":1}', 'member "Value" is not allowed'],
    ['{"valu":1}', 'member "valu" is not allowed'],
    ['{"values":1}', 'member "values" is not allowed'],
    ['{"value\\u0000":1}', 'member "value\\u0000" is not allowed'],
    ['{"\\u0077alue":1}', 'member "\\u0077alue" is not allowed'],
    ['{"\\ud800":1}', 'member "\\ud800" is not allowed'],
    ['{"a\x7f\u0085\u2028\u202e":1}', 'member "a\ufffd\ufffd\ufffd\ufffd" is not allowed'],
    ['{"vålue":1}', 'member "vålue" is not allowed'],
    [`{"${"x".repeat(39)}":1}`, `member "${"x".repeat(39)}" is not allowed`],
    [`{"${"x".repeat(40)}":1}`, `member "${"x".repeat(24)}…" is not allowed`],
    [`{"value${"\\u0000".repeat(40)}":1}`, /^member "value\\u0000\\u0000\\u0000\\…" is not allowed$/],
    [`{"${"\\\\".repeat(4000)}":1}`, /is not allowed/],
    ['{"value":1,"x":2}', 'member "x" is not allowed'],
    ['{"x":1,"value":2}', 'member "x" is not allowed'],
    ['{"value":1,"value":2}', '"value" is given twice'],
    ['{"value":1,"value":1}', '"value" is given twice'],
    ['{"\\u0076alue":1,"value":1}', '"value" is given twice'],
    ['{"value":1,"v\\u0061lue":1}', '"value" is given twice'],
    ['{"va\nlue":1}', "control character in a string at byte 4"],
    // Words
    ['{"value":nul}', 'unexpected "}" at byte 12'],
    ['{"value":nulll}', 'unexpected "l" at byte 13'],
    ['{"value":True}', 'unexpected "T" at byte 9'],
    ['{"value":tru e}', "unexpected byte 0x20 at byte 12"],
    ['{"value":truefalse}', 'unexpected "f" at byte 13'],
    ['{"value":NaN}', 'unexpected "N" at byte 9'],
    ['{"value":nan}', 'unexpected "a" at byte 10'],
    ['{"value":Infinity}', 'unexpected "I" at byte 9'],
    ['{"value":-Infinity}', 'unexpected "I" at byte 10'],
    ['{"value":undefined}', 'unexpected "u" at byte 9'],
    ['{"value":[nul]}', 'unexpected "]" at byte 13'],
    // Numbers
    ['{"value":01}', 'unexpected "1" at byte 10'],
    ['{"value":-01}', 'unexpected "1" at byte 11'],
    ['{"value":00}', 'unexpected "0" at byte 10'],
    ['{"value":-}', 'unexpected "}" at byte 10'],
    ['{"value":--1}', 'unexpected "-" at byte 10'],
    ['{"value":+1}', 'unexpected "+" at byte 9'],
    ['{"value":.5}', 'unexpected "." at byte 9'],
    ['{"value":1.}', 'unexpected "}" at byte 11'],
    ['{"value":1.e5}', 'unexpected "e" at byte 11'],
    ['{"value":1..5}', 'unexpected "." at byte 11'],
    ['{"value":1.5.5}', 'unexpected "." at byte 12'],
    ['{"value":1e}', 'unexpected "}" at byte 11'],
    ['{"value":1e+}', 'unexpected "}" at byte 12'],
    ['{"value":1e+-1}', 'unexpected "-" at byte 12'],
    ['{"value":1e1.5}', 'unexpected "." at byte 12'],
    ['{"value":1ee1}', 'unexpected "e" at byte 11'],
    ['{"value":0e}', 'unexpected "}" at byte 11'],
    ['{"value":0x10}', 'unexpected "x" at byte 10'],
    ['{"value":1_000}', 'unexpected "_" at byte 10'],
    ['{"value":1,000}', 'unexpected "0" at byte 11'],
    ['{"value":- 1}', "unexpected byte 0x20 at byte 10"],
    ['{"value":1 e5}', 'unexpected "e" at byte 11'],
    ['{"value":１}', "unexpected byte 0xef at byte 9"],
    ['{"value":[1.]}', 'unexpected "]" at byte 12'],
    ['{"value":{"a":-}}', 'unexpected "}" at byte 15'],
    // Arrays and objects
    ['{"value":[}', 'unexpected "}" at byte 10'],
    ['{"value":[1', "the body ends too early at byte 11"],
    ['{"value":[1}', 'unexpected "}" at byte 11'],
    ['{"value":[1,]}', 'unexpected "]" at byte 12'],
    ['{"value":[,1]}', 'unexpected "," at byte 10'],
    ['{"value":[1,,2]}', 'unexpected "," at byte 12'],
    ['{"value":[1 2]}', 'unexpected "2" at byte 12'],
    ['{"value":["a":1]}', 'unexpected ":" at byte 13'],
    ['{"value":[1]]}', 'unexpected "]" at byte 12'],
    ['{"value":[]', "the body ends too early at byte 11"],
    ['{"value":{]}', 'unexpected "]" at byte 10'],
    ['{"value":{"a"}}', 'unexpected "}" at byte 13'],
    ['{"value":{"a":}}', 'unexpected "}" at byte 14'],
    ['{"value":{"a":1,}}', 'unexpected "}" at byte 16'],
    ['{"value":{,}}', 'unexpected "," at byte 10'],
    ['{"value":{"a":1]}', 'unexpected "]" at byte 15'],
    ['{"value":{"a":1 "b":2}}', /unexpected """ at byte 16/],
    ['{"value":{"a",1}}', 'unexpected "," at byte 13'],
    ['{"value":{1:1}}', 'unexpected "1" at byte 10'],
    ['{"value":{a:1}}', 'unexpected "a" at byte 10'],
    ['{"value":{null:1}}', 'unexpected "n" at byte 10'],
    ['{"value":[{]}]}', 'unexpected "]" at byte 11'],
    // Strings
    ['{"value":"', "the body ends too early at byte 10"],
    ['{"value":"a}', "the body ends too early at byte 12"],
    ['{"value":"\\"}', "the body ends too early at byte 13"],
    ["{\"value\":'a'}", 'unexpected "\'" at byte 9'],
    ['{"value":"\\x41"}', 'unexpected "x" at byte 11'],
    ['{"value":"\\0"}', 'unexpected "0" at byte 11'],
    ['{"value":"\\a"}', 'unexpected "a" at byte 11'],
    ['{"value":"\\N"}', 'unexpected "N" at byte 11'],
    ['{"value":"\\\n"}', "unexpected byte 0x0a at byte 11"],
    ['{"value":"\\é"}', "unexpected byte 0xc3 at byte 11"],
    ['{"value":"\\u12"}', /unexpected """ at byte 14/],
    ['{"value":"\\u00g0"}', 'unexpected "g" at byte 14'],
    ['{"value":"\\U0041"}', 'unexpected "U" at byte 11'],
    ['{"value":"\\u+041"}', 'unexpected "+" at byte 12'],
    ['{"value":"\\u{41}"}', 'unexpected "{" at byte 12'],
    ['{"value":"\\ud800\\"}', "the body ends too early at byte 19"],
    ['{"value":"a\nb"}', "control character in a string at byte 11"],
    ['{"value":"\t"}', "control character in a string at byte 10"],
    ['{"value":"\0"}', "control character in a string at byte 10"],
    ['{"value":"\x1f"}', "control character in a string at byte 10"],
    ['{"value":{"a\n":1}}', "control character in a string at byte 12"],
    // UTF-8
    [around('"', 0x80, '"'), "invalid UTF-8 at byte 10"],
    [around('"', 0xbf, '"'), "invalid UTF-8 at byte 10"],
    [around('"', 0xc0, 0x80, '"'), "invalid UTF-8 at byte 10"],
    [around('"', 0xc1, 0xbf, '"'), "invalid UTF-8 at byte 10"],
    [around('"', 0xc2, '"'), "invalid UTF-8 at byte 11"],
    [around('"', 0xc2, 0xc0, '"'), "invalid UTF-8 at byte 11"],
    [around('"', 0xe0, 0x9f, 0xbf, '"'), "invalid UTF-8 at byte 11"],
    [around('"', 0xe2, 0x82, '"'), "invalid UTF-8 at byte 12"],
    [around('"', 0xed, 0xa0, 0x80, '"'), "invalid UTF-8 at byte 11"],
    [around('"', 0xed, 0xbf, 0xbf, '"'), "invalid UTF-8 at byte 11"],
    [around('"', 0xf0, 0x8f, 0xbf, 0xbf, '"'), "invalid UTF-8 at byte 11"],
    [around('"', 0xf0, 0x9f, 0x98, '"'), "invalid UTF-8 at byte 13"],
    [around('"', 0xf0, 0x9f, 0x98, "a", '"'), "invalid UTF-8 at byte 13"],
    [around('"', 0xf4, 0x90, 0x80, 0x80, '"'), "invalid UTF-8 at byte 11"],
    [around('"', 0xf5, 0x80, 0x80, 0x80, '"'), "invalid UTF-8 at byte 10"],
    [around('"', 0xfe, '"'), "invalid UTF-8 at byte 10"],
    [around('"', 0xff, '"'), "invalid UTF-8 at byte 10"],
    [around("[", 0xe9, "]"), "unexpected byte 0xe9 at byte 10"],
    [around('{"', 0xff, '":1}'), "invalid UTF-8 at byte 11"],
    [Buffer.concat([bytes('{"'), Buffer.of(0xff), bytes('":1}')]), "invalid UTF-8 at byte 2"],
    [Buffer.from('{"value":1}', "utf16le"), "unexpected byte 0x00 at byte 1"],
  ];
  for (const [body, detail] of table) {
    const name = Buffer.from(body).toString("latin1");
    test(JSON.stringify(name.length > 60 ? `${name.slice(0, 50)}…` : name), () => refused(body, detail));
  }

  test("nesting above the limit", () => {
    const message = `more than ${JSON_DEPTH_MAX} levels deep at byte ${9 + JSON_DEPTH_MAX}`;
    refused(`{"value":${"[".repeat(JSON_DEPTH_MAX + 1)}`, message);
    refused(`{"value":${"[".repeat(1_000_000)}`, message);
    refused(`{"value":${'{"a":'.repeat(JSON_DEPTH_MAX + 1)}`, /levels deep/);
  });

  test("a body without value has its own code", () => {
    refused("{}", 'the body has no member "value"', "no_value");
    refused(" { \n} ", 'the body has no member "value"', "no_value");
    refused("{} x", 'unexpected "x" at byte 3');
  });

  test("every later call after an error", () => {
    scanner.reset();
    assert.equal(scanner.feed(bytes("x"), 0, 1), false);
    const { detail } = scanner;
    assert.equal(scanner.feed(bytes('{"value":1}'), 0, 11), false);
    assert.equal(scanner.finish(), false);
    assert.equal(scanner.detail, detail);
    scanner.reset();
    assert.equal(scanner.feed(bytes('{"value":1}'), 0, 11), true);
    assert.equal(scanner.finish(), true);
  });
});

describe("json: positions", () => {
  test("valueStart and valueEnd while the pieces arrive", () => {
    const steps: [string, number, number][] = [
      [' {"value"', -1, -1],
      [": ", -1, -1],
      ["-1", 11, -1],
      ["", 11, -1],
      ["2.", 11, -1],
      ["5e", 11, -1],
      ["7", 11, -1],
      [" ", 11, 18],
      [" } ", 11, 18],
    ];
    scanner.reset();
    for (const [piece, start, end] of steps) {
      assert.ok(scanner.feed(bytes(piece), 0, piece.length));
      assert.deepEqual([scanner.valueStart, scanner.valueEnd], [start, end], piece);
    }
    assert.ok(scanner.finish());
  });

  test("the end of each kind of value is known with its last byte, of a number with the next one", () => {
    for (const value of ['"a"', "true", "false", "null", "[]", "{}", "[[1],2]", '{"a":{}}', '""']) {
      scanner.reset();
      assert.ok(scanner.feed(bytes(`{"value":${value}`), 0, 9 + value.length));
      assert.deepEqual([scanner.valueStart, scanner.valueEnd], [9, 9 + value.length]);
    }
    for (const value of ["0", "-0", "12", "1.5", "1e5"]) {
      for (const after of [" ", "}", ","]) {
        scanner.reset();
        assert.ok(scanner.feed(bytes(`{"value":${value}`), 0, 9 + value.length));
        assert.deepEqual([scanner.valueStart, scanner.valueEnd], [9, -1]);
        assert.ok(scanner.feed(bytes(after), 0, 1));
        assert.deepEqual([scanner.valueStart, scanner.valueEnd], [9, 9 + value.length]);
      }
    }
  });

  test("offsets above 4 GiB stay exact", () => {
    scanner.reset();
    // As after 8 GiB of white space, which would take long to feed.
    (scanner as unknown as { consumed: number }).consumed = 2 ** 33;
    assert.ok(scanner.feed(bytes('{"value":1'), 0, 10));
    assert.ok(scanner.feed(bytes("}"), 0, 1));
    assert.equal(scanner.valueStart, 2 ** 33 + 9);
    assert.equal(scanner.valueEnd, 2 ** 33 + 10);
    assert.equal(scanner.feed(bytes("?"), 0, 1), false);
    assert.equal(scanner.detail, `unexpected "?" at byte ${2 ** 33 + 11}`);
  });
});

/** What the scanner must say, by other means: TextDecoder, JSON.parse, and a count of the members at the top. */
function expected(body: Uint8Array): "ok" | "bad_json" | "no_value" {
  let text: string;
  let document: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
    document = JSON.parse(text);
  } catch {
    return "bad_json";
  }
  if (typeof document !== "object" || document === null || Array.isArray(document)) return "bad_json";
  const names = topNames(text);
  if (names.length === 0) return "no_value";
  return names.length === 1 && names[0] === "value" ? "ok" : "bad_json";
}

/** Names of the top-level members of a valid document, repeated ones too. */
function topNames(text: string): string[] {
  const names: string[] = [];
  let depth = 0;
  let last = "";
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}:,]/g)) {
    if (token === "{" || token === "[") depth++;
    else if (token === "}" || token === "]") depth--;
    else if (token === ":" && depth === 1) names.push(JSON.parse(last));
    last = token;
  }
  return names;
}

const verdict = (outcome: Outcome): string | null => (outcome.ok ? "ok" : outcome.error);
const parameters = { seed: SEED, numRuns: RUNS };

/** Some JSON text with white space, escapes and number forms that JSON.stringify never writes. */
const jsonText = fc.letrec<{ value: string }>((tie) => {
  const space = fc.constantFrom("", "", "", " ", "\n", "\t\r ");
  const text = fc
    .array(
      fc.oneof(
        fc.string({ unit: "grapheme", maxLength: 8 }).map((part) => JSON.stringify(part).slice(1, -1)),
        fc.constantFrom("\\u0041", "\\ud800", "\\/", "\\b", "é", "水", "😀", "value", "\u2028"),
      ),
      { maxLength: 4 },
    )
    .map((parts) => `"${parts.join("")}"`);
  const number = fc
    .tuple(
      fc.constantFrom("", "-"),
      fc.constantFrom("0", "7", "12345678901234567890"),
      fc.constantFrom("", ".0", ".25"),
      fc.constantFrom("", "e1", "E-22", "e+05"),
    )
    .map((parts) => parts.join(""));
  const spaced = (inner: fc.Arbitrary<string>) =>
    fc.tuple(space, inner, space).map((parts) => parts.join(""));
  return {
    value: fc.oneof(
      { depthSize: "medium", maxDepth: 6 },
      text,
      number,
      fc.constantFrom("true", "false", "null"),
      fc
        .array(spaced(tie("value") as fc.Arbitrary<string>), { maxLength: 4 })
        .map((items) => `[${items.join()}]`),
      fc
        .array(fc.tuple(spaced(text), spaced(tie("value") as fc.Arbitrary<string>)), { maxLength: 4 })
        .map((members) => `{${members.map((member) => member.join(":")).join()}}`),
    ),
  };
}).value;

const documentText = fc.oneof(
  { weight: 4, arbitrary: jsonText.map((value) => `{"value":${value}}`) },
  { weight: 1, arbitrary: fc.tuple(jsonText, jsonText).map(([a, b]) => `{"value":${a},"value":${b}}`) },
  { weight: 1, arbitrary: fc.tuple(jsonText, jsonText).map(([a, b]) => ` { "value" : ${a} , "b" :${b} } `) },
  { weight: 1, arbitrary: jsonText },
);

/** A document with a few bytes changed, removed, repeated or put in. */
const mutated = fc
  .tuple(
    documentText,
    fc.array(
      fc.record({
        at: fc.double({ min: 0, max: 1, noNaN: true }),
        kind: fc.constantFrom("set", "insert", "delete", "cut", "swap"),
        byte: fc.oneof(
          fc.integer({ min: 0, max: 255 }),
          fc.constantFrom(
            ...bytes('{}[],:"\\ue+-.01 \n\ttfn'),
            0xc2,
            0xed,
            0xa0,
            0xf4,
            0x80,
            0xbf,
            0xe0,
            0xf0,
          ),
        ),
      }),
      { minLength: 1, maxLength: 3 },
    ),
  )
  .map(([text, changes]) => {
    let body = [...bytes(text)];
    for (const { at, kind, byte } of changes) {
      const offset = Math.floor(at * body.length);
      if (kind === "set") body[offset] = byte;
      else if (kind === "insert") body.splice(offset, 0, byte);
      else if (kind === "delete") body.splice(offset, 1);
      else if (kind === "cut") body = body.slice(0, Math.max(offset, body.length - 2));
      else if (offset + 1 < body.length) [body[offset], body[offset + 1]] = [body[offset + 1], body[offset]];
    }
    return Buffer.from(body);
  });

function cutsOf(body: Uint8Array, where: number[]): number[] {
  return where.map((part) => Math.floor(part * (body.length + 1))).sort((a, b) => a - b);
}
const anyCuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), { maxLength: 8 });

describe("json: random input", () => {
  test("generated documents: the verdict is that of JSON.parse, the text is the value's own", () => {
    fc.assert(
      fc.property(documentText, (text) => {
        const body = bytes(text);
        const outcome = scan(body);
        assert.equal(verdict(outcome), expected(body));
        if (outcome.ok) {
          assert.equal(outcome.value, outcome.value.trim());
          assert.deepEqual(JSON.parse(outcome.value), JSON.parse(text).value);
        }
      }),
      parameters,
    );
  });

  test("what JSON.stringify writes comes back", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.constantFrom("", " ", "\t"), (value, indent) => {
        const body = bytes(JSON.stringify({ value }, null, indent));
        const outcome = scan(body);
        assert.ok(outcome.ok, outcome.detail);
        assert.deepEqual(JSON.parse(outcome.value), JSON.parse(JSON.stringify(value)));
      }),
      parameters,
    );
  });

  test("mutated bytes: accepted exactly where TextDecoder and JSON.parse accept", () => {
    let valid = 0;
    fc.assert(
      fc.property(mutated, (body) => {
        const outcome = scan(body);
        assert.equal(verdict(outcome), expected(body));
        if (outcome.ok) valid++;
        else assert.match(outcome.detail, /^[^\p{Cc}\n]+$/u, "the message is one line of printable text");
      }),
      { ...parameters, numRuns: RUNS * 5 },
    );
    assert.ok(valid > 0, "some mutants stay valid, so that both sides are tested");
  });

  test("any split gives the outcome of one piece", () => {
    fc.assert(
      fc.property(fc.oneof(mutated, documentText.map(bytes)), anyCuts, (body, where) => {
        assert.deepEqual(scan(body, cutsOf(body, where)), scan(body));
      }),
      { ...parameters, numRuns: RUNS * 2 },
    );
  });

  test("every pair of bytes inside a string and outside of it", () => {
    for (const [before, after] of [
      ['{"value":"', '"}'],
      ['{"value":[', "1]}"],
      ['{"value":"\\', '"}'],
      ['{"value":"\xe2', '"}'],
    ]) {
      const head = Buffer.from(before, "latin1");
      const body = Buffer.concat([head, Buffer.alloc(2), Buffer.from(after, "latin1")]);
      for (let pair = 0; pair < 65536; pair += 1) {
        body[head.length] = pair >>> 8;
        body[head.length + 1] = pair & 255;
        scanner.reset();
        const ok = scanner.feed(body, 0, body.length) && scanner.finish();
        // The reference is slow: always asked for what is accepted, for the rest at every 16th pair.
        if (ok || pair % 17 === 0)
          assert.equal(ok ? "ok" : scanner.error, expected(body), body.toString("latin1"));
      }
    }
  });
});
