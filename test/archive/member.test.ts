/** Names of members: one for each key, and none that leads elsewhere. */
import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { headOf, memberName, readMember } from "../../src/archive/member.ts";
import { Random, randomSeed } from "../random.ts";

test("archive: names of strange keys", () => {
  const names: [string, string][] = [
    ["plain/key.txt", "plain/key.txt"],
    ["ä ö/🦊", "ä ö/🦊"],
    ["/etc/passwd", "%2Fetc/passwd"],
    ["../../up", "%2E%2E/%2E%2E/up"],
    ["a/./b", "a/%2E/b"],
    ["a//b", "a/%2Fb"],
    ["a/", "a%2F"],
    ["/", "%2F"],
    ["///", "%2F%2F%2F"],
    ["a\nb\u0000c", "a%0Ab%00c"],
    ["%2F", "%252F"],
    ["back\\slash", "back%5Cslash"],
    ["...", "..."],
    [".hidden/..x", ".hidden/..x"],
  ];
  for (const [key, name] of names) assert.equal(memberName(key), name, JSON.stringify(key));
});

test("archive: each key has a name of its own, a safe one, and is read back", (t) => {
  const random = new Random(randomSeed(t));
  const letters = ["a", "/", "/", ".", ".", "%", "2", "F", "E", "\\", "\u0000", "\n", "ä"];
  const seen = new Map<string, string>();
  for (let round = 0; round < 20_000; round++) {
    const key = Array.from({ length: 1 + random.below(7) }, () => letters[random.below(letters.length)]).join(
      "",
    );
    const name = memberName(key);
    assert.equal(decodeURIComponent(name), key);
    assert.equal(seen.get(name) ?? key, key);
    seen.set(name, key);
    assert.ok(!path.isAbsolute(name) && !name.endsWith("/"), name);
    assert.ok(
      !name.split("/").some((segment) => segment === "" || segment === "." || segment === ".."),
      name,
    );
    const value = {
      etag: "0".repeat(32),
      versionMs: 0,
      json: false,
      contentType: "x/y",
      metadata: "",
      sums: "",
      end: 5e12,
      bytes: 3,
    };
    const head = headOf({ key: Buffer.from(key), ...value });
    const read = readMember(head);
    assert.ok(typeof read !== "string" && read.key.equals(Buffer.from(key)), JSON.stringify(key));
    assert.equal(read.end, 5e12);
  }
});

test("archive: members of other programs", () => {
  const read = (name: string) => readMember({ name, size: 0 });
  for (const [name, key] of [
    ["./a/b", "a/b"],
    ["/a", "a"],
    ["././a", "a"],
    ["a/../b", "a/../b"],
  ]) {
    const member = read(name);
    assert.ok(typeof member !== "string" && member.key.toString() === key && member.etag === null, name);
  }
  assert.equal(typeof read("bad\ufffd"), "string");
  assert.equal(
    typeof readMember({ name: "a", size: 0, pax: { "SCHILY.xattr.user.minivault.etag": "x" } }),
    "string",
  );
});
