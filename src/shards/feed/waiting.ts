/**
 * Questions that wait for the next change, by what they wait for: a change is looked up in them once for each
 * length of prefix, however many wait.
 */
import { textName } from "./answer-text.ts";
import type { FeedQuestion } from "./messages.ts";

/** A question that is not answered yet. */
export interface Pending {
  readonly front: number;
  readonly id: number;
  readonly question: FeedQuestion;
  /** When it is answered at the latest, by `performance.now`. */
  readonly dueMs: number;
}

/** Deadlines are kept to so much. */
const DUE_STEP_MS = 25;

export class WaitingQuestions {
  count = 0;
  private readonly byPrefix = new Map<string, Set<Pending>>();
  private readonly byKey = new Map<string, Set<Pending>>();
  /** How many prefixes of each length there are. */
  private readonly lengths = new Map<number, number>();
  /** By their fronts, and their ids there. */
  private readonly byId = new Map<number, Map<number, Pending>>();
  /** By the step in which they are due. */
  private readonly due = new Map<number, Set<Pending>>();
  private dueStep = Math.floor(performance.now() / DUE_STEP_MS);

  add(pending: Pending): void {
    const { question } = pending;
    if (this.count === 0) this.dueStep = Math.floor(performance.now() / DUE_STEP_MS);
    this.count++;
    const ofFront = this.byId.get(pending.front);
    if (ofFront === undefined) this.byId.set(pending.front, new Map([[pending.id, pending]]));
    else ofFront.set(pending.id, pending);
    for (const prefix of question.prefixes) {
      if (question.exact) addTo(this.byKey, prefix, pending);
      else if (addTo(this.byPrefix, prefix, pending)) this.countLength(prefix.length, 1);
    }
    addTo(this.due, this.stepOf(pending), pending);
  }

  delete(pending: Pending): void {
    if (this.byId.get(pending.front)?.delete(pending.id) !== true) return;
    this.count--;
    const { question } = pending;
    for (const prefix of question.prefixes) {
      if (question.exact) deleteFrom(this.byKey, prefix, pending);
      else if (deleteFrom(this.byPrefix, prefix, pending)) this.countLength(prefix.length, -1);
    }
    deleteFrom(this.due, this.stepOf(pending), pending);
  }

  private stepOf({ dueMs }: Pending): number {
    return Math.ceil(dueMs / DUE_STEP_MS);
  }

  private countLength(length: number, sign: 1 | -1): void {
    const count = (this.lengths.get(length) ?? 0) + sign;
    if (count === 0) this.lengths.delete(length);
    else this.lengths.set(length, count);
  }

  find(front: number, id: number): Pending | undefined {
    return this.byId.get(front)?.get(id);
  }

  /** Who waits for a change of one of these keys: those together who ask the same, but for their places. */
  concernedBy(keys: Iterable<string>): Iterable<readonly Pending[]> {
    const sets = new Set<ReadonlySet<Pending>>();
    for (const key of keys) this.match(key, sets);
    const concerned = new Set<Pending>();
    for (const set of sets) for (const pending of set) concerned.add(pending);
    const alike = new Map<string, Pending[]>();
    for (const pending of concerned) {
      const name = textName(pending.question);
      const found = alike.get(name);
      if (found === undefined) alike.set(name, [pending]);
      else found.push(pending);
    }
    return alike.values();
  }

  private match(key: string, into: Set<ReadonlySet<Pending>>): void {
    for (const length of this.lengths.keys()) {
      if (length > key.length) continue;
      const found = this.byPrefix.get(key.slice(0, length));
      if (found !== undefined) into.add(found);
    }
    const exact = this.byKey.get(key);
    if (exact !== undefined) into.add(exact);
  }

  /** Those whose time is over; they go on waiting until they are deleted. */
  overdue(nowMs: number): Pending[] {
    const step = Math.floor(nowMs / DUE_STEP_MS);
    const over: Pending[] = [];
    for (; this.dueStep <= step; this.dueStep++) over.push(...(this.due.get(this.dueStep) ?? []));
    return over;
  }

  all(): Pending[] {
    return [...this.byId.values()].flatMap((ofFront) => [...ofFront.values()]);
  }
}

/** Whether it is the first one there. */
function addTo<Key>(sets: Map<Key, Set<Pending>>, key: Key, pending: Pending): boolean {
  const set = sets.get(key);
  set?.add(pending);
  if (set === undefined) sets.set(key, new Set([pending]));
  return set === undefined;
}

/** Whether it was the last one there. */
function deleteFrom<Key>(sets: Map<Key, Set<Pending>>, key: Key, pending: Pending): boolean {
  const set = sets.get(key);
  if (set === undefined || !set.delete(pending) || set.size > 0) return false;
  sets.delete(key);
  return true;
}
