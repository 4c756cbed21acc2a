/** A steward on a stage: workers that report, who reaches whom, and a clock, all of the test's own. */
import assert from "node:assert/strict";
import { mkdtempSync } from "node:fs";
import path from "node:path";
import { after } from "node:test";
import { Lives } from "../../src/cluster/identity/lives.ts";
import type { Candidate, Heartbeat, Tried } from "../../src/cluster/membership/messages.ts";
import type { MasterState } from "../../src/master/layout/state.ts";
import { MASTER } from "../../src/master/presence/admission.ts";
import { REGISTRY_TIMES, Registry } from "../../src/master/registry/registry.ts";
import { SETTLE_MS, STATIC_WAIT_MS, Steward } from "../../src/master/steward/steward.ts";
import { removeFolder, temporaryFolder } from "../rest/server.ts";

const folder = temporaryFolder();
after(() => removeFolder(folder));

export const urlOf = (name: string) => `http://${name}:1`;
export const storeOf = (name: string, life = 0) =>
  Buffer.from(`${name}${life}`).toString("hex").padEnd(32, "0");

export interface StewardFlags {
  removeMs: number;
  /** null: none were asked for. */
  replicas: number | null;
  partitions: number | null;
}

/** A steward with its registry, as a master that starts at `nowMs` opens them. */
export function openSteward(
  statics: readonly string[],
  disk: MasterState | null,
  { removeMs, replicas, partitions }: StewardFlags,
  { nowMs, save, warn }: { nowMs: number; save(state: MasterState): void; warn(text: string): void },
): { registry: Registry; steward: Steward } {
  const registry = new Registry(statics, REGISTRY_TIMES, (url) => steward.isMember(url));
  const steward: Steward = new Steward({
    ...{ registry, state: disk, save, staticUrls: statics, partitions },
    ...{ replicas: replicas ?? 3, isReplicasGiven: replicas !== null },
    times: { settleMs: SETTLE_MS, staticWaitMs: STATIC_WAIT_MS, removeMs },
    lives: new Lives(mkdtempSync(path.join(folder, "master-")), () => {}),
    log: { info() {}, warn: (_, text) => warn(text) },
  });
  registry.restore(nowMs, disk?.nodes ?? []);
  return { registry, steward };
}

export class Stage {
  nowMs = 0;
  /** What the last save put on disk. */
  disk: MasterState | null = null;
  isFull = false;
  readonly registry: Registry;
  readonly steward: Steward;

  constructor(statics: string[] = [], disk: MasterState | null = null, flags: Partial<StewardFlags> = {}) {
    const all = { removeMs: 60_000, replicas: null, partitions: null, ...flags };
    const { registry, steward } = openSteward(statics.map(urlOf), disk, all, {
      nowMs: 0,
      save: (state) => {
        if (this.isFull) throw new Error("no space");
        this.disk = structuredClone(state);
      },
      warn: (text) => void this.warnings.push(text),
    });
    this.registry = registry;
    this.steward = steward;
  }

  readonly warnings: string[] = [];
  /** Who cannot be reached, and by whom: "the master" or a name. */
  readonly cuts: [to: string, by: string][] = [];
  private readonly asked = new Map<string, readonly Candidate[]>();

  private isCut(url: string, by: string): boolean {
    return this.cuts.some(([to, from]) => urlOf(to) === url && from === by);
  }

  private tried(candidates: readonly Candidate[], by: string): Tried[] {
    return candidates.map((one) => ({ ...one, problem: this.isCut(one.url, by) ? "ECONNREFUSED" : null }));
  }

  hear(name: string, more: Partial<Heartbeat> = {}) {
    const voting = this.steward.isMember(urlOf(name)) && more.store === undefined;
    const heard = this.steward.hear(this.nowMs, {
      ...{ url: urlOf(name), region: name, host: name, store: storeOf(name), epoch: 0, empty: true },
      ...{ voting, rank: 0, progress: null, load: null, tried: this.tried(this.asked.get(name) ?? [], name) },
      ...more,
    });
    assert.ok(heard !== "full");
    const { candidates = [] } = heard.answer;
    this.asked.set(name, candidates);
    this.reach();
    return heard.answer;
  }

  /** The master tries whom it wants to try. */
  reach(): void {
    for (const one of this.tried(this.steward.untried(this.nowMs), MASTER)) this.steward.tried(one);
  }

  /** Lets time pass, with a heartbeat of these every second. */
  pass(ms: number, names: string[], more: Partial<Heartbeat> = {}): void {
    for (let end = this.nowMs + ms; this.nowMs < end; this.nowMs += 250) {
      // Without a layout they are eager, and what they are asked to try they tell soon.
      for (const name of names)
        if (this.epoch === 0 || this.nowMs % 1000 === 0 || (this.asked.get(name) ?? []).length > 0)
          this.hear(name, more);
      this.steward.tick(this.nowMs);
    }
  }

  /** These report that they have synchronised. */
  synchronise(...names: string[]): void {
    const epoch = this.epoch;
    for (const name of names) this.hear(name, { epoch, progress: { epoch, done: 5, total: 5 } });
    this.steward.tick(this.nowMs);
  }

  get epoch(): number {
    return this.steward.layout?.epoch ?? 0;
  }

  get nodes(): string[] {
    const nodes = this.steward.layout?.nodes ?? [];
    return nodes.map(({ region, state }) => (state === "active" ? region : `-${region}`)).sort();
  }
}

/** A stage with a stable layout of these. */
export function stableStage(...names: string[]): Stage {
  const stage = new Stage(names);
  stage.pass(1000, names);
  assert.deepEqual([stage.epoch, stage.nodes], [1, [...names].sort()]);
  return stage;
}
