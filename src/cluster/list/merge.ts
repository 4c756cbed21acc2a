/**
 * What several replicas have told of a range, as one row of keys: each with the highest that is known of it,
 * and who holds that. Pure.
 */
import { compareRanks } from "../../rules/register.ts";
import type { HeldKey } from "../../shards/catalog/held.ts";
import { hashKey } from "../../util/hash.ts";
import type { Placement, ReplicaGroup } from "../layout/groups.ts";
import { hasVote, type Listed } from "../wire/list-wire.ts";

/** A key, and the replicas that hold the highest that is known of it, by the bits of its group. */
export interface Candidate {
  key: Uint8Array;
  group: ReplicaGroup;
  highest: HeldKey;
  holders: number;
}

/** The keys of one node that are not taken yet. */
interface Source {
  node: string;
  votes: Uint8Array;
  keys: readonly HeldKey[];
  next: number;
}

/** Whether a list meets `a` before the place. */
export function isBefore(a: Uint8Array, place: Uint8Array, reverse: boolean): boolean {
  const order = Buffer.compare(a, place);
  // From above, the place itself is not part of what is left.
  return reverse ? order >= 0 : order < 0;
}

/** Whether keys are in the order of a list, each once. */
export function isInOrder(keys: readonly HeldKey[], reverse: boolean): boolean {
  for (let i = 1; i < keys.length; i++) {
    const order = Buffer.compare(keys[i - 1].key, keys[i].key);
    if (reverse ? order <= 0 : order >= 0) return false;
  }
  return true;
}

/**
 * All keys that some voter has told of, in order.
 * @param answers by node, each in order
 * @param place up to where all have told; null: to the end
 */
export function mergeHeld(
  placement: Placement,
  answers: ReadonlyMap<string, Listed>,
  place: Uint8Array | null,
  reverse: boolean,
): Candidate[] {
  const sources = [...answers].map(([node, { keys, votes }]): Source => ({ node, votes, keys, next: 0 }));
  const candidates: Candidate[] = [];
  for (;;) {
    const key = nextKey(sources, reverse);
    if (key === null || (place !== null && !isBefore(key, place, reverse))) return candidates;
    const group = placement.groupOf(hashKey(key, key.length, 0));
    const candidate = takeKey(sources, key, group);
    if (candidate !== null) candidates.push(candidate);
  }
}

function nextKey(sources: readonly Source[], reverse: boolean): Uint8Array | null {
  let first: Uint8Array | null = null;
  for (const { keys, next } of sources) {
    if (next === keys.length) continue;
    const { key } = keys[next];
    if (first === null) first = key;
    else {
      const order = Buffer.compare(key, first);
      if (reverse ? order > 0 : order < 0) first = key;
    }
  }
  return first;
}

/** Takes a key out of all sources; null: nobody who has told of it has a vote on it. */
function takeKey(sources: readonly Source[], key: Uint8Array, group: ReplicaGroup): Candidate | null {
  let highest: HeldKey | null = null;
  let holders = 0;
  for (const source of sources) {
    if (source.next === source.keys.length) continue;
    const held = source.keys[source.next];
    if (held.key !== key && Buffer.compare(held.key, key) !== 0) continue;
    source.next++;
    const index = group.nodes.indexOf(source.node);
    if (index < 0 || !hasVote(source.votes, group.partition)) continue;
    const order = highest === null ? 1 : compareRanks(held, highest);
    if (order > 0) {
      highest = held;
      holders = 0;
    }
    if (order >= 0) holders |= 1 << index;
  }
  return highest === null ? null : { key, group, highest, holders };
}
