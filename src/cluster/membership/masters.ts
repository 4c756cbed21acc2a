/** The masters of a worker, in order: the first one makes the layouts, the others stand by. */
import { setTimeout as sleep } from "node:timers/promises";
import { MasterLink, type MasterLinkSetup } from "./master-link.ts";

/** A master that does not answer is not waited for longer, before another one takes its place. */
const HANDOVER_MS_MAX = 20_000;

export class Masters {
  private readonly setup: Omit<MasterLinkSetup, "url">;
  private readonly links: MasterLink[];

  constructor(urls: readonly string[], setup: Omit<MasterLinkSetup, "url">) {
    this.setup = setup;
    this.links = urls.map((url, rank) => this.link(url, rank));
  }

  /**
   * One more. Who is not first any more has to know that before the new one hears of this worker, or both
   * might begin a cluster.
   * @param urls all of them, in order
   */
  async add(url: string, urls: readonly string[]): Promise<void> {
    const link = this.link(url, urls.indexOf(url));
    const told = this.links.map((other) => other.setRank(urls.indexOf(other.url)));
    this.links.push(link);
    if (urls[0] === url)
      await Promise.race([Promise.all(told), sleep(HANDOVER_MS_MAX, null, { ref: false })]);
    link.start();
  }

  start(): void {
    for (const link of this.links) link.start();
  }

  /** There is something new to tell: the next heartbeats go at once. */
  hurry(): void {
    for (const link of this.links) link.hurry();
  }

  get states(): { url: string; answers: boolean }[] {
    return this.links.map(({ url, isAnswering }) => ({ url, answers: isAnswering }));
  }

  /** Why those that do not answer do not, for a person; empty: nothing is known to be wrong. */
  get failures(): string {
    const failing = this.links.filter(({ failure }) => failure !== null);
    return failing.map(({ url, failure }) => `${url}: ${failure}`).join("; ");
  }

  async close(): Promise<void> {
    await Promise.all(this.links.map((link) => link.close()));
  }

  private link(url: string, rank: number): MasterLink {
    return new MasterLink({ ...this.setup, url }, rank);
  }
}
