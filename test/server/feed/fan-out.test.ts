/** From one answer to many watchers: one question of those who ask the same, each told once, and others get their turns meanwhile. */
import assert from "node:assert/strict";
import { mock, test } from "node:test";
import type { Asked, Asker } from "../../../src/server/feed/fan-out.ts";
import { FanOut } from "../../../src/server/feed/fan-out.ts";
import type { Told } from "../../../src/server/feed/told.ts";
import type { FeedReply } from "../../../src/shards/feed/client.ts";
import type { FeedAnswer, FeedQuestion } from "../../../src/shards/feed/messages.ts";

class FakeSource {
  /** Those that were asked and are not answered, by their ids. */
  readonly open = new Map<number, { question: FeedQuestion; reply: FeedReply }>();
  readonly cancelled: number[] = [];
  asked = 0;

  ask(question: FeedQuestion, reply: FeedReply): number {
    this.open.set(this.asked, { question: { ...question }, reply });
    return this.asked++;
  }

  cancel(id: number): void {
    if (this.open.delete(id)) this.cancelled.push(id);
  }

  /** Answers all that are open, in one turn. */
  answer(answer: FeedAnswer): void {
    const replies = [...this.open.values()];
    this.open.clear();
    for (const { reply } of replies) reply(answer);
  }
}

function answerAt(cursor: number): FeedAnswer {
  const text = Buffer.from(`change ${cursor}`);
  return { kind: "changes", text, count: 1, place: `place ${cursor}`, cursor, more: false };
}

class FakeAsker implements Asker {
  readonly question: FeedQuestion;
  asked: Asked = null;
  isOpen = true;
  readonly told: Told[] = [];
  /** What telling it takes. */
  workMs = 0;
  onTold = (): void => {};
  private readonly fanOut: FanOut;

  constructor(fanOut: FanOut, prefix: string) {
    this.fanOut = fanOut;
    this.question = {
      ...{ prefixes: [prefix], exact: false, values: false, form: "events", since: null, cursor: -1 },
      ...{ catchesUp: false, waitMs: 5000, bytesMax: 1000, countMax: 10 },
    };
  }

  readonly answered: FeedReply = (answer) => this.fanOut.answered(answer, [this]);

  ask(): void {
    this.fanOut.ask(this);
  }

  tell(told: Told): void {
    this.told.push(told);
    for (const untilMs = performance.now() + this.workMs; performance.now() < untilMs; );
    this.onTold();
  }

  close(): void {
    this.isOpen = false;
    this.fanOut.cancel(this);
  }
}

