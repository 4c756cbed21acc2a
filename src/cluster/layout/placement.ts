/**
 * Which nodes hold a partition. Pure and deterministic: every node computes the same sets from the same list
 * of nodes.
 *
 * Rendezvous hashing (Thaler and Ravishankar, 1998): each node has a weight for each partition, by its id,
 * and the highest weights win (weights.ts). A node that comes or goes changes only the partitions that it
 * wins or held. Copies go to different regions first, then to different hosts, then anywhere: best node of
 * all, then the best of each region not used yet, then the best of each host not used yet, then the best of
 * what is left.
 *
 * `loadHash` must have finished in this thread (long node ids are hashed by WebAssembly).
 */
import { weigherOf } from "./weights.ts";

/** What placement looks at. */
export interface PlacedNode {
  readonly id: string;
  readonly region: string;
  readonly host: string;
}

/**
 * Most nodes: each has a client with timers and connections in every other, and each layout is placed by
 * every node at once (docs/scale.md has how long that takes).
 */
export const NODES_MAX = 1024;

const NONE = -1;

/**
 * Chooses up to `replicas` nodes for each partition, in order of rank.
 * @returns for each partition, indexes into `nodes`
 */
export function placePartitions(
  nodes: readonly PlacedNode[],
  partitions: number,
  replicas: number,
): number[][] {
  const ids = nodes.map(({ id }) => id);
  const weigh = weigherOf(ids, partitions);
  const chooser = new Chooser(nodes, Math.min(replicas, nodes.length));
  return Array.from({ length: partitions }, (_, partition) => chooser.choose(weigh(partition)));
}

class Chooser {
  private readonly wanted: number;
  private readonly regions: Int32Array;
  private readonly hosts: Int32Array;
  /** By region: its best node. */
  private readonly best: Int32Array;
  private readonly isUsed: Uint8Array;

  constructor(nodes: readonly PlacedNode[], wanted: number) {
    this.wanted = wanted;
    this.regions = numbered(nodes.map(({ region }) => region));
    this.hosts = numbered(nodes.map(({ host }) => host));
    this.best = new Int32Array(Math.max(NONE, ...this.regions) + 1);
    this.isUsed = new Uint8Array(nodes.length);
  }

  /** @param weights no two are the same */
  choose(weights: Float64Array): number[] {
    const chosen: number[] = [];
    this.chooseRegions(weights, chosen);
    for (const apart of [this.hosts, null])
      while (chosen.length < this.wanted) {
        const index = this.bestOf(weights, chosen, apart);
        if (index === NONE) break;
        chosen.push(index);
      }
    return chosen;
  }

  /** The best node of each region, the best of them first. */
  private chooseRegions(weights: Float64Array, chosen: number[]): void {
    const { best, regions, wanted } = this;
    best.fill(NONE);
    for (let index = 0; index < regions.length; index++) {
      const rival = best[regions[index]];
      if (rival === NONE || weights[index] > weights[rival]) best[regions[index]] = index;
    }
    while (chosen.length < Math.min(wanted, best.length)) {
      let top = NONE;
      for (let region = 0; region < best.length; region++)
        if (best[region] !== NONE && (top === NONE || weights[best[region]] > weights[best[top]]))
          top = region;
      chosen.push(best[top]);
      best[top] = NONE;
    }
  }

  /** The best one left, of those of a host that is not used yet; null: of all. */
  private bestOf(weights: Float64Array, chosen: readonly number[], hosts: Int32Array | null): number {
    const { isUsed } = this;
    for (const index of chosen) isUsed[hosts === null ? index : hosts[index]] = 1;
    let top = NONE;
    for (let index = 0; index < weights.length; index++)
      if (
        isUsed[hosts === null ? index : hosts[index]] === 0 &&
        (top === NONE || weights[index] > weights[top])
      )
        top = index;
    for (const index of chosen) isUsed[hosts === null ? index : hosts[index]] = 0;
    return top;
  }
}

/** Names as numbers from 0 on, the same for the same. */
function numbered(names: readonly string[]): Int32Array {
  const numbers = new Map<string, number>();
  return Int32Array.from(names, (name) => {
    const number = numbers.get(name) ?? numbers.size;
    numbers.set(name, number);
    return number;
  });
}
