/**
 * GET and HEAD of keys on a node of a cluster. `consistency=one` is answered from the own copy where there is one, by the same code as on a
 * single node (which this one may still be); everything else asks the cluster first and answers when it knows.
 */
import type { ClusterAccess, Consistency, ReadAnswer, RemoteStream } from "../cluster/access.ts";
import { isInline, isRemote, type RemoteValue, type StoredValue } from "../cluster/values.ts";
import type { Ballot } from "../format/record.ts";
import { etagScratch, writeEtag } from "../format/version.ts";
import type { Found, KeyBytes, ValueReader } from "../shards/vault.ts";
import type { ReadHeaders } from "./cold-reads.ts";
import type { FrontContext } from "./context.ts";
import type { Handler, Req, Res } from "./http.ts";
import { type AnswerOther, answerHead, meetsConditions, rangeHead, rangeOf, sendFound } from "./keys.ts";
import { RemoteDownload } from "./remote-download.ts";
import { type Header, sendError } from "./reply.ts";
import { GET, HEAD } from "./stats.ts";
import { consistencyOf, parseTarget, queryProblem, TARGET_KEY } from "./target.ts";

/** A large value that is replaced just when it is to be sent is looked up again so many times. */
const REPLACED_MAX = 3;

export function createClusterReads(
  context: FrontContext,
  local: { get: Handler; head: Handler },
  answerOther: AnswerOther,
): { get: Handler; head: Handler } {
  const handle = (res: Res, req: Req, head: boolean): void => {
    const { cluster, key, meter } = context;
    if (cluster === null) {
      (head ? local.head : local.get)(res, req);
      return;
    }
    const verb = head ? HEAD : GET;
    const target = parseTarget(req.getUrl(), key);
    if (target !== TARGET_KEY) {
      meter.count(verb, answerOther(res, target, head));
      return;
    }
    const query = req.getQuery() ?? "";
    const problem = query === "" ? null : queryProblem(query);
    if (problem !== null) {
      meter.count(verb, sendError(res, "bad_request", { detail: problem, head }));
      return;
    }
    const consistency = query === "" ? cluster.consistency : (consistencyOf(query) ?? cluster.consistency);
    // Not found here is no proof that it is not there: then the others are asked.
    if (consistency === "one" && cluster.mayAnswer(key) && context.vault.find(key).state === "found") {
      (head ? local.head : local.get)(res, req);
      return;
    }
    const headers: ReadHeaders = {
      ifMatch: req.getHeader("if-match"),
      ifNoneMatch: req.getHeader("if-none-match"),
      range: head ? "" : req.getHeader("range"),
      ifRange: head ? "" : req.getHeader("if-range"),
    };
    new ClusterRead(context, cluster, res, key.bytes.slice(0, key.length), headers, head).begin(consistency);
  };
  return {
    get: (res, req) => handle(res, req, false),
    head: (res, req) => handle(res, req, true),
  };
}

/** One read, from its headers to its answer. */
class ClusterRead {
  private readonly context: FrontContext;
  private readonly cluster: ClusterAccess;
  private readonly res: Res;
  private readonly key: Uint8Array;
  private readonly headers: ReadHeaders;
  private readonly head: boolean;
  private readonly startMs = performance.now();
  private open = true;
  private replaced = 0;

  constructor(
    context: FrontContext,
    cluster: ClusterAccess,
    res: Res,
    key: Uint8Array,
    headers: ReadHeaders,
    head: boolean,
  ) {
    this.context = context;
    this.cluster = cluster;
    this.res = res;
    this.key = key;
    this.headers = headers;
    this.head = head;
  }

  begin(consistency: Consistency): void {
    this.context.inFlight.enter();
    this.res.onAborted(() => {
      if (!this.open) return;
      this.open = false;
      this.context.meter.countAborted(this.verb);
      this.context.inFlight.leave();
    });
    this.ask(consistency);
  }

  private get verb(): number {
    return this.head ? HEAD : GET;
  }

  private ask(consistency: Consistency): void {
    this.cluster.read(this.key, consistency, (answer) => {
      if (!this.open) return;
      try {
        this.res.cork(() => this.answer(answer, consistency));
      } catch (error) {
        this.context.log.error({ error: String(error) }, "an answer could not be sent");
      }
    });
  }

