/**
 * Whether a history of operations on one key could have come from one register: each takes effect at one moment between its call and its answer
 * (Herlihy and Wing, "Linearizability", 1990).
 *
 * The search is that of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993): take as the next one any operation that was called before the first
 * answer among those left, try it on the model, go back when stuck; with Lowe's memory of configurations ("Testing for Linearizability", 2017): a set of
 * operations done and a state seen once without success are not tried again.
 *
 * An operation without an answer, or with an unknown outcome, may take effect at any time after its call, or never.
 *
 * A value with an end of life ends by itself, once, at any moment from which on some clock has reached that end. No operation finds it that was judged by
 * clocks that had reached it.
 */

/** What the model knows of a value: the number of the operation that wrote it; 0: the key is absent. */
export type ValueId = number;

/** An end of life that an operation has asked for. */
export interface End {
  /** In ms since 1970; each is asked for once. */
  millis: number;
  /** The operation. */
  owner: ValueId;
  /** When the first clock had reached it, in ms of the history; Infinity: none has. */
  reachedAt: number;
}

export interface Recorded {
  /** From 1 on, in order of call. */
  id: number;
  kind: "get" | "put" | "post" | "delete" | "replaceIf" | "deleteIf" | "keep" | "touch";
  called: number;
  /** Infinity: never. */
  answered: number;
  /** "unknown": it may have had its effect. (What certainly had none is left out of a history.) */
  outcome: "done" | "refused" | "unknown";
  /** get: what was read. */
  value: ValueId;
  /** get: the operation that gave the value its version, unless that is the one that wrote it. */
  version?: ValueId;
  /** get: the operation that gave the value its end; 0 or absent: it has none. */
  endOwner?: ValueId;
  /** put, post, replaceIf, touch: the end that it asks for; null or absent: none. */
  end?: End | null;
  /** The least that the clock of the node that was asked has shown it, in ms since 1970, where it was judged by a clock. */
  clockMillis?: number;
  /** replaceIf, deleteIf: the operation that has written the version that If-Match named. */
  expected: ValueId;
  /**
   * When the version of `expected` first changed without its value (a rewrite); Infinity: never. From then on a refusal is right although the
   * value is still there.
   */
  rewritten: number;
  /** put, delete that are done: whether there was a value before; null: the answer does not say for certain. */
  existed: boolean | null;
}

export const IMPOSSIBLE = -1;

/**
 * What the register holds, in one number: the operations that wrote its value, gave it its version, and gave it its end; 0: the key is absent.
 * A touch gives an old value a new version and a new end; who keeps an end gives a new value the end of the old one.
 */
export type State = number;
/** More operations than any history has. */
const IDS = 2 ** 17;

function stateOf(value: ValueId, version: ValueId, endOwner: ValueId): State {
  return (value * IDS + version) * IDS + endOwner;
}

const valueIn = (state: State): ValueId => Math.floor(state / (IDS * IDS));
const versionIn = (state: State): ValueId => Math.floor(state / IDS) % IDS;
const endOwnerIn = (state: State): ValueId => state % IDS;

/** What an operation makes of the key when it writes a value of its own. */
function written({ id, end = null }: Recorded): State {
  return stateOf(id, id, end === null ? 0 : id);
}

/** The state after an operation, or IMPOSSIBLE when its answer does not fit `state`. */
export function apply(operation: Recorded, state: State): State | typeof IMPOSSIBLE {
  const { kind, outcome, id, value, version = value, endOwner = 0, end = null } = operation;
  const known = outcome !== "unknown";
  switch (kind) {
    case "get":
      return stateOf(value, version, endOwner) === state ? state : IMPOSSIBLE;
    case "put":
    case "keep":
    case "delete":
      if (known && operation.existed !== null && operation.existed !== (state !== 0)) return IMPOSSIBLE;
      if (kind === "delete") return 0;
      return kind === "put" ? written(operation) : stateOf(id, id, endOwnerIn(state));
    case "post":
      if (outcome === "refused") return state !== 0 ? state : IMPOSSIBLE;
      if (state === 0) return written(operation);
      return known ? IMPOSSIBLE : state;
    case "touch":
      if (outcome === "refused") return state === 0 ? state : IMPOSSIBLE;
      if (state !== 0) return stateOf(valueIn(state), id, end === null ? 0 : id);
      return known ? IMPOSSIBLE : state;
    default: {
      const holds = state !== 0 && versionIn(state) === operation.expected;
      if (outcome === "refused")
        return !holds || operation.rewritten <= operation.answered ? state : IMPOSSIBLE;
      if (holds) return kind === "replaceIf" ? written(operation) : 0;
      return known ? IMPOSSIBLE : state;
    }
  }
}

