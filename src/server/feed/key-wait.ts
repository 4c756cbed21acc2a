/**
 * `GET /key?wait=30s`: answers as a GET does, once the key holds something else than the client knows (by
 * If-None-Match: a version, `*` for any, none for nothing); 304 when the time is over.
 *
 *   place ► look ► differs: answer; else wait for a change of the key from that place on ► look ► …
 */
import type { Token } from "../../auth/tokens.ts";
import type { ClusterAccess } from "../../cluster/node/access.ts";
import { etagOf } from "../../format/version.ts";
import { noneMatchHolds } from "../../rules/conditions.ts";
import type { WriteDone } from "../../shards/arena/write.ts";
import type { FeedAnswer, FeedQuestion, FeedRefusal } from "../../shards/feed/messages.ts";
import type { Found } from "../../shards/vault/vault.ts";
import { nameOf } from "../../util/bytes.ts";
import type { ErrorCode } from "../../util/errors.ts";
import type { Req, Res } from "../http/http.ts";
import { type ReadHeaders, readHeaders } from "../http/read-headers.ts";
import { sendError, statusLine } from "../http/reply.ts";
import { guarded } from "../later/failure.ts";
import { Waiting } from "../later/waiting.ts";
import { ClusterRead, KnownValue } from "../reads/cluster-reads.ts";
import { findPatiently } from "../reads/cold-reads.ts";
import { answerFound, sendMissing } from "../reads/reads.ts";
import { beginNotModified } from "../reads/value-head.ts";
import { GET } from "../status/meter.ts";
import type { Watcher, WatcherSetup } from "./source.ts";

/** What a cluster says of a key that it does not have. */
const ABSENT = { state: "absent" } as Found;
/** One change is enough to look again. */
const BYTES_MAX = 1;

export class KeyWait implements Watcher {
  readonly caller: Token;
  private readonly setup: WatcherSetup;
  private readonly res: Res;
  private readonly key: { bytes: Uint8Array; length: number };
  private readonly headers: ReadHeaders;
  private readonly waiting: Waiting;
  private readonly untilMs: number;
  private place: string | null = null;
  private cursor = -1;
  private reads = 0;
  private asked = -1;

  constructor(setup: WatcherSetup, res: Res, req: Req, key: Uint8Array, waitMs: number) {
    const { context } = setup;
    this.caller = context.caller;
    this.setup = setup;
    this.res = res;
    this.key = { bytes: key, length: key.length };
    this.headers = readHeaders(req, false);
    this.untilMs = performance.now() + waitMs;
    this.waiting = new Waiting(context, res, GET, () => this.finish());
    this.waiting.begin();
    this.wait(0);
  }

  private wait(waitMs: number): void {
    const { place: since, cursor } = this;
    const question: FeedQuestion = {
      prefixes: [nameOf(this.key.bytes)],
      exact: true,
      values: false,
      form: "events",
      since,
      cursor,
      catchesUp: false,
      waitMs,
      bytesMax: BYTES_MAX,
      countMax: 1,
    };
    this.asked = this.setup.source.ask(question, this.told);
  }

  private readonly told = (answer: FeedAnswer | FeedRefusal): void => {
    this.asked = -1;
    if (!this.waiting.isOpen) return;
    if (answer.kind === "refused") {
      this.refuse(answer.code, answer.detail);
      return;
    }
    this.place = answer.place;
    this.cursor = answer.cursor;
    this.reads = 0;
    this.look();
  };

  private readonly look = (): void => {
    if (this.waiting.isOpen) guarded(this.setup.context, this.lookNow, this.refuse);
  };

  private readonly lookNow = (): void => {
    const { context } = this.setup;
    if (context.cluster !== null) {
      this.ask(context.cluster);
      return;
    }
    const found = findPatiently(context.vault, this.key, this.reads++);
    if (found.state === "cold") {
      context.vault.warm(this.look);
      return;
    }
    if (found.state === "ended") {
      if (!context.vault.end(this.key, this.ended)) this.refuse("overloaded", "");
      return;
    }
    if (this.differs(found)) {
      this.resume(() => {
        if (found.state === "found") answerFound(context, this.res, found, this.headers);
        else sendMissing(context, this.res, GET, found.state);
      });
      return;
    }
    this.goOn(found);
  };

  /** It is written down that the value has ended, or cannot be. */
  private readonly ended: WriteDone = ({ error, detail }) => {
    if (error === null) this.look();
    else if (this.waiting.isOpen) this.refuse(error, detail);
  };

  private readonly refuse = (code: ErrorCode, detail: string): void => {
    this.resume(() => this.count(sendError(this.res, code, { detail })));
  };

  /** The key is as it was. */
  private goOn(found: Found): void {
    const leftMs = this.untilMs - performance.now();
    if (leftMs > 0) this.wait(leftMs);
    else this.resume(() => this.unchanged(found));
  }

  /** Looks in a cluster; what differs is answered as by any read. */
  private ask(cluster: ClusterAccess): void {
    cluster.read(this.key.bytes, "quorum", (answer) => {
      if (!this.waiting.isOpen) return;
      const found = answer.state === "found" ? new KnownValue(answer.value, answer.ballot) : ABSENT;
      if (answer.state !== "unavailable" && !this.differs(found)) this.goOn(found);
      else
        this.resume(() => {
          const { context } = this.setup;
          new ClusterRead(context, cluster, this.res, this.key.bytes, this.headers, false).begin("quorum");
        });
    });
  }

  /** Whether the key holds something else than the client knows. */
  private differs(found: Found): boolean {
    const { ifNoneMatch, problem } = this.headers;
    if (problem !== null || found.state === "damaged") return true;
    if (found.state !== "found") return ifNoneMatch !== "";
    return ifNoneMatch === "" || noneMatchHolds(ifNoneMatch, etagOf(found.etag));
  }

  /** The time is over. */
  private unchanged(found: Found): void {
    const { context } = this.setup;
    const { varies } = context;
    if (found.state === "found") beginNotModified(this.res, found, context);
    else
      this.res.writeStatus(
        `${statusLine(304)}\r\nCache-Control: no-cache${varies ? "\r\nVary: Authorization" : ""}`,
      );
    this.res.endWithoutBody();
    this.count(304);
  }

  private count(status: number): void {
    this.setup.context.meter.count(GET, status);
  }

  private resume(answer: () => void): void {
    this.waiting.resume(answer);
    this.finish();
  }

  stop(): void {
    if (this.waiting.isOpen) this.resume(() => this.count(sendError(this.res, "stopping")));
  }

  private finish(): void {
    if (this.asked >= 0) this.setup.source.cancel(this.asked);
    this.asked = -1;
    this.setup.done(this);
  }
}
