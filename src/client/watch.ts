/**
 * Changes as they happen, over as many connections as it takes: where one breaks off, the next begins at the
 * last place that was told, at whichever node can be reached.
 */

import { eventsOf, type ServerEvent } from "./events.ts";
import { itemOf, type RawItem } from "./items.ts";
import type { WatchEvent, WatchOptions } from "./options/options.ts";
import { sleep } from "./transport/attempt-clock.ts";
import { NetworkError, PlaceTooOldError, UnavailableError } from "./transport/errors.ts";
import { pathOf, queryOf } from "./transport/paths.ts";
import type { Answer, Requests } from "./transport/requests.ts";

/** A node says something every 5 s: when nothing comes for so long, it is gone. */
const SILENCE_MS = 20_000;
/** Between two connections of which the first has told nothing. */
const PAUSE_MS = 1000;

/** How one connection ended. */
type Ending = "broken" | "reset";

class Watch {
  private readonly requests: Requests;
  private readonly path: string;
  private readonly options: WatchOptions;
  private place: string | null;
  /** Something was told over this connection. */
  private hasTold = false;
  /** Where a connection begins without a place, something may have been missed. */
  private isFollowing = false;
  private hasFollowed = false;

  constructor(requests: Requests, prefix: string, options: WatchOptions) {
    const { values = false, initial = false } = options;
    this.requests = requests;
    this.path = `${pathOf("_kv", prefix)}${queryOf({ watch: true, values, initial })}`;
    this.options = options;
    this.place = options.since ?? null;
  }

  async *events(): AsyncGenerator<WatchEvent, void, void> {
    const { signal } = this.options;
    for (;;) {
      this.hasTold = false;
      if (this.isFollowing && this.place === null) {
        this.isFollowing = false;
        yield { event: "reset", place: null };
      }
      const ending = yield* this.connection();
      signal?.throwIfAborted();
      if (ending === "reset") {
        this.place = null;
        this.isFollowing = false;
        yield { event: "reset", place: null };
      }
      if (!this.hasTold) await sleep(PAUSE_MS, signal);
    }
  }

  /** One connection, until it ends. Throws what no other one would mend. */
  private async *connection(): AsyncGenerator<WatchEvent, Ending, void> {
    const given = this.options.signal;
    const controller = new AbortController();
    const abort = (): void => controller.abort(given?.reason);
    if (given?.aborted) abort();
    given?.addEventListener("abort", abort);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const heard = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => controller.abort(), SILENCE_MS);
    };
    try {
      const answer = await this.open(controller.signal);
      if (answer === null) return "reset";
      heard();
      for await (const event of eventsOf(answer.stream as ReadableStream<Uint8Array>, heard)) {
        const told = this.take(event);
        if (told === null) continue;
        if (told.event === "reset" && this.options.initial !== true) return "reset";
        yield told;
      }
      return "broken";
    } catch (error) {
      if (given?.aborted === true) throw given.reason;
      // Who has followed once waits for a node to come back.
      if (isBreak(error) || (this.hasFollowed && isPassing(error))) return "broken";
      throw error;
    } finally {
      clearTimeout(timer);
      given?.removeEventListener("abort", abort);
      controller.abort();
    }
  }

  /** Null: the place is too old. */
  private async open(signal: AbortSignal): Promise<Answer | null> {
    try {
      return await this.requests.send({
        ...{ method: "GET", path: this.path, streams: true, signal },
        headers: {
          Accept: "text/event-stream",
          ...(this.place === null ? {} : { "Last-Event-ID": this.place }),
        },
      });
    } catch (error) {
      if (error instanceof PlaceTooOldError) return null;
      throw error;
    }
  }

  /** What an event says; null: nothing that is told. */
  private take({ event, data, id }: ServerEvent): WatchEvent | null {
    this.place = id === null ? this.place : id || null;
    this.isFollowing = this.hasFollowed = this.hasTold = true;
    const { place } = this;
    if (event === "reset") return { event, place: null };
    if (event === "live") return { event, place };
    if (event === "progress")
      return this.options.progress === true && place !== null ? { event, place } : null;
    if (event === "put") return { event, ...itemOf(JSON.parse(data) as RawItem), place };
    if (event !== "delete" && event !== "expire") return null;
    const { key, etag } = JSON.parse(data) as RawItem;
    return { event, key, etag: `"${etag}"`, place };
  }
}

/** A stream that broke off, in whatever words. */
function isBreak(error: unknown): boolean {
  return error instanceof TypeError || (error as { name?: string } | null)?.name === "AbortError";
}

function isPassing(error: unknown): boolean {
  return error instanceof NetworkError || error instanceof UnavailableError;
}

/** Follows the keys that begin with a prefix, until the signal ends it or the loop is left. */
export function watch(
  requests: Requests,
  prefix: string,
  options: WatchOptions,
): AsyncGenerator<WatchEvent, void, void> {
  return new Watch(requests, prefix, options).events();
}