/** Whether an answer says that there is a value. (Who writes blindly, and does not say what was there, has seen nothing.) */
function seesValue({ kind, outcome, existed, value }: Recorded): boolean {
  if (outcome === "unknown") return false;
  switch (kind) {
    case "get":
      return value !== 0;
    case "put":
    case "keep":
    case "delete":
      return existed === true;
    case "post":
      return outcome === "refused";
    default:
      return outcome === "done";
  }
}

/** Most operations of one history: a set of them is one integer of 31 bits. */
export const HISTORY_MAX = 30;

/** Whether the history is linearizable, from an absent key. */
export function isLinearizable(history: readonly Recorded[]): boolean {
  const count = history.length;
  if (count > HISTORY_MAX) throw new Error(`a history has at most ${HISTORY_MAX} operations`);
  let required = 0;
  const ends = new Map<ValueId, End>();
  for (let index = 0; index < count; index++) {
    const { id, outcome, end = null } = history[index];
    if (outcome !== "unknown") required |= 1 << index;
    if (end !== null) ends.set(id, end);
  }
  const numbers = new Map<State, number>();
  const numberOf = (state: State): number => {
    const number = numbers.get(state) ?? numbers.size;
    numbers.set(state, number);
    return number;
  };
  const stuck = new Set<number>();
  const search = (done: number, state: State): boolean => {
    if ((done & required) === required) return true;
    const configuration = done + numberOf(state) * 2 ** HISTORY_MAX;
    if (stuck.has(configuration)) return false;
    let firstAnswer = Infinity;
    for (let index = 0; index < count; index++)
      if ((done & (1 << index)) === 0 && history[index].outcome !== "unknown")
        firstAnswer = Math.min(firstAnswer, history[index].answered);
    const end = ends.get(endOwnerIn(state));
    // Here the value may end: once, and not before some clock has reached its end.
    if (end !== undefined && end.reachedAt <= firstAnswer && search(done, 0)) return true;
    for (let index = 0; index < count; index++) {
      if ((done & (1 << index)) !== 0 || history[index].called > firstAnswer) continue;
      // By the clock of the node that was asked it had ended before.
      const { clockMillis = -Infinity } = history[index];
      if (end !== undefined && end.millis <= clockMillis && seesValue(history[index])) continue;
      const next = apply(history[index], state);
      if (next !== IMPOSSIBLE && search(done | (1 << index), next)) return true;
    }
    stuck.add(configuration);
    return false;
  };
  return search(0, 0);
}

/** One line for each operation, for people. */
export function describe(history: readonly Recorded[]): string {
  return history
    .map((operation) => {
      const { id, kind, called, answered, outcome, value, expected, existed } = operation;
      const { version = value, endOwner = 0, end = null } = operation;
      const read = ` = ${value}${version === value ? "" : ` touched by ${version}`}${endOwner === 0 ? "" : ` ending as ${endOwner} says`}`;
      const what = kind === "get" ? read : kind.endsWith("If") ? ` ${expected}` : "";
      const before = existed === null ? "" : existed ? ", replaced" : ", created";
      const rewritten =
        operation.rewritten < Infinity ? `, rewritten at ${operation.rewritten.toFixed(2)}` : "";
      const ends = end === null ? "" : `, ends at ${end.millis}, reached at ${end.reachedAt.toFixed(2)}`;
      return `#${id} ${kind}${what} ${outcome}${before} [${called.toFixed(2)}, ${answered.toFixed(2)}]${rewritten}${ends}`;
    })
    .join("\n");
}
