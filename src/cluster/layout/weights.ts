/**
 * How much each node weighs for each partition, by its id: what decides where data lies, so a weight must
 * stay what it is for ever.
 *
 * In a layout of 1,024 partitions it is xxh32(seed: partition, id). One of more takes two hashes of each id
 * once, and mixes them with the partition's number as MurmurHash3 ends (fmix32: Appleby, 2011): 65,536
 * partitions times 1,000 nodes are weighed by each node, at each change of the layout, in which it serves
 * nobody.
 */
import { hashKey } from "../../util/hash.ts";
import { PARTITIONS_MIN } from "../../util/hash-prefix.ts";

/** Above the most nodes that there ever were: weights must stay what they are. */
const TIES = 2 * 0x100000;
const GOLDEN = 0x9e3779b1;

const encoder = new TextEncoder();

/**
 * Answers what weighs the nodes for a partition, into an array that is used again. No two weights are the
 * same: equal ones are decided by id, so that the order of the list does not matter.
 */
export function weigherOf(ids: readonly string[], partitions: number): (partition: number) => Float64Array {
  const bytes = ids.map((id) => encoder.encode(id));
  const ties = tiesOf(ids);
  const weights = new Float64Array(ids.length);
  if (partitions === PARTITIONS_MIN)
    return (partition) => {
      for (let index = 0; index < weights.length; index++)
        weights[index] = (hashKey(bytes[index], bytes[index].length, partition) >>> 0) * TIES + ties[index];
      return weights;
    };
  const firsts = Int32Array.from(bytes, (id) => hashKey(id, id.length, 0));
  const seconds = Int32Array.from(bytes, (id) => hashKey(id, id.length, GOLDEN));
  return (partition) => {
    const number = mixed(Math.imul(partition + 1, GOLDEN), 0);
    for (let index = 0; index < weights.length; index++)
      weights[index] = (mixed(firsts[index] ^ number, seconds[index]) >>> 0) * TIES + ties[index];
    return weights;
  };
}

function mixed(word: number, other: number): number {
  let mix = (Math.imul(word ^ (word >>> 16), 0x85ebca6b) + other) | 0;
  mix = Math.imul(mix ^ (mix >>> 13), 0xc2b2ae35);
  return mix ^ (mix >>> 16);
}

/** Less than TIES each, more for the lower id. */
function tiesOf(ids: readonly string[]): Float64Array {
  const ties = new Float64Array(ids.length);
  const byId = ids.map((_, index) => index).sort((a, b) => (ids[a] < ids[b] ? -1 : 1));
  byId.forEach((index, rank) => {
    ties[index] = ids.length - rank;
  });
  return ties;
}
