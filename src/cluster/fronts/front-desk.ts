/**
 * The node's side of its other front threads: tells them of the layout and of the node, and does for them
 * what only the node can. What they are told may be late, as it may be on the way to another node: they are
 * coordinators like those of other nodes, and replicas judge what they send by what holds then.
 */
import type { Membership } from "../membership/membership.ts";
import type { Repair } from "../repair/repair.ts";
import type { FrontWord, Home, HomeFigures, HomeNews, HomeState } from "./messages.ts";

/** How often it is looked whether the node has changed; a layout is told at once. */
const LOOK_MS = 100;
/** How often the figures are told. */
const FIGURES_MS = 1000;

export interface FrontDeskSetup {
  membership: Membership;
  repair: Pick<Repair, "missed" | "health" | "stats">;
  /** Somebody has a layout of this epoch. */
  seekLayout: (epoch: number) => void;
}

export class FrontDesk {
  private readonly setup: FrontDeskSetup;
  private readonly fronts: ((news: HomeNews) => void)[] = [];
  private readonly timers: NodeJS.Timeout[];
  private told: HomeState;

  constructor(setup: FrontDeskSetup) {
    this.setup = setup;
    this.told = this.state();
    setup.membership.onLayout(() => this.look());
    this.timers = [
      setInterval(() => this.look(), LOOK_MS),
      setInterval(() => this.tell({ kind: "figures", figures: this.figures() }), FIGURES_MS),
    ];
    for (const timer of this.timers) timer.unref();
  }

  /** What a front begins with. */
  home(): Home {
    const { url, number, incarnation } = this.setup.membership;
    return { url, number, incarnation, state: this.told, figures: this.figures() };
  }

  /**
   * A front is there: `tell` is called with all news from now on. It begins with what holds now, since `home`
   * may have been asked for long before.
   */
  join(tell: (news: HomeNews) => void): void {
    this.fronts.push(tell);
    tell({ kind: "home", state: this.told });
  }

  /** A front says something; answers go to it alone. */
  hear(word: FrontWord, answer: (news: HomeNews) => void): void {
    const { membership, repair, seekLayout } = this.setup;
    if (word.kind === "missed") repair.missed(word.key, word.proposal, word.nodes);
    else if (word.kind === "newer") seekLayout(word.epoch);
    else if (word.kind === "refused") membership.wasRefused(word.life, word.reason);
    else answer({ kind: "judged", life: word.life, counts: membership.heardBack(word.life) });
  }

  close(): void {
    for (const timer of this.timers) clearInterval(timer);
  }

  private look(): void {
    const state = this.state();
    const names = Object.keys(state) as (keyof HomeState)[];
    if (names.every((name) => state[name] === this.told[name])) return;
    this.told = state;
    this.tell({ kind: "home", state });
  }

  private tell(news: HomeNews): void {
    for (const tell of this.fronts) tell(news);
  }

  private state(): HomeState {
    const { membership } = this.setup;
    const { layout, voting, isProven, lifeAsText: life, unready } = membership;
    return { layout, voting, isProven, life, unready, nodesUp: membership.nodesUp() };
  }

  private figures(): HomeFigures {
    const { repair } = this.setup;
    return { health: repair.health(), stats: repair.stats() };
  }
}
