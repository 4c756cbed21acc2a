/**
 * The same judgement as isLinearizable, for histories of any length: those of real processes have hundreds of operations on one key.
 *
 * The model is the one of linearizability.ts, and so is the search. Only a set of operations done is written down in another way: operations with an
 * answer are nearly done in the order of their calls, so such a set is the length of a prefix, and what is done beyond it; operations of unknown outcome are
 * tried last, and what they are is listed. Values that nobody has read or named are all one value here, and of unknown operations that do the same only the
 * first one left is tried: which of them took effect, nobody can tell.
 */
import { apply, IMPOSSIBLE, type Recorded, type ValueId } from "./linearizability.ts";

/** undecided: the search was given up. */
export type Judgement = "linearizable" | "not linearizable" | "undecided";

/** Judges the history of a key that is absent at first. `stepsMax`: after so many steps the search gives up. */
export function judgeLong(history: readonly Recorded[], stepsMax: number): Judgement {
  const byCall = merged(history).sort((a, b) => a.called - b.called);
  const answered = byCall.filter((operation) => operation.outcome !== "unknown");
  const unknown = byCall.filter((operation) => operation.outcome === "unknown" && operation.kind !== "get");
  const sameAs = unknown.map(
    ({ kind, id, expected }) => `${kind};${kind.startsWith("delete") ? 0 : id};${expected}`,
  );
  const isDone = new Uint8Array(answered.length);
  const isTaken = new Uint8Array(unknown.length);
  const stuck = new Set<string>();
  let steps = 0;

  const search = (from: number, state: ValueId): boolean => {
    let prefix = from;
    while (prefix < answered.length && isDone[prefix] === 1) prefix++;
    if (prefix === answered.length) return true;
    if (++steps > stepsMax) return false;
    // Nothing that was called after the first answer among those left can be the next one.
    let firstAnswer = answered[prefix].answered;
    const open = [prefix];
    const beyond: number[] = [];
    for (let index = prefix + 1; index < answered.length && answered[index].called <= firstAnswer; index++) {
      if (isDone[index] === 1) beyond.push(index);
      else {
        open.push(index);
        firstAnswer = Math.min(firstAnswer, answered[index].answered);
      }
    }
    const taken: number[] = [];
    for (let index = 0; index < unknown.length; index++) if (isTaken[index] === 1) taken.push(index);
    const configuration = `${prefix};${beyond};${taken};${state}`;
    if (stuck.has(configuration)) return false;
    open.sort((a, b) => answered[a].answered - answered[b].answered);
    for (const index of open) {
      if (answered[index].called > firstAnswer) continue;
      const next = apply(answered[index], state);
      if (next === IMPOSSIBLE) continue;
      isDone[index] = 1;
      if (search(prefix, next)) return true;
      isDone[index] = 0;
    }
    const tried = new Set<string>();
    for (let index = 0; index < unknown.length && unknown[index].called <= firstAnswer; index++) {
      if (isTaken[index] === 1 || tried.has(sameAs[index])) continue;
      tried.add(sameAs[index]);
      const next = apply(unknown[index], state);
      // One that changes nothing may as well never happen.
      if (next === IMPOSSIBLE || next === state) continue;
      isTaken[index] = 1;
      if (search(prefix, next)) return true;
      isTaken[index] = 0;
    }
    stuck.add(configuration);
    return false;
  };

  if (search(0, 0)) return "linearizable";
  return steps > stepsMax ? "undecided" : "not linearizable";
}

/** The history with one number for all values that nobody has read or named. */
function merged(history: readonly Recorded[]): Recorded[] {
  const used = new Set<ValueId>();
  let unseen = 0;
  for (const { id, kind, value, expected } of history) {
    unseen = Math.max(unseen, id + 1, value + 1, expected + 1);
    if (kind === "get") used.add(value);
    if (kind === "replaceIf" || kind === "deleteIf") used.add(expected);
  }
  return history.map((operation) => ({ ...operation, id: used.has(operation.id) ? operation.id : unseen }));
}
