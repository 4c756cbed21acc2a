/**
 * What goes wrong in a cluster of real processes, drawn from a seed: each fault begins, lasts a while, and is undone.
 * Faults of several lanes overlap; one node is in the hands of one lane at a time, and rarely is a majority dead or paused.
 *
 * A disk is only lost, put back from an old copy, or served by a twin while all nodes vote, and once a run: a second one before the first is
 * filled again would be a loss, not a fault to live through.
 */
import { renameSync, rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../random.ts";
import { call } from "../rest/client.ts";
import { type Cluster, copyAtOneMoment, type Worker } from "./workers.ts";

export const FAULTS = ["kill", "pause", "cut", "one way", "partition", "delay", "stall", "reset"] as const;
/** A disk that is lost, put back from an old copy, or copied and served twice. */
export const DISK_FAULTS = ["wipe", "old disk", "twin"] as const;
/** The clock of one node, or of all, is stepped; for clusters whose workers' clocks can be set. */
export const CLOCK_FAULTS = ["clock", "clocks"] as const;
export type FaultName = (typeof FAULTS | typeof DISK_FAULTS | typeof CLOCK_FAULTS)[number];

const HOLD_MS_MIN = 60;
const HOLD_MS_MAX = 900;
const GAP_MS_MAX = 200;
const VOTING_MS_MAX = 500;
/** In one of so many cases a majority is taken after all. */
const MAJORITY_ONE_IN = 8;
const DELAY_MS_MAX = 80;
/** By what a clock is stepped, ahead or back. */
const CLOCK_STEPS_MS = [700, 2500, 120_000, 3_600_000, 8 * 3_600_000];
/** A twin starts like any worker; then the others hear of it. */
const TWIN_MS_MAX = 10_000;

/** Ends a fault. */
type Undo = () => Promise<void>;

export class Nemesis {
  /** How often each was done. */
  readonly count = new Map<FaultName, number>();
  private readonly cluster: Cluster;
  private readonly random: Random;
  private readonly held = new Set<Worker>();
  /** Those that were there at the start. */
  private readonly members: readonly Worker[];
  private readonly faults: readonly FaultName[];
  private usedDisk = false;
  private clocksAreHeld = false;

  constructor(cluster: Cluster, random: Random, faults: readonly FaultName[] = FAULTS) {
    this.cluster = cluster;
    this.members = [...cluster.workers];
    this.faults = faults;
    for (const name of faults) this.count.set(name, 0);
    this.random = random;
  }

  /** One fault after the other until then. */
  async run(untilMs: number): Promise<void> {
    while (performance.now() < untilMs) {
      const name = this.faults[this.random.below(this.faults.length)];
      const holdMs = HOLD_MS_MIN + this.random.below(HOLD_MS_MAX - HOLD_MS_MIN);
      const undo = await this.begin(name);
      if (undo !== null) {
        this.count.set(name, (this.count.get(name) ?? 0) + 1);
        await sleep(Math.max(0, Math.min(holdMs, untilMs - performance.now())));
        await undo();
      }
      await sleep(this.random.below(GAP_MS_MAX));
    }
  }

  /** Begins a fault; answers what ends it, or null when nothing can be done now. */
  private async begin(name: FaultName): Promise<Undo | null> {
    const { random, members } = this;
    const index = random.below(members.length);
    const node = members[index];
    const other = members[(index + 1 + random.below(members.length - 1)) % members.length];
    switch (name) {
      case "kill":
      case "pause":
      case "wipe":
      case "old disk":
      case "twin":
        return this.beginAtNode(name, node);
      case "clock":
        return this.stepClocks([node]);
      case "clocks":
        return this.stepClocks(members);
      default:
        return this.beginAtLink(name, node, other);
    }
  }

  private async beginAtNode(
    name: "kill" | "pause" | "wipe" | "old disk" | "twin",
    node: Worker,
  ): Promise<Undo | null> {
    const isMinority = 2 * (this.held.size + 1) < this.members.length;
    const mayBe = isMinority || this.random.below(MAJORITY_ONE_IN) === 0;
    const takesDisk = name === "wipe" || name === "old disk" || name === "twin";
    // With a disk that counts for nothing, only a minority may be down, whatever else.
    if (this.held.has(node) || !mayBe || (takesDisk && !isMinority)) return null;
    this.held.add(node);
    if (takesDisk && !(await this.mayUseDisk())) {
      this.held.delete(node);
      return null;
    }
    const undo = await this.doToNode(name, node);
    return async () => {
      await undo();
      this.held.delete(node);
    };
  }

  private async doToNode(name: "kill" | "pause" | "wipe" | "old disk" | "twin", node: Worker): Promise<Undo> {
    const other = `${node.data}.${name.replace(" ", "-")}`;
    switch (name) {
      case "pause":
        node.signal("SIGSTOP");
        return async () => node.signal("SIGCONT");
      case "kill":
        await node.kill();
        return () => node.start();
      case "wipe":
        await node.kill();
        rmSync(node.data, { recursive: true, force: true });
        return () => node.start();
      case "old disk":
        await copyAtOneMoment(node, other);
        return async () => {
          await node.kill();
          rmSync(node.data, { recursive: true });
          renameSync(other, node.data);
          await node.start();
        };
      case "twin": {
        await copyAtOneMoment(node, other);
        const twin = await node.startTwin(other);
        return async () => {
          // It serves, or has refused to.
          const deadline = performance.now() + TWIN_MS_MAX;
          while (twin.child.exitCode === null && !twin.output().includes("listening on")) {
            if (performance.now() > deadline) break;
            await sleep(20);
          }
          twin.child.kill("SIGKILL");
          await twin.ended;
          // The one that was there first is fenced for as long as it lives.
          await node.kill();
          await node.start();
          rmSync(other, { recursive: true, force: true });
        };
      }
    }
  }

  private stepClocks(nodes: readonly Worker[]): Undo | null {
    if (this.clocksAreHeld) return null;
    this.clocksAreHeld = true;
    const { random } = this;
    const step = CLOCK_STEPS_MS[random.below(CLOCK_STEPS_MS.length)] * (random.below(2) === 0 ? 1 : -1);
    for (const node of nodes) node.setClock(step);
    return async () => {
      for (const node of nodes) node.setClock(0);
      this.clocksAreHeld = false;
    };
  }

  private beginAtLink(
    name: "cut" | "one way" | "partition" | "delay" | "stall" | "reset",
    node: Worker,
    other: Worker,
  ): Undo {
    const { random } = this;
    const link = node.linkFrom(other);
    const back = other.linkFrom(node);
    switch (name) {
      case "cut":
      case "one way":
        link.cut(name === "cut" ? "both" : random.below(2) === 0 ? "to" : "from");
        if (name === "cut") back.cut("both");
        return async () => {
          link.heal();
          back.heal();
        };
      case "partition":
        return this.partition(node);
      case "delay":
        link.delay(1 + random.below(DELAY_MS_MAX));
        return async () => link.delay(0);
      case "stall":
        link.stall();
        return async () => link.heal();
      case "reset":
        link.reset();
        return async () => {};
    }
  }

  /** @param node is alone on its side, where no other draw makes two */
  private partition(node: Worker): Undo {
    const { members, random } = this;
    const side = new Set(members.filter(() => random.below(2) === 0));
    if (side.size === 0 || side.size === members.length) {
      side.clear();
      side.add(node);
    }
    const links = members.flatMap((a) =>
      members.filter((b) => side.has(a) !== side.has(b)).map((b) => a.linkFrom(b)),
    );
    for (const each of links) each.cut("both");
    return async () => {
      for (const each of links) each.heal();
    };
  }

  /** Once a run, and only when every node says that it votes. */
  private async mayUseDisk(): Promise<boolean> {
    if (this.usedDisk) return false;
    this.usedDisk = true;
    const answers = await Promise.all(
      this.members.map(async ({ port }) => {
        const signal = sleep(VOTING_MS_MAX).then(() => false);
        const vote = call(port, "GET", "/_stats").then(
          (reply) => reply.json().cluster?.voting === true,
          () => false,
        );
        return Promise.race([vote, signal]);
      }),
    );
    this.usedDisk = answers.every((votes) => votes);
    return this.usedDisk;
  }

  /** Ends everything that may still be wrong. */
  async heal(): Promise<void> {
    const { workers } = this.cluster;
    for (const worker of workers) {
      for (const other of workers) {
        if (other === worker) continue;
        worker.linkFrom(other).heal();
        worker.linkFrom(other).delay(0);
      }
      worker.signal("SIGCONT");
      if (CLOCK_FAULTS.some((name) => this.faults.includes(name))) worker.setClock(0);
    }
    await Promise.all(workers.filter((worker) => !worker.isRunning).map((worker) => worker.start()));
  }
}
