/** Changes in place: the vectors of RFC 6902 and RFC 7396, exact numbers, and what stays as it was sent. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { PatchConflict, PatchError } from "../../src/rules/patch/errors.ts";
import { readPatch } from "../../src/rules/patch/patch.ts";
import { readTree, textOf } from "../../src/rules/patch/tree.ts";
import { randomSeed } from "../random.ts";

const merged = (value: string, patch: string) => readPatch("merge", patch)(value);
const patched = (value: string, patch: string) => readPatch("operations", patch)(value);
const commanded = (value: string | null, patch: string) => readPatch("command", patch)(value);

test("patch: the merge vectors of RFC 7396, appendix A", () => {
  const vectors = [
    ['{"a":"b"}', '{"a":"c"}', '{"a":"c"}'],
    ['{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'],
    ['{"a":"b"}', '{"a":null}', "{}"],
    ['{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'],
    ['{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'],
    ['{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'],
    ['{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'],
    ['{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'],
    ['["a","b"]', '["c","d"]', '["c","d"]'],
    ['{"a":"b"}', '["c"]', '["c"]'],
    ['{"a":"foo"}', "null", "null"],
    ['{"a":"foo"}', '"bar"', '"bar"'],
    ['{"e":null}', '{"a":1}', '{"e":null,"a":1}'],
    ["[1,2]", '{"a":"b","c":null}', '{"a":"b"}'],
    ["{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'],
  ];
  for (const [value, patch, result] of vectors)
    assert.equal(merged(value, patch), result, `${value} ${patch}`);
});

test("patch: the operations of RFC 6902, appendix A", () => {
  const vectors: [string, string, string][] = [
    ['{"foo":"bar"}', '[{"op":"add","path":"/baz","value":"qux"}]', '{"foo":"bar","baz":"qux"}'],
    ['{"foo":["bar","baz"]}', '[{"op":"add","path":"/foo/1","value":"qux"}]', '{"foo":["bar","qux","baz"]}'],
    ['{"baz":"qux","foo":"bar"}', '[{"op":"remove","path":"/baz"}]', '{"foo":"bar"}'],
    ['{"foo":["bar","qux","baz"]}', '[{"op":"remove","path":"/foo/1"}]', '{"foo":["bar","baz"]}'],
    [
      '{"baz":"qux","foo":"bar"}',
      '[{"op":"replace","path":"/baz","value":"boo"}]',
      '{"baz":"boo","foo":"bar"}',
    ],
    [
      '{"foo":{"bar":"baz","waldo":"fred"},"qux":{"corge":"grault"}}',
      '[{"op":"move","from":"/foo/waldo","path":"/qux/thud"}]',
      '{"foo":{"bar":"baz"},"qux":{"corge":"grault","thud":"fred"}}',
    ],
    [
      '{"foo":["all","grass","cows","eat"]}',
      '[{"op":"move","from":"/foo/1","path":"/foo/3"}]',
      '{"foo":["all","cows","eat","grass"]}',
    ],
    [
      '{"baz":"qux","foo":["a",2,"c"]}',
      '[{"op":"test","path":"/baz","value":"qux"},{"op":"test","path":"/foo/1","value":2}]',
      '{"baz":"qux","foo":["a",2,"c"]}',
    ],
    [
      '{"foo":"bar"}',
      '[{"op":"add","path":"/child","value":{"grandchild":{}}}]',
      '{"foo":"bar","child":{"grandchild":{}}}',
    ],
    ['{"foo":"bar"}', '[{"op":"add","path":"/baz","value":"qux","xyz":123}]', '{"foo":"bar","baz":"qux"}'],
    ['{"/":9,"~1":10}', '[{"op":"test","path":"/~01","value":10}]', '{"/":9,"~1":10}'],
    [
      '{"foo":["bar"]}',
      '[{"op":"add","path":"/foo/-","value":["abc","def"]}]',
      '{"foo":["bar",["abc","def"]]}',
    ],
    ['{"a":1}', '[{"op":"copy","from":"/a","path":"/b"}]', '{"a":1,"b":1}'],
    ['{"a":1}', '[{"op":"add","path":"","value":[1]}]', "[1]"],
    ['{"":1}', '[{"op":"replace","path":"/","value":2}]', '{"":2}'],
    ['{"a":1.0}', '[{"op":"test","path":"/a","value":1e0}]', '{"a":1.0}'],
    ['{"a":"\\u0061"}', '[{"op":"test","path":"/a","value":"a"}]', '{"a":"\\u0061"}'],
    ['{"__proto__":1}', '[{"op":"add","path":"/__proto__","value":2}]', '{"__proto__":2}'],
  ];
  for (const [value, patch, result] of vectors) assert.equal(patched(value, patch), result, patch);
  const conflicts: [string, string][] = [
    ['{"baz":"qux"}', '[{"op":"test","path":"/baz","value":"bar"}]'],
    ['{"foo":"bar"}', '[{"op":"add","path":"/baz/bat","value":"qux"}]'],
    ['{"/":9,"~1":10}', '[{"op":"test","path":"/~01","value":"10"}]'],
    ['{"a":[1]}', '[{"op":"add","path":"/a/2","value":1}]'],
    ['{"a":[1]}', '[{"op":"add","path":"/a/01","value":1}]'],
    ['{"a":[1]}', '[{"op":"remove","path":"/a/-"}]'],
    ['{"a":1}', '[{"op":"remove","path":"/b"}]'],
    ['{"a":1}', '[{"op":"replace","path":"/b","value":1}]'],
    ['{"a":1}', '[{"op":"move","from":"/b","path":"/a"}]'],
    ['{"a":1}', '[{"op":"add","path":"/b","value":1},{"op":"remove","path":"/c"}]'],
  ];
  for (const [value, patch] of conflicts) assert.throws(() => patched(value, patch), PatchConflict, patch);
  const wrong = [
    "{}",
    "[1]",
    '[{"op":"fly","path":"/a"}]',
    '[{"op":"add","path":"/a"}]',
    '[{"op":"add","value":1}]',
    '[{"op":"remove","path":"a"}]',
    '[{"op":"remove","path":"/~2"}]',
    '[{"op":"move","from":"/a","path":"/a/b"}]',
    "[",
    "",
  ];
  for (const patch of wrong) assert.throws(() => patched("{}", patch), PatchError, patch);
});

test("patch: what no change touches keeps its own text", () => {
  const value = '{ "n": 12345678901234567890.10, "o": {"b" : 1,"a":[ 1e400 ]}, "x": 0 }';
  assert.equal(
    merged(value, '{"x": 1.50}'),
    '{"n":12345678901234567890.10,"o":{"b" : 1,"a":[ 1e400 ]},"x":1.50}',
  );
  assert.equal(
    patched(value, '[{"op":"replace","path":"/x","value":-0}]'),
    '{"n":12345678901234567890.10,"o":{"b" : 1,"a":[ 1e400 ]},"x":-0}',
  );
});

test("patch: a tree's text is the same JSON", (t) => {
  fc.assert(
    fc.property(fc.json(), (text) => {
      assert.equal(textOf(readTree(text)), text.trim());
      const copy = JSON.stringify(JSON.parse(text));
      assert.deepEqual(JSON.parse(merged('{"a":1}', `{"b":${text}}`) as string).a, 1);
      if (!copy.includes("null"))
        assert.deepEqual(JSON.parse(merged("0", `{"b":${copy}}`) as string).b, JSON.parse(copy));
    }),
    { seed: randomSeed(t), numRuns: 500 },
  );
});

test("patch: counters are exact, whatever their size", (t) => {
  assert.equal(commanded("1", '{"increment":1}'), "2");
  assert.equal(commanded("0.1", '{"increment":0.2}'), "0.3");
  assert.equal(commanded("9007199254740993", '{"increment":1}'), "9007199254740994");
  assert.equal(commanded("1e3", '{"increment":-1.5e1}'), "985");
  assert.equal(commanded("-0", '{"increment":-0.0}'), "0");
  assert.equal(commanded("-0.5", '{"increment":0.25}'), "-0.25");
  const long = "9".repeat(400);
  assert.equal(commanded(long, '{"increment":1}'), `1${"0".repeat(400)}`);
  assert.equal(commanded(null, '{"increment":5,"initial":10}'), "15");
  assert.equal(commanded(null, '{"increment":5}'), null);
  assert.equal(commanded("5", '{"increment":5,"initial":100,"max":10}'), "10");
  assert.throws(() => commanded("5", '{"increment":5,"max":9.99}'), PatchConflict);
  assert.throws(() => commanded("5", '{"increment":-5,"min":1e0}'), PatchConflict);
  for (const value of ['"5"', "null", "[1]", "{}", "1e1000000000"])
    assert.throws(() => commanded(value, '{"increment":1}'), PatchConflict, value);
  for (const patch of [
    '{"increment":"1"}',
    '{"increment":1e1000000000}',
    "{}",
    "1",
    '{"increment":1,"more":1}',
    '{"append":1,"increment":1}',
  ])
    assert.throws(() => commanded("1", patch), PatchError, patch);
  fc.assert(
    fc.property(fc.bigInt(), fc.bigInt(), fc.integer({ min: -20, max: 20 }), (a, b, power) => {
      assert.equal(commanded(String(a), `{"increment":${b}}`), String(a + b));
      const [x, y] = [`${a}e${power}`, `${b}e${power}`];
      const sum = commanded(x, `{"increment":${y}}`) as string;
      assert.equal(commanded(sum, `{"increment":${-b}e${power}}`), commanded(x, '{"increment":0}'));
    }),
    { seed: randomSeed(t), numRuns: 300 },
  );
});

test("patch: append", () => {
  assert.equal(commanded("[1, 2]", '{"append":{"a":3}}'), '[1,2,{"a":3}]');
  assert.equal(commanded("[]", '{"append":[1]}'), "[[1]]");
  assert.equal(commanded('"a\\""', '{"append":"\\nb"}'), '"a\\"\\nb"');
  assert.equal(commanded(null, '{"append":1}'), null);
  for (const [value, patch] of [
    ["1", '{"append":1}'],
    ["{}", '{"append":1}'],
    ['"a"', '{"append":1}'],
  ])
    assert.throws(() => commanded(value, patch), PatchConflict);
});

test("patch: numbers of any size are compared by their values", () => {
  const long = "9".repeat(6000);
  for (const [a, b] of [
    ["1", "1.0"],
    ["1e99999", "10e99998"],
    ["-0", "0.000e77"],
    ["0.0012e3", "12E-1"],
    [long, `${long}.0`],
    [`1e${"9".repeat(30)}`, `10e${"9".repeat(29)}8`],
    ["1e007", "10000000"],
  ])
    assert.equal(patched(a, `[{"op":"test","path":"","value":${b}}]`), a);
  for (const [a, b] of [
    ["1", "-1"],
    ["1e99999", "1e99998"],
    ["9007199254740993", "9007199254740992"],
    [`${long}1`, `${long}2`],
    ["0", "1e-400"],
    ["0", "null"],
  ])
    assert.throws(() => patched(a, `[{"op":"test","path":"","value":${b}}]`), PatchConflict, `${a} ${b}`);
});

test("patch: a move to where it is, and of the whole", () => {
  const value = '{"a":[1, 2]}';
  for (const place of ["", "/a", "/a/1"])
    assert.deepEqual(
      JSON.parse(patched(value, `[{"op":"move","from":"${place}","path":"${place}"}]`) as string),
      JSON.parse(value),
    );
  assert.throws(() => patched(value, '[{"op":"move","from":"/b","path":"/b"}]'), PatchConflict);
});

test("patch: a few operations do not make a value of any size, or depth, or take any time", () => {
  const copies = (from: string, paths: string[]) =>
    JSON.stringify(paths.map((place) => ({ op: "copy", from, path: place })));
  const names = Array.from({ length: 60 }, (_, index) => `/${index}`);
  assert.throws(() => patched('{"a":{}}', copies("", names)), /copies too much/);
  const big = `{"a":"${"x".repeat(1_000_000)}"}`;
  assert.throws(() => patched(big, copies("/a", names)), /copies too much/);
  // Each makes it twice as deep: by copies, and by moves of what is deep already.
  const deeper: object[] = [];
  for (let depth = 1; depth < 60_000; depth = depth * 2 + 1)
    deeper.push({ op: "copy", from: "", path: "/a".repeat(depth + 1) });
  assert.throws(() => patched('{"a":{}}', JSON.stringify(deeper)), PatchConflict);
  const chain = `${'{"a":'.repeat(600)}{}${"}".repeat(600)}`;
  const move = [{ op: "move", from: "/y", path: `/x${"/a".repeat(601)}` }];
  assert.throws(() => patched(`{"x":${chain},"y":${chain}}`, JSON.stringify(move)), /deeper than 1000/);
  const short = [{ op: "move", from: "/y", path: `/x${"/a".repeat(301)}` }];
  const half = chain
    .replaceAll("a", "b")
    .replace(/(\{"b":){300}/, "")
    .replace(/\}{300}$/, "");
  const fits = patched(`{"x":${half.replaceAll("b", "a")},"y":${chain}}`, JSON.stringify(short)) as string;
  assert.equal(patched(fits, "[]"), fits, "what was made can be changed again");
  const many = `[${"0,".repeat(400_000)}0]`;
  const front = Array.from({ length: 2000 }, () => ({ op: "add", path: "/0", value: 1 }));
  assert.throws(() => patched(many, JSON.stringify(front)), /takes too long/);
  const zeros = `1.${"0".repeat(1_000_000)}`;
  const tests = Array.from({ length: 2000 }, () => ({ op: "test", path: "", value: 1 }));
  assert.throws(() => patched(zeros, JSON.stringify(tests)), /takes too long/);
  // What is asked for in earnest is far from that.
  assert.equal(JSON.parse(patched(many, JSON.stringify(front.slice(0, 100))) as string).length, 400_101);
});

test("patch: depth has a bound, and is never the end of the process", () => {
  const deep = `${"[".repeat(5000)}${"]".repeat(5000)}`;
  assert.throws(() => commanded(deep, '{"append":1}'), PatchConflict);
  assert.throws(() => merged("1", deep), PatchError);
  const fits = `${"[".repeat(900)}${"]".repeat(900)}`;
  assert.equal(commanded(fits, '{"append":1}'), `${fits.slice(0, -1)},1]`);
  // A thousand, with something in the innermost one or nothing.
  const nested = (depth: number, inner = "") => `${"[".repeat(depth)}${inner}${"]".repeat(depth)}`;
  for (const inner of ["", "1"]) {
    assert.equal(
      commanded(nested(1000, inner), '{"append":2}'),
      `${nested(1000, inner).slice(0, -1)}${",2"}]`,
    );
    assert.throws(() => commanded(nested(1001, inner), '{"append":2}'), PatchConflict);
    assert.equal(commanded("[]", `{"append":${nested(998, inner)}}`), `[${nested(998, inner)}]`);
    assert.throws(() => commanded("[]", `{"append":${nested(1000, inner)}}`), PatchError);
    const put = (depth: number) => `[{"op":"add","path":"/-","value":${nested(depth, inner)}}]`;
    assert.equal(patched(nested(1), put(900)), `[${nested(900, inner)}]`);
  }
});

test("patch: what is to be changed is said once", () => {
  for (const text of [
    '{"increment":1,"increment":10}',
    '{"append":1,"append":1}',
    '{"append":1,"\\u0061ppend":2}',
  ])
    assert.throws(() => commanded("1", text), /member twice/);
  assert.throws(
    () => patched("{}", '[{"op":"test","op":"add","path":"/a","value":1}]'),
    /operation 1 has a member twice/,
  );
  // Of values that are taken as they are it is nobody's business.
  assert.equal(commanded("[]", '{"append":{"a":1,"a":2}}'), '[{"a":1,"a":2}]');
});
