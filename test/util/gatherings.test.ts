import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { GAVE_WAY, type Gathering, Gatherings } from "../../src/util/gathering/gatherings.ts";
import { CHUNK_BYTES } from "../../src/util/limits.ts";
import { Places } from "../../src/util/places.ts";
import { Random, randomSeed } from "../random.ts";

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "minivault-test-"));
after(() => fs.rmSync(directory, { recursive: true }));

const never = (error: Error) => {
  throw error;
};

test("gatherings: bytes come back as they were, in memory and put aside, in any order of calls", (t) => {
  const random = new Random(randomSeed(t));
  // Few of them find room at once.
  const bytesMax = CHUNK_BYTES;
  const gatherings = new Gatherings(directory, { bytesMax, countMax: 1000 });
  const lanes: { gathering: Gathering; model: Buffer }[] = [];
  let asideMost = 0;
  for (let step = 0; step < 3000; step++) {
    const index = random.below(12);
    lanes[index] ??= { gathering: gatherings.open(never) as Gathering, model: Buffer.alloc(0) };
    const lane = lanes[index];
    const piece = random.bytes(random.below(random.below(8) === 0 ? 200_000 : 3000));
    switch (random.below(12)) {
      case 0:
        assert.ok(Buffer.from(lane.gathering.whole()).equals(lane.model), `step ${step}`);
        break;
      case 1:
        lane.gathering.empty();
        lane.model = Buffer.alloc(0);
        break;
      case 2:
        lane.gathering.close();
        delete lanes[index];
        break;
      case 3: {
        const room = Math.min(piece.length, CHUNK_BYTES - lane.model.length);
        assert.ok(
          lane.gathering.fill(room, (target, offset) => {
            target.set(piece.subarray(0, room), offset);
            return room;
          }),
        );
        lane.model = Buffer.concat([lane.model, piece.subarray(0, room)]);
        break;
      }
      default:
        if (lane.model.length + piece.length > CHUNK_BYTES) break;
        assert.ok(lane.gathering.append(piece));
        lane.model = Buffer.concat([lane.model, piece]);
    }
    assert.ok(gatherings.heldBytes <= bytesMax, `step ${step}: ${gatherings.heldBytes}`);
    asideMost = Math.max(asideMost, gatherings.asideCount);
  }
  assert.ok(asideMost > 2, "the file was used");
  for (const { gathering, model } of Object.values(lanes)) {
    assert.ok(Buffer.from(gathering.whole()).equals(model));
    gathering.close();
    gathering.close();
  }
  assert.deepEqual([gatherings.heldBytes, gatherings.asideCount, gatherings.count], [0, 0, 0]);
  assert.deepEqual(fs.readdirSync(directory), [], "nothing is left in the directory");
});

test("gatherings: the one that has not moved for the longest is put aside first, and none of those that move", () => {
  const gatherings = new Gatherings(directory, { bytesMax: 2 * CHUNK_BYTES, countMax: 10 });
  const [idle, busy, fresh] = [0, 1, 2].map(() => gatherings.open(never) as Gathering);
  const half = Buffer.alloc(CHUNK_BYTES / 2 + 1, "x");
  idle.append(half);
  busy.append(half);
  busy.append(Buffer.from("y"));
  assert.equal(gatherings.asideCount, 0);
  fresh.append(half);
  assert.equal(gatherings.asideCount, 1);
  assert.equal(busy.whole().length, half.length + 1);
  assert.equal(gatherings.asideCount, 1, "the busy one was in memory");
  assert.equal(idle.whole().length, half.length);
  for (const each of [idle, busy, fresh]) each.close();
});

test("gatherings: one to which nothing was added is no endless work for who makes room", () => {
  const gatherings = new Gatherings(directory, { bytesMax: CHUNK_BYTES, countMax: 10 });
  const [nothing, first, second] = [0, 1, 2].map(() => gatherings.open(never) as Gathering);
  nothing.append(Buffer.alloc(0));
  assert.ok(first.append(Buffer.alloc(CHUNK_BYTES)));
  assert.ok(second.append(Buffer.alloc(CHUNK_BYTES)));
  assert.equal(gatherings.asideCount, 1);
  assert.equal(nothing.whole().length, 0);
  for (const each of [nothing, first, second]) each.close();
});

test("gatherings: one that holds nothing but a buffer gives it back without the disk", () => {
  const gatherings = new Gatherings("/nonexistent", { bytesMax: CHUNK_BYTES, countMax: 10 });
  const [first, second] = [0, 1].map(() => gatherings.open(never) as Gathering);
  first.append(Buffer.alloc(CHUNK_BYTES));
  first.empty();
  assert.ok(second.append(Buffer.alloc(CHUNK_BYTES)));
  assert.equal(gatherings.heldBytes, CHUNK_BYTES);
});

test("gatherings: what is lost says so at once to whoever asks, and once to its owner", async () => {
  const gatherings = new Gatherings(directory, { bytesMax: CHUNK_BYTES, countMax: 1 });
  const told: Error[] = [];
  const first = gatherings.open((error) => told.push(error)) as Gathering;
  first.append(Buffer.from("slow"));
  const second = gatherings.open(never);
  assert.notEqual(second, null);
  assert.throws(() => first.whole(), GAVE_WAY);
  assert.throws(() => first.append(Buffer.from("x")), GAVE_WAY);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(told, [GAVE_WAY]);
  first.close();
  second?.close();
  assert.equal(gatherings.count, 0);
});

test("places: the slowest gives way; when nobody is slow, the newcomer finds none", () => {
  let nowMs = 0;
  const places = new Places(3, () => nowMs);
  const gone: string[] = [];
  const holder = (name: string, movedBytes: number) => ({
    movedBytes,
    sinceMs: nowMs,
    giveWay: () => gone.push(name),
  });
  const fast = holder("fast", 2 ** 30);
  assert.ok(places.enter(fast));
  assert.ok(places.enter(holder("slow", 20_000)));
  assert.ok(places.enter(holder("slowest", 10_000)));
  nowMs = 10_000;
  const next = holder("next", 2 ** 30);
  assert.ok(places.enter(next));
  assert.deepEqual(gone, ["slowest"]);
  assert.ok(places.enter(holder("last", 2 ** 30)));
  assert.deepEqual(gone, ["slowest", "slow"]);
  assert.ok(!places.enter(holder("one too many", 2 ** 30)));
  places.leave(next);
  assert.ok(places.enter(holder("after one has left", 0)));
  assert.equal(places.count, 3);
});
