/**
 * A layout that comes while a replica synchronises by the one before: what was learned by that one must not count for it, or the replica
 * would vote for partitions whose floors it does not know.
 */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { Placement } from "../../src/cluster/layout/groups.ts";
import type { Layout, LayoutNode } from "../../src/cluster/layout/layout.ts";
import { firstLayout, startMove } from "../../src/cluster/layout/steps.ts";
import type { PartitionList } from "../../src/cluster/replica/repair-port.ts";
import { Synchroniser } from "../../src/cluster/sync/sync.ts";
import type { PartitionDigest } from "../../src/cluster/wire/repair-wire.ts";
import type { Ballot } from "../../src/format/record.ts";
import { loadHash } from "../../src/util/hash.ts";

before(loadHash);

const node = (name: string): LayoutNode => ({
  ...{ id: `http://${name}:1`, url: `http://${name}:1`, host: name, region: "here", state: "active" },
});
const SELF = node("d").id;
const TURNS = 200;

/** A new owner, whose peers hold nothing. */
class Bench {
  private readonly first = firstLayout(["a", "b", "c"].map(node), 3);
  placement = new Placement(this.move(1));
  /** Called before a question is answered. */
  onList: () => void = () => {};
  onDigests: () => void = () => {};
  private readonly answered = new Set([this.placement.layout.epoch]);
  readonly synchroniser: Synchroniser;

  constructor() {
    const bench = this;
    const empty = (name: string): PartitionList => ({
      ...{ node: name, keys: new Map(), floor: null, damaged: 0, busy: false },
    });
    const setup = {
      ...{ self: SELF, distance: () => 1, info: () => {}, warn: () => {} },
      pace: { turn: async () => {}, rest: async () => {} },
      dropper: { idle: async () => {}, isClear: () => true, setClear: () => {} },
      vault: { replica: { floorOf: (): Ballot | null => null } },
      membership: {
        get placement() {
          return bench.placement;
        },
        ...{ voting: true, mustSynchronise: false, setVoting: () => {}, reportProgress: () => {} },
      },
      port: {
        listHere: async () => empty(SELF),
        list: async (name: string) => {
          this.onList();
          return empty(name);
        },
        digests: async (_: string, some: readonly number[], { layout }: Placement) => {
          // By a later layout nobody answers.
          if (!this.answered.has(layout.epoch)) return new Promise<PartitionDigest[]>(() => {});
          await turn();
          this.onDigests();
          const count = some[some.length - 1] - some[0] + 1;
          return Array.from({ length: count }, () => ({ votes: true, floor: null, digest: null }));
        },
      },
    };
    this.synchroniser = new Synchroniser(setup as unknown as ConstructorParameters<typeof Synchroniser>[0]);
  }

  /** The first layout moves to one with the new owner. */
  private move(epoch: number): Layout {
    return startMove({ ...this.first, epoch }, ["a", "b", "c", "d"].map(node));
  }

  /** The move was given up, and begins anew. */
  begin(): void {
    this.placement = new Placement(this.move(this.placement.layout.epoch + 1));
    this.synchroniser.followLayout();
  }

  /** Whether it votes for none of its partitions. */
  get waits(): boolean {
    return this.placement.mustSynchronise(SELF).every((partition) => this.synchroniser.mustWait(partition));
  }
}

/** Lets go on what can. */
async function pass(): Promise<void> {
  for (let left = TURNS; left > 0; left--) await turn();
}

test("synchronisation: floors of the layout before are none of the one that has come meanwhile", async () => {
  const bench = new Bench();
  let isBegun = false;
  bench.onDigests = () => {
    if (!isBegun) bench.begin();
    isBegun = true;
  };
  await pass();
  assert.ok(isBegun && bench.waits);
});

test("synchronisation: who ends it just when another layout comes begins anew", async () => {
  const bench = new Bench();
  // A majority of the three is asked of each.
  let left = 2 * bench.placement.mustSynchronise(SELF).length;
  const begun = new Promise<void>((resolve) => {
    bench.onList = () => {
      if (--left !== 0) return;
      bench.begin();
      resolve();
    };
  });
  await begun;
  await pass();
  assert.ok(bench.waits);
  assert.equal(bench.synchroniser.isSynchronising, true);
});
