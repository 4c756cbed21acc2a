/**
 * Which nodes hold a partition. Pure and deterministic: every node computes the same sets from the same list
 * of nodes.
 *
 * Rendezvous hashing (Thaler and Ravishankar, 1998): each node has a weight for each partition, xxh32(seed:
 * partition, node's id), and the highest weights win. A node that comes or goes changes only the partitions
 * that it wins or held. Copies go to different regions first, then to different hosts, then anywhere: best
 * node of all, then the best of each region not used yet, then the best of each host not used yet, then the
 * best of what is left.
 *
 * `loadHash` must have finished in this thread (long node ids are hashed by WebAssembly).
 */
import { hashKey } from "../../util/hash.ts";

/** What placement looks at. */
export interface PlacedNode {
  readonly id: string;
  readonly region: string;
  readonly host: string;
}

/**
 * Most nodes: each has a client with timers and connections in every other, and each layout is placed by
 * every node at once (about 0.3 s for so many).
 */
export const NODES_MAX = 1024;
/** Above the most nodes that there ever were: weights must stay what they are. */
const TIES = 2 * 0x100000;

const encoder = new TextEncoder();

/**
 * Chooses up to `replicas` nodes for each partition, in order of rank.
 * @returns for each partition, indexes into `nodes`
 */
export function placePartitions(
  nodes: readonly PlacedNode[],
  partitions: number,
  replicas: number,
): number[][] {
  const ids = nodes.map((node) => encoder.encode(node.id));
  // Equal weights are decided by id, so that the order of the list does not matter.
  const byId = nodes.map((_, index) => index).sort((a, b) => (nodes[a].id < nodes[b].id ? -1 : 1));
  const rankById = new Array<number>(nodes.length);
  byId.forEach((index, rank) => {
    rankById[index] = rank;
  });
  const weights = new Float64Array(nodes.length);
  const sets: number[][] = new Array(partitions);
  for (let partition = 0; partition < partitions; partition++) {
    for (let index = 0; index < nodes.length; index++)
      weights[index] =
        (hashKey(ids[index], ids[index].length, partition) >>> 0) * TIES + nodes.length - rankById[index];
    sets[partition] = choose(nodes, weights, replicas);
  }
  return sets;
}

function choose(nodes: readonly PlacedNode[], weights: Float64Array, replicas: number): number[] {
  const chosen: number[] = [];
  const wanted = Math.min(replicas, nodes.length);
  for (const isNew of [newRegion, newHost, anyNode])
    while (chosen.length < wanted) {
      let best = -1;
      for (let index = 0; index < nodes.length; index++)
        if (
          (best < 0 || weights[index] > weights[best]) &&
          !chosen.includes(index) &&
          isNew(nodes, chosen, nodes[index])
        )
          best = index;
      if (best < 0) break;
      chosen.push(best);
    }
  return chosen;
}

function newRegion(nodes: readonly PlacedNode[], chosen: number[], node: PlacedNode): boolean {
  return !chosen.some((index) => nodes[index].region === node.region);
}

function newHost(nodes: readonly PlacedNode[], chosen: number[], node: PlacedNode): boolean {
  return !chosen.some((index) => nodes[index].host === node.host);
}

function anyNode(): boolean {
  return true;
}