  private answer(answer: ReadAnswer, consistency: Consistency): void {
    const { context, head } = this;
    if (answer.state === "unavailable") {
      const detail = "too few replicas can be reached to know; try again";
      this.done(sendError(this.res, "no_quorum", { detail, head }));
      return;
    }
    const origin = originHeaders(this.cluster, answer.replicas);
    if (answer.state === "absent") {
      this.done(sendError(this.res, "not_found", { head, headers: origin }));
      return;
    }
    const { value, ballot } = answer;
    let found: Found;
    if (isRemote(value)) {
      if (!this.cluster.isHere(value)) {
        this.answerRemote(new KnownValue(value, ballot), value, origin);
        return;
      }
      found = context.vault.find(this.keyBytes());
      const expected = new KnownValue(value, ballot);
      if (found.state !== "found" || !sameBytes(found.etag, expected.etag)) {
        // Replaced since the cluster answered.
        if (++this.replaced > REPLACED_MAX) this.done(sendError(this.res, "unavailable", { head }));
        else setImmediate(() => this.open && this.ask(consistency));
        return;
      }
    } else found = new KnownValue(value, ballot);
    const { ifMatch, ifNoneMatch, range, ifRange } = this.headers;
    this.leave();
    if (head) answerHead(context, this.res, found, ifMatch, ifNoneMatch, origin);
    else if (meetsConditions(context, this.res, found, ifMatch, ifNoneMatch, false))
      sendFound(context, this.res, found, range, ifRange, origin);
  }

  /** A large value that lies elsewhere. */
  private answerRemote(found: Found, value: RemoteValue, origin: readonly Header[]): void {
    const { context, head, res } = this;
    const { ifMatch, ifNoneMatch, range, ifRange } = this.headers;
    if (head) {
      this.leave();
      answerHead(context, res, found, ifMatch, ifNoneMatch, origin);
      return;
    }
    if (!meetsConditions(context, res, found, ifMatch, ifNoneMatch, false)) {
      this.leave();
      return;
    }
    const part = rangeOf(context, res, found, range, ifRange);
    if (part === null) {
      this.leave();
      return;
    }
    this.cluster.open(this.key, value, part.start, part.end).then(
      (stream: RemoteStream) => {
        if (!this.open) {
          stream.destroy();
          return;
        }
        this.leave();
        res.cork(() => {
          rangeHead(res, found, part, origin);
          new RemoteDownload(context, res, stream, part.end - part.start).begin();
        });
      },
      (error: Error) => {
        context.log.info({ error: error.message }, "a value on another node could not be read");
        if (this.open) res.cork(() => this.done(sendError(res, "unavailable", { detail: error.message })));
      },
    );
  }

  private keyBytes(): KeyBytes {
    return { bytes: this.key, length: this.key.length };
  }

  private done(status: number): void {
    this.context.meter.count(this.verb, status);
    this.leave();
  }

  /** What follows answers the request by itself. */
  private leave(): void {
    this.open = false;
    this.context.meter.readTook(performance.now() - this.startMs);
    this.context.inFlight.leave();
  }
}

/** How many replicas hold what is answered, and where the answer comes from. */
export function originHeaders(cluster: ClusterAccess, replicas: number): readonly Header[] {
  return [
    ["X-Minivault-Replicas", String(replicas)],
    ["X-Minivault-Region", cluster.region],
  ];
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return false;
  return true;
}

/** A value whose bytes came with the answer (or, of a large one, everything but its bytes), in the form of what the vault finds. */
class KnownValue implements Found {
  readonly state = "found";
  readonly json: boolean;
  readonly contentType: string;
  readonly valueBytes: number;
  readonly etag = etagScratch();
  private readonly value: StoredValue;

  constructor(value: StoredValue, { clockLow, clockHigh, node, incarnation }: Ballot) {
    this.value = value;
    this.json = value.json;
    this.contentType = value.json ? "application/json" : value.contentType;
    this.valueBytes = value.valueBytes;
    writeEtag(this.etag, clockLow, clockHigh, node, incarnation);
  }

  view(): Uint8Array {
    if (!isInline(this.value)) throw new Error("the value is not at hand");
    return this.value.bytes;
  }

  open(): ValueReader {
    const bytes = this.view();
    return { valueBytes: bytes.length, read: (offset) => bytes.subarray(offset), close: () => {} };
  }
}
