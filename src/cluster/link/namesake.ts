/**
 * Whether somebody else answers under this node's public URL. A worker that was given the URL of another one
 * would be taken for that one with a new disk: it would be told to synchronise, and the one that is there
 * would be fenced as the earlier of two. So whoever is no member of a cluster yet looks first, and waits
 * while another one is there. Where nobody answers nothing is known, as behind a proxy that does not lead
 * back: then it goes on.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Recurring } from "../../util/recurring.ts";
import { askOnce } from "./ask-once.ts";
import type { NodeHttpOptions } from "./node-http.ts";
import { PEER_LAYOUT_PATH } from "./paths.ts";

const ASK_MS = 2000;
const ASK_AGAIN_MS = 1000;

export interface NamesakeSetup extends Pick<NodeHttpOptions, "url" | "signer" | "tls"> {
  /** What this node says that its store is. */
  store: string;
  log: { warn(fields: object, text: string): void; info(fields: object, text: string): void };
}

export class Namesake {
  private readonly setup: NamesakeSetup;
  private readonly trouble: Recurring;
  private readonly closing = new AbortController();

  constructor(setup: NamesakeSetup) {
    const { url, log } = setup;
    this.setup = setup;
    this.trouble = new Recurring(
      (reason) => log.warn({ url }, reason),
      () => log.info({ url }, "nobody else answers under the public URL any more"),
    );
  }

  /** Who keeps this node from coming under its URL, for a person; null: nobody. */
  get problem(): string | null {
    return this.trouble.reason;
  }

  /** Calls `go` once nobody else answers under the URL. */
  async whenGone(go: () => void): Promise<void> {
    while (!this.closing.signal.aborted) {
      const other = await this.storeThere();
      if (this.closing.signal.aborted) return;
      if (other === null || other === this.setup.store) {
        this.trouble.passed();
        go();
        return;
      }
      this.trouble.failed(
        `another worker answers under ${this.setup.url}, the -public-url of this one, which waits until it is gone: each worker has a URL of its own`,
      );
      await sleep(ASK_AGAIN_MS, null, { signal: this.closing.signal }).catch(() => null);
    }
  }

  /** Whether one with this node's own store answers there. */
  async isOwn(): Promise<boolean> {
    return (await this.storeThere()) === this.setup.store;
  }

  close(): void {
    this.closing.abort();
  }

  /** The store of whoever answers there, and says that the URL is its own; null: nobody is known to. */
  private async storeThere(): Promise<string | null> {
    const { url } = this.setup;
    try {
      const { status, body } = await askOnce(this.setup, PEER_LAYOUT_PATH, ASK_MS);
      const document = status === 200 ? JSON.parse(body.toString()) : null;
      return document?.url === url && typeof document.store === "string" ? document.store : null;
    } catch {
      return null;
    }
  }
}
