/**
 * What several replicas have told of a range, as one row of keys: each with the highest that is known of it,
 * and who holds that. Pure.
 */
import { compareRanks } from "../../rules/register.ts";
import type { HeldKey, HeldRow } from "../../shards/catalog/held.ts";
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

/** The keys of one node, and the number of the first that is not taken yet. */
interface Source {
  node: string;
  votes: Uint8Array;
  keys: HeldRow;
  next: number;
}

/** Whether a list meets `a` before the place. */
export function isBefore(a: Uint8Array, place: Uint8Array, reverse: boolean): boolean {
  const order = Buffer.compare(a, place);
  // From above, the place itself is not part of what is left.
  return reverse ? order >= 0 : order < 0;
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
    const first = withFirstKey(sources, reverse);
    if (first.length === 0) return candidates;
    const key = first[0].keys.key(first[0].next);
    if (place !== null && !isBefore(key, place, reverse)) return candidates;
    const group = placement.groupOf(hashKey(key, key.length, 0));
    const candidate = takeKey(first, key, group);
    if (candidate !== null) candidates.push(candidate);
  }
}

/** Those that come to the first of all keys next. */
function withFirstKey(sources: readonly Source[], reverse: boolean): Source[] {
  const first: Source[] = [];
  for (const source of sources) {
    if (source.next === source.keys.count) continue;
    if (first.length > 0) {
      const order = source.keys.compareKeys(source.next, first[0].keys, first[0].next);
      if (reverse ? order < 0 : order > 0) continue;
      if (order !== 0) first.length = 0;
    }
    first.push(source);
  }
  return first;
}

/** Takes a key out of all that come to it; null: nobody who has told of it has a vote on it. */
function takeKey(met: readonly Source[], key: Uint8Array, group: ReplicaGroup): Candidate | null {
  let highest: HeldKey | null = null;
  let best: Source | null = null;
  let holders = 0;
  for (const source of met) {
    source.next++;
    const index = group.nodes.indexOf(source.node);
    if (index < 0 || !hasVote(source.votes, group.partition)) continue;
    if (best?.keys.isSame(best.next - 1, source.keys, source.next - 1)) {
      holders |= 1 << index;
      continue;
    }
    const held = source.keys.at(source.next - 1);
    const order = highest === null ? 1 : compareRanks(held, highest);
    if (order > 0) {
      highest = held;
      best = source;
      holders = 0;
    }
    if (order >= 0) holders |= 1 << index;
  }
  return highest === null ? null : { key, group, highest, holders };
}
