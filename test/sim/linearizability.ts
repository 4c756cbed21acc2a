/**
 * Whether a history of operations on one key could have come from one register: each takes effect at one moment between its call and its answer
 * (Herlihy and Wing, "Linearizability", 1990).
 *
 * The search is that of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993): take as the next one any operation that was called before the first
 * answer among those left, try it on the model, go back when stuck; with Lowe's memory of configurations ("Testing for Linearizability", 2017): a set of
 * operations done and a state seen once without success are not tried again.
 *
 * An operation without an answer, or with an unknown outcome, may take effect at any time after its call, or never.
 */

/** What the model knows of a value: the number of the operation that wrote it; 0: the key is absent. */
export type ValueId = number;

export interface Recorded {
  /** From 1 on, in order of call. */
  id: number;
  kind: "get" | "put" | "post" | "delete" | "replaceIf" | "deleteIf";
  called: number;
  /** Infinity: never. */
  answered: number;
  /** "unknown": it may have had its effect. (What certainly had none is left out of a history.) */
  outcome: "done" | "refused" | "unknown";
  /** get: what was read. */
  value: ValueId;
  /** replaceIf, deleteIf: the value whose version If-Match named. */
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

/** The state after an operation, or IMPOSSIBLE when its answer does not fit `state`. */
export function apply(operation: Recorded, state: ValueId): number {
  const { kind, outcome, id } = operation;
  const known = outcome !== "unknown";
  switch (kind) {
    case "get":
      return operation.value === state ? state : IMPOSSIBLE;
    case "put":
    case "delete":
      if (known && operation.existed !== null && operation.existed !== (state !== 0)) return IMPOSSIBLE;
      return kind === "put" ? id : 0;
    case "post":
      if (outcome === "refused") return state !== 0 ? state : IMPOSSIBLE;
      if (state === 0) return id;
      return known ? IMPOSSIBLE : state;
    default: {
      const holds = state !== 0 && state === operation.expected;
      if (outcome === "refused")
        return !holds || operation.rewritten <= operation.answered ? state : IMPOSSIBLE;
      if (holds) return kind === "replaceIf" ? id : 0;
      return known ? IMPOSSIBLE : state;
    }
  }
}

/** Most operations of one history: a set of them is one integer of 31 bits. */
export const HISTORY_MAX = 30;

/** Whether the history is linearizable, from an absent key. */
export function isLinearizable(history: readonly Recorded[]): boolean {
  const count = history.length;
  if (count > HISTORY_MAX) throw new Error(`a history has at most ${HISTORY_MAX} operations`);
  let required = 0;
  let ids = 1;
  for (let index = 0; index < count; index++) {
    if (history[index].outcome !== "unknown") required |= 1 << index;
    ids = Math.max(ids, history[index].id + 1, history[index].value + 1);
  }
  const stuck = new Set<number>();
  const search = (done: number, state: ValueId): boolean => {
    if ((done & required) === required) return true;
    const configuration = done * ids + state;
    if (stuck.has(configuration)) return false;
    let firstAnswer = Infinity;
    for (let index = 0; index < count; index++)
      if ((done & (1 << index)) === 0 && history[index].outcome !== "unknown")
        firstAnswer = Math.min(firstAnswer, history[index].answered);
    for (let index = 0; index < count; index++) {
      if ((done & (1 << index)) !== 0 || history[index].called > firstAnswer) continue;
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
      const what = kind === "get" ? ` = ${value}` : kind.endsWith("If") ? ` ${expected}` : "";
      const before = existed === null ? "" : existed ? ", replaced" : ", created";
      const rewritten =
        operation.rewritten < Infinity ? `, rewritten at ${operation.rewritten.toFixed(2)}` : "";
      return `#${id} ${kind}${what} ${outcome}${before} [${called.toFixed(2)}, ${answered.toFixed(2)}]${rewritten}`;
    })
    .join("\n");
}
