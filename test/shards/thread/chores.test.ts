/** The chores of a shard thread, with the test as their clock. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Chores, type Tended } from "../../../src/shards/thread/chores.ts";
import type { Clock, Timer } from "../../../src/shards/thread/clock.ts";

interface Alarm {
  atMs: number;
  everyMs: number;
  waitMs: number;
  call: () => void;
}

/** A clock that goes when it is told to, and calls what is due in the order of its time. */
class HandClock implements Clock {
  private ms = 0;
  private queued: (() => void)[] = [];
  readonly alarms = new Set<Alarm>();

  readonly now = (): number => this.ms;

  soon(call: () => void): void {
    this.queued.push(call);
  }

  after(ms: number, call: () => void): Timer {
    return this.add({ atMs: this.ms + ms, everyMs: 0, waitMs: ms, call });
  }

  every(ms: number, call: () => void): Timer {
    return this.add({ atMs: this.ms + ms, everyMs: ms, waitMs: ms, call });
  }

  private add(alarm: Alarm): Timer {
    this.alarms.add(alarm);
    return {
      again: () => {
        alarm.atMs = this.ms + alarm.waitMs;
        this.alarms.add(alarm);
      },
      stop: () => void this.alarms.delete(alarm),
    };
  }

  /** What is to come soon, once. */
  turn(): void {
    for (const call of this.queued.splice(0)) call();
  }

  /** Goes on, and does all that comes meanwhile. */
  go(ms: number): void {
    const end = this.ms + ms;
    for (;;) {
      while (this.queued.length > 0) this.turn();
      const next = [...this.alarms].sort((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined || next.atMs > end) break;
      this.ms = next.atMs;
      if (next.everyMs > 0) next.atMs += next.everyMs;
      else this.alarms.delete(next);
      next.call();
    }
    this.ms = end;
  }
}

class Tally implements Tended {
  readonly steps: number[] = [];
  marks = 0;
  looks = 0;
  watches = 0;
  scrubs = 0;
  scrubBytes = 0;
  work = 0;
  waiting = false;
  isPressed = false;

  idle(bytes: number): boolean {
    this.steps.push(bytes);
    return this.work-- > 1;
  }

  mark(): void {
    this.marks++;
  }

  look(): boolean {
    this.looks++;
    return false;
  }

  watch(): void {
    this.watches++;
  }

  readonly scrub = {
    step: (): number => {
      this.scrubs++;
      return this.scrubBytes;
    },
  };
}

function begin(): {
  clock: HandClock;
  shard: Tally;
  chores: Chores;
  front: { pending: boolean };
  told: number[];
} {
  const clock = new HandClock();
  const shard = new Tally();
  const front = { pending: false };
  const told: number[] = [];
  const chores = new Chores({
    shards: [shard],
    clock,
    hasPending: () => front.pending,
    tell: () => void told.push(clock.now()),
  });
  return { clock, shard, chores, front, told };
}

test("chores: steps are short behind a batch, long when nobody works, and end when nothing is left", () => {
  const { clock, shard, chores } = begin();
  shard.work = 3;
  chores.worked();
  clock.turn();
  clock.turn();
  clock.turn();
  clock.turn();
  assert.deepEqual(shard.steps, [32 * 1024, 256 * 1024, 256 * 1024]);
});

test("chores: a shard rests 50 ms after the last batch, counted anew with each", () => {
  const { clock, shard, chores } = begin();
  clock.go(49);
  assert.equal(shard.marks, 0);
  chores.worked();
  clock.turn();
  clock.go(49);
  assert.equal(shard.marks, 0);
  clock.go(1);
  assert.equal(shard.marks, 1);
});

test("chores: what waits at rest is worked on", () => {
  const { clock, shard } = begin();
  clock.go(49);
  const before = shard.steps.length;
  shard.waiting = true;
  clock.go(1);
  shard.waiting = false;
  clock.turn();
  assert.ok(shard.steps.length > before);
});

test("chores: the scrub waits as long as it read, ten times as long while batches come, a minute when it is over", () => {
  const { clock, shard, chores } = begin();
  shard.scrubBytes = 1024 * 1024;
  clock.go(50);
  assert.equal(shard.scrubs, 1);
  clock.go(249);
  assert.equal(shard.scrubs, 1);
  chores.worked();
  clock.go(1);
  assert.equal(shard.scrubs, 2);
  clock.go(2499);
  assert.equal(shard.scrubs, 2);
  shard.scrubBytes = 0;
  clock.go(1);
  assert.equal(shard.scrubs, 3);
  clock.go(59_999);
  assert.equal(shard.scrubs, 3);
  clock.go(1);
  assert.equal(shard.scrubs, 4);
});

test("chores: nothing is scrubbed while a front waits", () => {
  const { clock, shard, front } = begin();
  shard.scrubBytes = 1024;
  front.pending = true;
  clock.go(500);
  assert.equal(shard.scrubs, 0);
  front.pending = false;
  clock.go(50);
  assert.ok(shard.scrubs > 0);
});

test("chores: directory and slabs are looked after, and what was found is told", () => {
  const { clock, shard, told } = begin();
  clock.go(10_000);
  assert.equal(shard.looks, 10);
  assert.ok(shard.watches > 0);
  assert.ok(told.length >= shard.looks + shard.watches);
});

test("chores: closed, they do nothing more", () => {
  const { clock, shard, chores } = begin();
  chores.close();
  clock.go(120_000);
  assert.deepEqual(shard.steps, []);
  assert.equal(shard.scrubs + shard.looks + shard.watches + shard.marks, 0);
  assert.equal(clock.alarms.size, 0);
});
