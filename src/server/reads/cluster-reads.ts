/**
 * GET and HEAD of keys on a node of a cluster. `consistency=one` is answered from the own copy where there is
 * one, by the same code as on a single node (which this one may still be); everything else asks the cluster
 * first and answers when it knows.
 */

import type { ClusterAccess, Consistency, ReadAnswer } from "../../cluster/node/access.ts";
import { isInline, isRemote, type RemoteValue, type StoredValue } from "../../cluster/wire/values.ts";
import { endOf } from "../../format/end.ts";
import { END_BYTES } from "../../format/offsets.ts";
import type { Ballot } from "../../format/record.ts";
import { ballotMillis, etagScratch, writeEtag } from "../../format/version.ts";
import { consistencyOf, queryProblem } from "../../rules/query.ts";
import { itself, type Shape } from "../../shards/vault/as-it-came.ts";
import type { Found, ValueReader } from "../../shards/vault/vault.ts";
import { copyOf, sameBytes } from "../../util/bytes.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { VARY } from "../access/gate.ts";
import { type FrontContext, targetOf } from "../http/context.ts";
import type { Handler, Req, Res } from "../http/http.ts";
import { type ReadHeaders, readHeaders } from "../http/read-headers.ts";
import { type ErrorOptions, type Header, sendError } from "../http/reply.ts";
import { TARGET_KEY } from "../http/target.ts";
import { Waiting } from "../later/waiting.ts";
import { GET, HEAD } from "../status/meter.ts";
import { findPatiently } from "./cold-reads.ts";
import { Download } from "./download.ts";
import {
  type AnswerOther,
  type AnswerQuery,
  answerFound,
  answerHead,
  answerNoKey,
  meetsConditions,
  rangeHead,
  rangeOf,
} from "./reads.ts";
import { LOOKS_MAX, OUT_OF_REACH, openRemote } from "./remote-reader.ts";

export function createClusterReads(
  context: FrontContext,
  local: { get: Handler; head: Handler },
  answerOther: AnswerOther,
  answerQuery: AnswerQuery,
): { get: Handler; head: Handler } {
  const handle = (res: Res, req: Req, head: boolean): void => {
    const { cluster, key, meter } = context;
    if (cluster === null) {
      (head ? local.head : local.get)(res, req);
      return;
    }
    const verb = head ? HEAD : GET;
    const target = targetOf(context, req);
    if (target !== TARGET_KEY) {
      answerNoKey(context, res, req, target, head, answerOther, answerQuery);
      return;
    }
    const query = req.getQuery() ?? "";
    if (query !== "" && answerQuery(res, req, query, target, head)) return;
    const problem = query === "" ? null : queryProblem(query);
    if (problem !== null) {
      meter.count(verb, sendError(res, "bad_request", { detail: problem, head }));
      return;
    }
    const consistency = query === "" ? cluster.consistency : (consistencyOf(query) ?? cluster.consistency);
    // Not found here is no proof that it is not there: then the others are asked.
    if (
      consistency === "one" &&
      cluster.mayAnswer(key) &&
      context.vault.findResident(key).state === "found"
    ) {
      (head ? local.head : local.get)(res, req);
      return;
    }
    const headers = readHeaders(req, head);
    new ClusterRead(context, cluster, res, key.bytes.slice(0, key.length), headers, head).begin(consistency);
  };
  return {
    get: (res, req) => handle(res, req, false),
    head: (res, req) => handle(res, req, true),
  };
}

/** One read, from its headers to its answer. */
export class ClusterRead {
  private readonly context: FrontContext;
  private readonly cluster: ClusterAccess;
  private readonly res: Res;
  private readonly key: Uint8Array;
  private readonly headers: ReadHeaders;
  private readonly head: boolean;
  private readonly shape: Shape;
  private readonly startMs = performance.now();
  private readonly waiting: Waiting;
  private looks = 0;

  constructor(
    context: FrontContext,
    cluster: ClusterAccess,
    res: Res,
    key: Uint8Array,
    headers: ReadHeaders,
    head: boolean,
    shape = itself,
  ) {
    this.context = context;
    this.cluster = cluster;
    this.res = res;
    this.key = key;
    this.headers = headers;
    this.head = head;
    this.shape = shape;
    this.waiting = new Waiting(context, res, head ? HEAD : GET, () => {});
  }

  begin(consistency: Consistency): void {
    this.waiting.begin();
    this.ask(consistency);
  }

  private ask(consistency: Consistency): void {
    if (!this.waiting.isOpen) return;
    this.looks++;
    this.cluster.read(this.key, consistency, (answer) =>
      this.waiting.attempt(() => this.answer(answer, consistency)),
    );
  }

