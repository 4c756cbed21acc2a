/**
 * A front's end of the way to the catalog thread.
 */
import type { MessagePort } from "node:worker_threads";
import { FeedClient } from "../feed/client.ts";
import type { AnswerTo, Asked, CatalogAnswer, CatalogQuestion, Refused, Told } from "./messages.ts";

/** Questions of one front that wait for their answers; more are refused. */
const QUESTIONS_MAX = 256;

const OVERLOADED: Refused = { kind: "refused", code: "overloaded", detail: "too many lists are under way" };
const GONE: Refused = {
  kind: "refused",
  code: "unavailable",
  detail: "the list of all keys has failed; restart the node, the log says why",
};
const STOPPING: Refused = { kind: "refused", code: "stopping", detail: "" };

export class CatalogClient {
  /** What has changed. Who waits for it does not hold the process. */
  readonly feed = new FeedClient((feed) => this.port.postMessage({ feed } satisfies Asked));
  private readonly port: MessagePort;
  private readonly waiting = new Map<number, (answer: CatalogAnswer) => void>();
  private next = 0;
  private refusal: Refused | null = null;

  constructor(port: MessagePort, warn: (message: string) => void) {
    this.port = port;
    port.on("message", (told: Told) => {
      if ("warning" in told) {
        warn(told.warning);
        return;
      }
      if ("feed" in told) {
        this.feed.take(told.feed);
        return;
      }
      const answered = this.waiting.get(told.id);
      this.waiting.delete(told.id);
      this.hold();
      answered?.(told.answer);
    });
    this.hold();
  }

  /** The process goes on only as long as somebody waits. */
  private hold(): void {
    if (this.waiting.size > 0) this.port.ref();
    else this.port.unref();
  }

  ask<Question extends CatalogQuestion>(question: Question): Promise<AnswerTo<Question> | Refused> {
    const refusal = this.refusal ?? (this.waiting.size >= QUESTIONS_MAX ? OVERLOADED : null);
    if (refusal !== null) return Promise.resolve(refusal);
    const id = this.next++;
    return new Promise((resolve) => {
      this.waiting.set(id, resolve as (answer: CatalogAnswer) => void);
      this.hold();
      this.port.postMessage({ id, question } satisfies Asked);
    });
  }

  /** The thread is gone. */
  fail(): void {
    this.end(GONE);
  }

  close(): void {
    this.end(STOPPING);
    this.port.close();
  }

  private end(refusal: Refused): void {
    this.refusal ??= refusal;
    this.feed.end(refusal);
    const waiting = [...this.waiting.values()];
    this.waiting.clear();
    for (const answered of waiting) answered(this.refusal);
    this.hold();
  }
}
