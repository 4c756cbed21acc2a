/**
 * From one answer to many watchers. Those that ask the same ask once; what each is written is made once
 * (told.ts); and telling them all yields to whoever else wants this thread:
 *
 *   ask, ask, ask ► one question ► answer ► tell, tell, … for TELL_MS at most, a turn of the event loop, …
 *
 * As long as nobody else wants anything the next slice follows at once. Otherwise there is a rest: a thousand
 * watchers take milliseconds, and no PUT or GET waits for more than a slice, nor loses more than its share.
 * Who is told asks again when all are told, so the next question is one again, and what is written meanwhile
 * comes together in its answer.
 */
import type { FeedClient, FeedReply } from "../../shards/feed/client.ts";
import type { FeedAnswer, FeedQuestion, FeedRefusal } from "../../shards/feed/messages.ts";
import { Told } from "./told.ts";

/** Longest that telling keeps the thread. */
const TELL_MS = 0.25;
/** Between two slices, where others want the thread: they have it for 16 parts of 17. */
const REST_MS = 4;

/** Where changes come from. */
export type FeedSource = Pick<FeedClient, "ask" | "cancel">;

/** Who asks again and again. */
export interface Asker {
  /** Asked by reference: it may change once it is answered. */
  readonly question: FeedQuestion;
  /** What the fan-out knows it by. */
  asked: Asked;
  /** Nobody is told who is not. */
  readonly isOpen: boolean;
  /** Passes an answer on to `FanOut.answered`. */
  readonly answered: FeedReply;
  tell(told: Told): void;
}

/** A question that several wait for. */
interface Shared {
  id: number;
  /** How many still do. */
  waiting: number;
}

/** A question under way, by its id where one asker has it for itself; null: there is none. */
export type Asked = number | Shared | null;

/** An answer, and who is still to be told. */
interface Delivery {
  readonly told: Told;
  readonly askers: Asker[];
  next: number;
  /** Those of them that have asked again. */
  readonly again: Asker[];
}

export class FanOut {
  readonly source: FeedSource;
  private readonly wanted: () => number;
  private gathered: Asker[] = [];
  private deliveries: Delivery[] = [];
  private telling = false;
  /** Where those ask who are being told. */
  private again: Asker[] | null = null;

  /** @param wanted changes whenever a request has come to this thread, or was answered */
  constructor(source: FeedSource, wanted: () => number) {
    this.source = source;
    this.wanted = wanted;
  }

  /** Asks what others may ask, too, in this turn; `tell` is called once, later, unless it is cancelled. */
  ask(asker: Asker): void {
    if (this.again !== null) this.again.push(asker);
    else if (this.gathered.push(asker) === 1) queueMicrotask(this.askGathered);
  }

  /** Asks something that nobody waits for long; it is told at once. */
  askAlone(asker: Asker): void {
    asker.asked = this.source.ask(asker.question, (answer) => {
      asker.asked = null;
      if (asker.isOpen) asker.tell(new Told(answer));
    });
  }

  /** Somebody is not open any more. */
  cancel(asker: Asker): void {
    const { asked } = asker;
    asker.asked = null;
    if (typeof asked === "number") this.source.cancel(asked);
    else if (asked !== null && --asked.waiting === 0) this.source.cancel(asked.id);
  }

  private readonly askGathered = (): void => {
    const { gathered } = this;
    this.gathered = [];
    this.askFor(gathered);
  };

  private askFor(askers: readonly Asker[]): void {
    const open = askers.filter(({ isOpen }) => isOpen);
    if (open.length === 1) this.askOne(open);
    else for (const group of groupsOf(open)) this.askOne(group);
  }

  /** Asks for those who ask the same. */
  private askOne(askers: readonly Asker[]): void {
    const [{ question, answered }] = askers;
    if (askers.length === 1) {
      askers[0].asked = this.source.ask(question, answered);
      return;
    }
    const shared: Shared = { id: -1, waiting: askers.length };
    for (const asker of askers) asker.asked = shared;
    shared.id = this.source.ask(question, (answer) => this.answered(answer, askers));
  }

  /** What is answered in one turn to several questions with the same answer is told together. */
  answered(answer: FeedAnswer | FeedRefusal, askers: readonly Asker[]): void {
    const last = this.deliveries.at(-1);
    if (last?.told.answer === answer) for (const asker of askers) last.askers.push(asker);
    else this.deliveries.push({ told: new Told(answer), askers: [...askers], next: 0, again: [] });
    if (this.telling) return;
    this.telling = true;
    queueMicrotask(this.tell);
  }

  private readonly tell = (): void => {
    const endsMs = performance.now() + TELL_MS;
    do if (this.deliver(this.deliveries[0], endsMs)) this.deliveries.shift();
    while (this.deliveries.length > 0 && performance.now() < endsMs);
    if (this.deliveries.length === 0) {
      this.telling = false;
      return;
    }
    const before = this.wanted();
    setImmediate(() => {
      if (this.wanted() === before) this.tell();
      else setTimeout(this.tell, REST_MS);
    });
  };

  /** Tells some; false: others are left. */
  private deliver(delivery: Delivery, endsMs: number): boolean {
    const { told, askers, again } = delivery;
    this.again = again;
    do {
      const asker = askers[delivery.next++];
      asker.asked = null;
      if (asker.isOpen) asker.tell(told);
    } while (delivery.next < askers.length && performance.now() < endsMs);
    this.again = null;
    if (delivery.next < askers.length) return false;
    this.askFor(again);
    return true;
  }
}

/** Those together who ask the same. Mostly all do, as they were told the same. */
function groupsOf(askers: readonly Asker[]): Asker[][] {
  const groups: Asker[][] = [];
  /** Of one cursor, and prefix. */
  const found = new Map<string, Asker[][]>();
  let latest: Asker[] | null = null;
  for (const asker of askers) {
    const { question } = asker;
    if (latest === null || !isSame(latest[0].question, question)) {
      const name = `${question.cursor} ${question.prefixes[0]}`;
      const alike = found.get(name) ?? [];
      latest = alike.find((group) => isSame(group[0].question, question)) ?? null;
      if (latest === null) {
        latest = [];
        groups.push(latest);
        alike.push(latest);
        found.set(name, alike);
      }
    }
    latest.push(asker);
  }
  return groups;
}

function isSame(a: FeedQuestion, b: FeedQuestion): boolean {
  return (
    a.cursor === b.cursor &&
    a.waitMs === b.waitMs &&
    a.since === b.since &&
    a.catchesUp === b.catchesUp &&
    a.values === b.values &&
    a.exact === b.exact &&
    a.form === b.form &&
    a.bytesMax === b.bytesMax &&
    a.countMax === b.countMax &&
    isSameList(a.prefixes, b.prefixes)
  );
}

function isSameList(a: readonly string[], b: readonly string[]): boolean {
  if (a.length !== b.length) return false;
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return false;
  return true;
}
