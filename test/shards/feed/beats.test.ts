/** When the logs are looked at: a test is the clock, and rings. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Beats } from "../../../src/shards/feed/beats.ts";
import type { Clock, Timer } from "../../../src/shards/thread/clock.ts";

class FakeClock implements Clock {
  ms = 1000;
  private timers: { dueMs: number; call: () => void }[] = [];
  private soonCalls: (() => void)[] = [];

  now(): number {
    return this.ms;
  }

  soon(call: () => void): void {
    this.soonCalls.push(call);
  }

  after(ms: number, call: () => void): Timer {
    const timer = { dueMs: this.ms + ms, call };
    this.timers.push(timer);
    return {
      again: () => assert.fail("no beat is repeated"),
      stop: () => {
        this.timers = this.timers.filter((each) => each !== timer);
      },
    };
  }

  every(): Timer {
    throw new Error("no beat comes by itself");
  }

  turn(): void {
    for (const call of this.soonCalls.splice(0)) call();
  }

  pass(ms: number): void {
    this.ms += ms;
    const due = this.timers.filter(({ dueMs }) => dueMs <= this.ms);
    this.timers = this.timers.filter(({ dueMs }) => dueMs > this.ms);
    for (const { call } of due) call();
  }
}

class Fixture {
  readonly clock = new FakeClock();
  listens = false;
  behind = false;
  isAwaited = true;
  beats = 0;
  readonly beatsOf: Beats;

  constructor() {
    const bell = {
      listen: () => {
        this.listens = true;
      },
      ignore: () => {
        this.listens = false;
      },
    };
    this.beatsOf = new Beats(bell, this.clock, () => {
      this.beats++;
      this.behind = false;
      this.plan();
    });
    this.plan();
  }

  plan(): void {
    this.beatsOf.plan(this.isAwaited, () => this.behind);
  }

  ring(): void {
    assert.ok(this.listens, "nobody rings who is not listened to");
    this.listens = false;
    this.beatsOf.rung();
  }
}

test("beats: a ring is followed at once, one after another, where each has met one change", () => {
  const fixture = new Fixture();
  for (let ring = 1; ring <= 5; ring++) {
    fixture.ring();
    assert.equal(fixture.beats, ring);
    fixture.beatsOf.answered(1, 1000);
    fixture.plan();
  }
});

test("beats: after several changes at once it rests, the longer the more answers were made, and then looks", () => {
  for (const [answers, restMs] of [
    [1, 1],
    [50, 10],
    [100_000, 100],
  ]) {
    const fixture = new Fixture();
    fixture.beatsOf.answered(2, answers);
    fixture.plan();
    fixture.beatsOf.rung();
    fixture.clock.pass(Math.min(restMs, 10) - 0.5);
    if (restMs <= 10) assert.equal(fixture.beats, 0, `${answers} answers`);
    fixture.clock.pass(restMs);
    assert.ok(fixture.beats > 0, `${answers} answers`);
    assert.ok(fixture.listens);
    const before = fixture.beats;
    fixture.ring();
    assert.equal(fixture.beats, before + 1);
  }
});

test("beats: what was written while nobody listened is looked at without a timer, once", () => {
  const fixture = new Fixture();
  fixture.behind = true;
  fixture.plan();
  fixture.plan();
  assert.equal(fixture.beats, 0, "not within the call");
  fixture.clock.turn();
  assert.equal(fixture.beats, 1);
  fixture.clock.turn();
  assert.equal(fixture.beats, 1);
});

test("beats: a ring before what is next takes its place", () => {
  const fixture = new Fixture();
  fixture.behind = true;
  fixture.plan();
  fixture.ring();
  fixture.clock.turn();
  assert.equal(fixture.beats, 1);
});

test("beats: without a ring it looks now and then, and after the end never", () => {
  const fixture = new Fixture();
  fixture.isAwaited = false;
  fixture.clock.pass(10);
  fixture.clock.pass(10);
  assert.equal(fixture.beats, 2);
  fixture.isAwaited = true;
  fixture.behind = true;
  fixture.plan();
  fixture.beatsOf.stop();
  fixture.clock.turn();
  fixture.clock.pass(1000);
  fixture.beatsOf.rung();
  assert.equal(fixture.beats, 2);
});