function askersOf(fanOut: FanOut, prefixes: readonly string[]): FakeAsker[] {
  return prefixes.map((prefix) => new FakeAsker(fanOut, prefix));
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function turnsUntil(holds: () => boolean): Promise<number> {
  let turns = 0;
  for (; !holds(); turns++) await turn();
  return turns;
}

const quiet = (): number => 0;

test("fan-out: those who ask the same ask once, and each is told once", async () => {
  const source = new FakeSource();
  const fanOut = new FanOut(source, quiet);
  const askers = askersOf(fanOut, ["a", "b", "a", "a", "b", "c"]);
  for (const asker of askers) asker.ask();
  await turn();
  assert.deepEqual(
    [...source.open.values()].map(({ question }) => question.prefixes),
    [["a"], ["b"], ["c"]],
  );
  const answer = answerAt(7);
  source.answer(answer);
  await turnsUntil(() => askers.every(({ told }) => told.length > 0));
  for (const { told } of askers)
    assert.deepEqual(
      told.map((each) => each.answer),
      [answer],
    );
  assert.equal(new Set(askers.map(({ told }) => told[0])).size, 1, "what is written is made once");
});

test("fan-out: whatever differs in a question keeps it apart", async () => {
  const source = new FakeSource();
  const fanOut = new FanOut(source, quiet);
  const differences: Partial<FeedQuestion>[] = [
    {},
    { since: "place" },
    { cursor: 3 },
    { catchesUp: true },
    { values: true },
    { exact: true },
    { form: "objects" },
    { waitMs: 7 },
    { bytesMax: 1 },
    { countMax: 1 },
    { prefixes: ["a", "b"] },
    { prefixes: [] },
  ];
  const askers = [...differences, ...differences].map((difference) => {
    const asker = new FakeAsker(fanOut, "a");
    Object.assign(asker.question, difference);
    asker.ask();
    return asker;
  });
  await turn();
  assert.equal(source.asked, differences.length);
  const asked = [...source.open.values()].map(({ question }) => question);
  assert.deepEqual(
    asked,
    askers.slice(0, differences.length).map(({ question }) => question),
  );
});

test("fan-out: a question is cancelled when nobody waits for it any more; who has gone is not told", async () => {
  const source = new FakeSource();
  const fanOut = new FanOut(source, quiet);
  const [first, second, alone, early] = askersOf(fanOut, ["a", "a", "b", "c"]);
  for (const asker of [first, second, alone, early]) asker.ask();
  early.close();
  await turn();
  assert.equal(source.asked, 2, "who has gone before it was asked is not asked for");
  first.close();
  assert.deepEqual(source.cancelled, []);
  alone.close();
  assert.deepEqual(source.cancelled, [1]);
  source.answer(answerAt(1));
  await turnsUntil(() => second.told.length > 0);
  assert.deepEqual([first.told.length, alone.told.length, early.told.length], [0, 0, 0]);
  second.ask();
  await turn();
  second.close();
  assert.deepEqual(source.cancelled, [1, 2]);
  assert.equal(source.open.size, 0);
});

test("fan-out: who closes while others are told is passed over, its question not asked again", async () => {
  const source = new FakeSource();
  const fanOut = new FanOut(source, quiet);
  const askers = askersOf(fanOut, ["a", "a", "a"]);
  for (const asker of askers) {
    asker.ask();
    asker.onTold = () => asker.ask();
  }
  askers[0].onTold = () => {
    askers[0].ask();
    askers[0].close();
    askers[2].close();
  };
  await turn();
  source.answer(answerAt(1));
  await turnsUntil(() => source.open.size > 0);
  assert.deepEqual(
    askers.map(({ told }) => told.length),
    [1, 1, 0],
  );
  askers[1].close();
  assert.deepEqual(source.cancelled, [1]);
});

/** At most 13 such fit into a slice, on the fastest machine; on a slower one fewer. */
const WORK_MS = 0.02;
const CROWD = 600;
const SLICES_MIN = CROWD / 13;

test("fan-out: others get their turns while many are told, who ask again once all are", async () => {
  const source = new FakeSource();
  const fanOut = new FanOut(source, quiet);
  const askers = askersOf(fanOut, new Array(CROWD).fill("a"));
  const askedWhenTold = new Set<number>();
  for (const asker of askers) {
    asker.workMs = WORK_MS;
    asker.onTold = () => {
      askedWhenTold.add(source.asked);
      asker.question.cursor = 1;
      asker.ask();
    };
    asker.ask();
  }
  await turn();
  assert.equal(source.asked, 1);
  source.answer(answerAt(1));
  const turns = await turnsUntil(() => source.asked > 1);
  assert.ok(turns >= SLICES_MIN - 2, `${turns} turns`);
  assert.ok(askers.every(({ told }) => told.length === 1));
  assert.deepEqual([...askedWhenTold], [1]);
  assert.equal(source.asked, 2);
  assert.equal(source.open.get(1)?.question.cursor, 1);
});

test("fan-out: each with a question of its own, they are told in slices, too", async () => {
  const source = new FakeSource();
  const fanOut = new FanOut(source, quiet);
  const askers = askersOf(
    fanOut,
    Array.from({ length: CROWD }, (_, number) => `own/${number}`),
  );
  for (const asker of askers) {
    asker.workMs = WORK_MS;
    asker.ask();
  }
  await turn();
  assert.equal(source.asked, CROWD);
  for (const [id, { reply }] of [...source.open]) {
    source.open.delete(id);
    reply(answerAt(id));
  }
  const turns = await turnsUntil(() => askers.every(({ told }) => told.length === 1));
  assert.ok(turns >= SLICES_MIN - 2, `${turns} turns`);
});

test("fan-out: where others want the thread, there is a rest after each slice", async () => {
  let requests = 0;
  const source = new FakeSource();
  const fanOut = new FanOut(source, () => requests++);
  const askers = askersOf(fanOut, new Array(60).fill("a"));
  for (const asker of askers) {
    asker.workMs = WORK_MS;
    asker.ask();
  }
  await turn();
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    source.answer(answerAt(1));
    let rests = 0;
    const told = (): number => askers.filter((asker) => asker.told.length === 1).length;
    for (let before = -1; told() < askers.length; rests++) {
      for (let each = 0; each < 10; each++) await turn();
      assert.ok(told() > before, "a slice after each rest");
      assert.ok(told() - Math.max(before, 0) <= 13, "and no more");
      before = told();
      mock.timers.runAll();
    }
    assert.ok(rests >= 60 / 13 - 1, `${rests} rests`);
  } finally {
    mock.timers.reset();
  }
});

test("fan-out: who asks alone is told alone, and may cancel", async () => {
  const source = new FakeSource();
  const fanOut = new FanOut(source, quiet);
  const askers = askersOf(fanOut, ["a", "a"]);
  for (const asker of askers) fanOut.askAlone(asker);
  assert.equal(source.asked, 2);
  askers[1].close();
  assert.deepEqual(source.cancelled, [1]);
  source.answer(answerAt(1));
  assert.deepEqual(
    askers.map(({ told }) => told.length),
    [1, 0],
  );
});
