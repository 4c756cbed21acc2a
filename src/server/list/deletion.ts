/**
 * `POST /_delete?prefix=…`: deletes what a list finds, and tells how far it is, a line now and then.
 */

import type { Token } from "../../auth/tokens.ts";
import type { KeyRange } from "../../engine/catalog/runs/listing.ts";
import { plainHead, type WriteResult } from "../../shards/arena/write.ts";
import { NOTHING } from "../../util/bytes.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { KEY_BYTES_MAX } from "../../util/limits.ts";
import { NO_BODY } from "../http/body-length.ts";
import type { FrontContext } from "../http/context.ts";
import type { Handler, Res } from "../http/http.ts";
import { lengthToTake, refuse } from "../http/linger.ts";
import type { Failure } from "../later/failure.ts";
import { LineAnswer, REVOKED } from "../lines/line-answer.ts";
import { POST } from "../status/meter.ts";
import { manyKeysProblem } from "../writes/many-keys.ts";
import { boundedRange, readParameters } from "./list-query.ts";
import { askOn, type ListSource, sourceOf } from "./list-source.ts";

/** Keys that are deleted at a time. */
const UNDER_WAY_MAX = 512;
/** Keys asked for at a time. */
const PAGE_KEYS = 2000;
/** A delete that the queue has no room for is tried again after so long, and so many times. */
const RETRY_MS = 20;
const RETRIES_MAX = 500;
/** Parameters of lists: whoever sends one of them means less than everything that the delete would take. */
const OF_LISTS = ["list", "limit", "cursor", "reverse", "values", "count"] as const;

/** Answers `POST /_delete`. */
export function createDeletion(context: FrontContext): Handler {
  const { meter } = context;
  return (res, req) => {
    const declared = lengthToTake(meter, POST, res, req);
    if (declared === null) return;
    const refused = (code: ErrorCode, detail = ""): void =>
      meter.count(POST, refuse(res, code, declared, { detail }));
    const task = readTask(req.getQuery() ?? "");
    if (typeof task === "string") return refused("bad_request", task);
    const problem = manyKeysProblem(req);
    if (problem !== null) return refused("bad_request", problem);
    if (context.stopping) return refused("stopping");
    if (declared > 0 && declared !== NO_BODY)
      return refused("bad_request", "send no body: what to delete is said by the query");
    const source = sourceOf(context);
    if ("code" in source) return refused(source.code, source.detail);
    void new Deletion(context, res, source, task).run();
  };
}

export interface Task {
  /** The path with its query, which says what is deleted. */
  target: string;
  range: KeyRange;
  dryRun: boolean;
  /** How it counts. */
  verb: number;
  /** It is answered at its end, by one status that goes for all of it, instead of by lines. */
  isPlain: boolean;
  /** Which of the keys in the range are meant; left out: all. */
  isMeant?: (key: Uint8Array) => boolean;
}

/** What is to be deleted; a text says what is wrong with the query. */
function readTask(query: string): Task | string {
  const parameters = readParameters(query);
  if (typeof parameters === "string") return parameters;
  const misplaced = OF_LISTS.find((name) => name in parameters);
  if (misplaced !== undefined)
    return `${misplaced} is for lists: a delete takes all that prefix, delimiter, start, after and end leave; dry-run counts it`;
  const { prefix = "", all = false } = parameters;
  if (prefix === "" && !all) return "an empty prefix means every key: add all=1 if that is what you want";
  if (prefix !== "" && all) return "all=1 means every key, and prefix means some: give one of them";
  if (Buffer.byteLength(prefix) > KEY_BYTES_MAX) return `prefix is longer than a key: ${KEY_BYTES_MAX} bytes`;
  const range = boundedRange(new Uint8Array(Buffer.from(prefix)), parameters, false);
  return typeof range === "string"
    ? range
    : {
        ...{ target: `/_delete?${query}`, range, dryRun: parameters["dry-run"] === true },
        ...{ verb: POST, isPlain: false },
      };
}

/** One such request, from its headers to its last line. */
export class Deletion {
  private readonly context: FrontContext;
  private readonly source: ListSource;
  private readonly task: Task;
  private readonly caller: Token;
  /** For the audit. */
  private readonly ended: ((target: string, status: number) => void) | null;
  private readonly answer: LineAnswer;
  private found = 0;
  private deleted = 0;
  private underWay = 0;
  private failure: Failure | null = null;
  /** Called when a delete is done. */
  private wake = (): void => {};

  constructor(context: FrontContext, res: Res, source: ListSource, task: Task) {
    this.context = context;
    this.source = source;
    this.task = task;
    this.caller = context.caller;
    this.ended = task.isPlain ? null : (context.notes?.own() ?? null);
    const progress = task.isPlain ? null : (): object => this.progress;
    this.answer = new LineAnswer(context, res, task.verb, progress, () => this.note(0));
  }

  async run(): Promise<void> {
    const { answer, context } = this;
    let left: KeyRange | null = this.task.range;
    // Who asks has gone, or the node stops: what is left stays, and a second run goes on.
    while (left !== null && this.goesOn) left = await this.page(left);
    while (this.underWay > 0) await this.someDone();
    if (!answer.isListened) return;
    if (context.stopping && left !== null) this.failure ??= { code: "stopping", detail: "" };
    this.note(this.answerLast());
  }

  private answerLast(): number {
    const { failure, task, answer, progress } = this;
    if (failure === null) return answer.succeed(task.isPlain ? progress : { ...progress, complete: true });
    // Where nothing was done, the answer is an error like any other.
    return answer.fail(failure, this.found > 0 || answer.begun ? progress : null, 200);
  }

  private get goesOn(): boolean {
    return this.answer.isListened && this.failure === null && !this.context.stopping;
  }

  /** Deletes a page of keys; answers the range that is left. */
  private async page(range: KeyRange): Promise<KeyRange | null> {
    const question = { kind: "names", range, limit: PAGE_KEYS } as const;
    // Where nothing was done, a refusal is an answer like any other.
    const answer = await askOn(this.source, question, null, () => this.found > 0 && this.goesOn);
    if (answer.kind === "refused") {
      this.failure = answer;
      return range;
    }
    if (!this.context.mayGoOn(this.caller)) {
      this.failure = REVOKED;
      return range;
    }
    for (const key of answer.keys) {
      if (this.task.isMeant?.(key) === false) continue;
      this.found++;
      if (this.task.dryRun) continue;
      while (this.underWay >= UNDER_WAY_MAX) await this.someDone();
      if (!this.goesOn) return range;
      await this.remove(key);
    }
    this.answer.tell();
    return answer.left;
  }

  private async remove(key: Uint8Array): Promise<void> {
    const { cluster, vault } = this.context;
    const head = plainHead("delete", key);
    for (let tries = 0; ; tries++) {
      if ((cluster ?? vault).submit(head, NOTHING, this.done)) break;
      if (tries === RETRIES_MAX) {
        this.failure ??= { code: "overloaded", detail: "" };
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
    this.underWay++;
  }

  private readonly done = ({ error, detail, deleted }: WriteResult): void => {
    this.underWay--;
    if (error !== null) this.failure ??= { code: error, detail };
    else if (deleted) this.deleted++;
    this.wake();
  };

  private someDone(): Promise<void> {
    return new Promise((resolve) => {
      this.wake = resolve;
    });
  }

  private get progress(): object {
    return this.task.dryRun ? { found: this.found } : { deleted: this.deleted };
  }

  /** @param status 0: the client has gone */
  private note(status: number): void {
    if (!this.task.dryRun) this.ended?.(this.task.target, status);
  }
}
