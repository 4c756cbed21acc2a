/** What has arrived and cannot go on yet comes out as it went in, from memory and from the file behind it. */
import assert from "node:assert/strict";
import fs from "node:fs";
import { type TestContext, test } from "node:test";
import { Backlog } from "../../../src/shards/upload/backlog.ts";
import { temporaryDirectory } from "../../engine/harness.ts";
import { Random, randomSeed } from "../../random.ts";

const MIB = 2 ** 20;

/** A backlog beside the number of the next byte to put in and to take out; byte n of its content is known. */
class Checked {
  readonly backlog: Backlog;
  private readonly random: Random;
  private put = 0;
  private got = 0;

  constructor(directory: string, random: Random) {
    this.backlog = new Backlog(directory);
    this.random = random;
  }

  append(bytes: number): void {
    const piece = new Uint8Array(bytes);
    for (let i = 0; i < bytes; i++) piece[i] = byteAt(this.put++);
    this.backlog.append(piece);
    assert.equal(this.backlog.bytes, this.put - this.got);
  }

  take(room: number): void {
    const offset = this.random.below(10);
    const target = new Uint8Array(offset + room);
    const taken = this.backlog.take(target, offset);
    assert.equal(taken > 0, room > 0 && this.put > this.got);
    for (let i = 0; i < taken; i++)
      if (target[offset + i] !== byteAt(this.got++)) assert.fail(`byte ${this.got - 1} is wrong`);
    assert.equal(this.backlog.bytes, this.put - this.got);
  }

  takeAll(): void {
    while (this.backlog.bytes > 0) this.take(1 + this.random.below(MIB));
  }
}

function byteAt(position: number): number {
  return (position ^ (position >>> 8) ^ (position >>> 16)) & 0xff;
}

function folder(t: TestContext): string {
  const directory = temporaryDirectory();
  t.after(() => directory.remove());
  return directory.path;
}

test("backlog: pieces of any size, taken in parts of any size", (t) => {
  const random = new Random(randomSeed(t));
  const checked = new Checked(folder(t), random);
  for (let step = 0; step < 400; step++) {
    if (random.below(2) === 0) checked.append(random.below(600_000));
    else checked.take(random.below(MIB));
  }
  checked.takeAll();
  checked.backlog.close();
});

test("backlog: what memory has no place for goes through a file that has no name, and memory serves again after that", (t) => {
  const random = new Random(randomSeed(t));
  const directory = folder(t);
  const first = new Checked(directory, random);
  const second = new Checked(directory, random);
  for (let round = 0; round < 2; round++) {
    for (let piece = 0; piece < 35; piece++) {
      first.append(MIB);
      second.append(MIB / 2);
    }
    assert.deepEqual(fs.readdirSync(directory), []);
    for (let part = 0; part < 30; part++) first.take(MIB);
    // Behind what is in the file nothing may come from memory, though there is room again.
    first.append(MIB);
    second.append(MIB);
    first.takeAll();
    second.takeAll();
  }
  first.backlog.close();
  first.backlog.close();
  second.backlog.close();
});
