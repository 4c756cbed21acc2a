/** What those who wait for changes are given. */
import type { Token } from "../../auth/tokens.ts";
import type { FrontContext } from "../http/context.ts";
import type { FanOut, FeedSource } from "./fan-out.ts";

/** Somebody who waits for changes. */
export interface Watcher {
  /** Whose token it came with. */
  readonly caller: Token;
  /** Ends it in order: the node stops, or its token is not good any more. */
  stop(): void;
}

export interface WatcherSetup {
  readonly context: FrontContext;
  readonly source: FeedSource;
  readonly fanOut: FanOut;
  /** Called once, when it is over. */
  readonly done: (watcher: Watcher) => void;
}

/** The keys that are asked for. */
export interface Scoped {
  readonly prefix: Uint8Array;
  /** What the caller may see of them, as prefixes; the prefix itself: all. */
  readonly scopes: readonly Uint8Array[];
}