  /** False: nothing is sent yet. */
  private answer(answer: ReadAnswer, consistency: Consistency): boolean {
    if (answer.state === "unavailable") {
      const detail = "too few replicas can be reached to know; try again";
      return this.refuse("no_quorum", { detail });
    }
    const origin = originHeaders(this.cluster, answer.replicas);
    if (answer.state === "absent")
      return this.refuse("not_found", { headers: this.context.varies ? [...VARY, ...origin] : origin });
    const { value, ballot } = answer;
    const known = this.shape(new KnownValue(value, ballot));
    if (!isRemote(value)) return this.send(known, origin);
    if (!this.cluster.isHere(value)) return this.answerRemote(known, value, origin, consistency);
    return this.answerHere(known, origin, consistency, 1);
  }

  /**
   * A large value that lies here, but for its bytes. The disk may have to be asked for what is said of it.
   */
  private answerHere(
    known: Found,
    origin: readonly Header[],
    consistency: Consistency,
    reads: number,
  ): boolean {
    const { vault } = this.context;
    const found = findPatiently(vault, { bytes: this.key, length: this.key.length }, reads);
    if (found.state === "cold") {
      vault.warm(() => this.waiting.attempt(() => this.answerHere(known, origin, consistency, reads + 1)));
      return false;
    }
    // Whether it has ended says the cluster.
    if (found.state === "ended") found.state = "found";
    const isIt = found.state === "found" && sameBytes(found.etag, known.etag);
    if (isIt) return this.send(this.shape(found), origin);
    // Replaced since the cluster answered.
    return this.again(consistency);
  }

  private again(consistency: Consistency): boolean {
    if (this.looks >= LOOKS_MAX) return this.refuse("unavailable", { detail: OUT_OF_REACH });
    setImmediate(() => this.ask(consistency));
    return false;
  }

  private send(found: Found, origin: readonly Header[]): true {
    const { context, res, head, headers } = this;
    this.took();
    if (head) answerHead(context, res, found, headers, origin);
    else answerFound(context, res, found, headers, origin);
    return true;
  }

  /** A large value that lies elsewhere. */
  private answerRemote(
    found: Found,
    value: RemoteValue,
    origin: readonly Header[],
    consistency: Consistency,
  ): boolean {
    const { context, cluster, res, headers } = this;
    if (this.head) return this.send(found, origin);
    const part = meetsConditions(context, res, found, headers, false)
      ? rangeOf(context, res, found, headers)
      : null;
    if (part === null) {
      this.took();
      return true;
    }
    const { start, end } = part;
    void openRemote({ cluster, log: context.log }, this.key, value, found, part).then((reader) => {
      if (reader === null) {
        this.waiting.attempt(() => this.again(consistency));
        return;
      }
      if (!this.waiting.isOpen) reader.close();
      this.waiting.resume(() => {
        this.took();
        rangeHead(context, res, found, part, origin);
        new Download(context, res, reader, reader.read(start), start, end, (complete) => {
          if (complete) context.meter.count(GET, 200);
          else context.meter.countAborted(GET);
        }).begin();
      });
    });
    return false;
  }

  private refuse(code: ErrorCode, options: ErrorOptions): true {
    const { head } = this;
    this.took();
    this.context.meter.count(head ? HEAD : GET, sendError(this.res, code, { ...options, head }));
    return true;
  }

  private took(): void {
    this.context.meter.readTook(performance.now() - this.startMs);
  }
}

/** How many replicas hold what is answered, and where the answer comes from. */
function originHeaders(cluster: ClusterAccess, replicas: number): readonly Header[] {
  return [
    ["X-Minivault-Replicas", String(replicas)],
    ["X-Minivault-Region", cluster.region],
  ];
}

/**
 * A value whose bytes came with the answer (or, of a large one, everything but its bytes), in the form of
 * what the vault finds.
 */
export class KnownValue implements Found {
  readonly state = "found";
  readonly json: boolean;
  readonly contentType: string;
  readonly trailer: Uint8Array;
  readonly isBare: boolean;
  readonly end: number;
  readonly valueBytes: number;
  readonly versionMs: number;
  readonly etag = etagScratch();
  private readonly value: StoredValue;

  constructor(value: StoredValue, ballot: Ballot) {
    const { clockLow, clockHigh, node, incarnation } = ballot;
    this.value = value;
    this.versionMs = ballotMillis(ballot);
    this.json = value.json;
    this.contentType = value.json ? "application/json" : value.contentType;
    this.trailer = value.trailer;
    this.end = endOf(value.trailer);
    this.isBare = value.trailer.length === (this.end === 0 ? 0 : END_BYTES);
    this.valueBytes = value.valueBytes;
    writeEtag(this.etag, clockLow, clockHigh, node, incarnation);
  }

  view(start = 0, end = this.valueBytes): Uint8Array {
    if (!isInline(this.value)) throw new Error("the value is not at hand");
    return this.value.bytes.subarray(start, end);
  }

  copy(): Uint8Array {
    return copyOf(this.view());
  }

  open(): ValueReader {
    const bytes = this.view();
    return { valueBytes: bytes.length, read: (offset) => bytes.subarray(offset), close: () => {} };
  }
}
