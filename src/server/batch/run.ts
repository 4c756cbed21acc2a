/**
 * Does the operations of a batch: many at once, but those of one key in their order. Each is done as if it
 * had been sent alone, and its result has its place.
 */

import { CHANGE, READ, REMOVE, type Token, WRITE } from "../../auth/tokens.ts";
import type { ClusterAccess } from "../../cluster/node/access.ts";
import { NO_TRAILER } from "../../format/fields/trailer.ts";
import { matchHolds, noneMatchHolds } from "../../rules/conditions.ts";
import { NO_LIFE } from "../../rules/expiry.ts";
import { nameOf } from "../../util/bytes.ts";
import { ERRORS, VaultError } from "../../util/errors.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";
import { ttlMember } from "../../value/entry-text.ts";
import { innerText, storedLength, storedView } from "../../value/stored.ts";
import type { FrontContext, RequestNotes } from "../http/context.ts";
import { OnceKey, problemOf } from "../once/once.ts";
import type { MakeChange } from "../patch/asked.ts";
import type { Form } from "../patch/form.ts";
import { type Current, readCurrent } from "../reads/current.ts";
import { DELETE, GET, OTHER, POST, PUT } from "../status/meter.ts";
import { NO_ENDS } from "../writes/writes.ts";
import { Changes } from "./changes.ts";
import type { Operation, Refused } from "./parse.ts";
import {
  changed,
  type ResultsRoom,
  refusal,
  statusOf,
  TOO_LARGE,
  type Told,
  told,
  written,
} from "./results.ts";
import type { Turns } from "./turns.ts";

/** Operations that are under way at once: more than a commit of every shard takes. */
const UNDER_WAY_MAX = 1024;

const NEEDS = {
  ...{ get: READ, put: WRITE, post: WRITE, delete: REMOVE, patch: CHANGE, touch: CHANGE },
};
const VERBS = { get: GET, put: PUT, post: POST, delete: DELETE, patch: OTHER, touch: OTHER };
const METHODS = {
  ...{ get: "GET", put: "PUT", post: "POST", delete: "DELETE", patch: "PATCH", touch: "PATCH" },
};

type WriteVerb = "put" | "post" | "delete" | "touch";

/** Who asks for a batch. */
type Asker = Pick<FrontContext, "caller" | "notes">;

export interface BatchSetup {
  context: FrontContext;
  turns: Turns;
  change: MakeChange;
  asker: Asker;
  operations: readonly (Operation | Refused)[];
  room: ResultsRoom;
}

/** Does operations. Answers the results' texts, in order of the operations. */
export function runBatch(setup: BatchSetup): Promise<string[]> {
  return new Promise((resolve, reject) => new BatchRun(setup, resolve, reject).go());
}

class BatchRun {
  private readonly context: FrontContext;
  private readonly turns: Turns;
  private readonly changes: Changes;
  private readonly cluster: ClusterAccess | null;
  private readonly caller: Token;
  private readonly notes: RequestNotes | null;
  private readonly operations: readonly (Operation | Refused)[];
  private readonly resolve: (results: string[]) => void;
  private readonly failed: (error: unknown) => void;
  private readonly results: string[];
  private readonly room: ResultsRoom;
  /** The next one that was not looked at yet. */
  private next = 0;
  /** Those that can go on: the one before them on their key is done, or the vault has room again. */
  private readonly ready: number[] = [];
  /** Of each key, its last operation that was looked at. */
  private readonly latest = new Map<string, number>();
  /** Of each operation the next one of its key, if that waits for it; 0: none does. */
  private readonly following: Uint16Array;
  private underWay = 0;
  private done = 0;
  /** Operations are being begun. */
  private isGoing = false;
  /** The vault takes no more before something of ours is done. */
  private isFull = false;

  constructor(
    { context, turns, change, asker, operations, room }: BatchSetup,
    resolve: (results: string[]) => void,
    failed: (error: unknown) => void,
  ) {
    this.context = context;
    this.turns = turns;
    this.changes = new Changes(turns, change, failed);
    this.cluster = context.cluster;
    this.caller = asker.caller;
    this.notes = asker.notes;
    this.operations = operations;
    this.room = room;
    this.resolve = resolve;
    this.failed = failed;
    this.results = new Array<string>(operations.length);
    this.following = new Uint16Array(operations.length);
  }

  /** Has begun what can be begun. */
  go(): void {
    if (this.done === this.operations.length) this.resolve(this.results);
    else if (!this.isGoing && this.canBegin) {
      this.isGoing = true;
      this.turns.add(this.step, this.failed);
    }
  }

  private get canBegin(): boolean {
    if (this.isFull || this.underWay >= UNDER_WAY_MAX) return false;
    return this.ready.length > 0 || this.next < this.operations.length;
  }

  /** Begins an operation. It, and others, may end while it does so. */
  private readonly step = (): boolean => {
    const again = this.ready.pop();
    if (again === undefined) this.first(this.next++);
    else this.begin(again);
    this.isGoing = this.canBegin;
    if (!this.isGoing) this.go();
    return this.isGoing;
  };

  private first(index: number): void {
    const operation = this.operations[index];
    if ("code" in operation) {
      this.note(index, refusal(operation.code, operation.detail));
      return;
    }
    const key = nameOf(operation.key);
    const before = this.latest.get(key);
    this.latest.set(key, index);
    if (before !== undefined && this.results[before] === undefined) this.following[before] = index;
    else this.begin(index);
  }

  private begin(index: number): void {
    const operation = this.operations[index] as Operation;
    const { verb, key } = operation;
    if (!this.caller.allows(NEEDS[verb]) || !this.caller.covers(key, key.length)) {
      this.end(index, refusal("forbidden"), ERRORS.forbidden.status);
      return;
    }
    this.underWay++;
    if (verb === "get") {
      this.read(index, operation);
      return;
    }
    const why = this.refusalOf(operation);
    if (why !== null) this.finish(index, why.text, why.status);
    else if (verb === "patch") this.patch(index, operation);
    else this.write(index, operation, verb);
  }

  /** Why a write cannot be done here at all, or null. */
  private refusalOf({ verb, json, body, life, once }: Operation): Told | null {
    const { maxValueBytes } = this.context;
    // A change is judged by what comes of it.
    if (verb !== "patch" && (json ? storedLength(body) : body.length) > maxValueBytes)
      return told("too_large", `values are limited to ${maxValueBytes} bytes`);
    const speaksOfLife = life !== NO_LIFE || verb === "touch";
    if (speaksOfLife && !(this.cluster ?? this.context.vault).keepsEnds)
      return told("upgrade_first", NO_ENDS);
    const problem = once === "" ? null : problemOf(this.context, [once]);
    return problem === null ? null : told(problem.code, problem.detail);
  }

  private patch(index: number, operation: Operation): void {
    const { key, form, contentType, body, life, ifMatch, ifNoneMatch, once } = operation;
    const asked = { key, form: form as Form, contentType, body, life, ifMatch, ifNoneMatch, once };
    this.changes.add(asked, (ending) => {
      const { text, status } = changed(ending, this.room.left);
      this.finish(index, text, status);
    });
  }

  private write(index: number, operation: Operation, verb: WriteVerb): void {
    const { key, json, contentType, life, ifMatch, ifNoneMatch, once } = operation;
    const body = json ? storedView(operation.body) : operation.body;
    const name = { bytes: key, length: key.length };
    const head = { verb, key: name, json, contentType, trailer: NO_TRAILER, life, ifMatch, ifNoneMatch };
    if (once !== "") head.trailer = new OnceKey(once, { ...head, body }).in(NO_TRAILER);
    const isTaken = (this.cluster ?? this.context.vault).submit(head, body, (result) => {
      const status = statusOf(verb, result);
      this.finish(index, written(verb, result, status), status);
    });
    if (isTaken) return;
    // Our own writes that are under way make room.
    if (this.underWay > 1) {
      this.underWay--;
      this.isFull = true;
      this.ready.push(index);
    } else this.finish(index, refusal("overloaded"), ERRORS.overloaded.status);
  }

  private read(index: number, operation: Operation): void {
    readCurrent(this.context, operation.key, this.cluster?.consistency ?? "quorum", (current) => {
      const { text, status } =
        current.state === "found"
          ? this.value(operation, current)
          : current.state === "absent"
            ? told("not_found")
            : told(current.code, current.detail);
      this.finish(index, text, status);
    });
  }

  private value({ ifMatch, ifNoneMatch }: Operation, found: Current & { state: "found" }): Told {
    const { etag, json, contentType, valueBytes, end } = found;
    if (!matchHolds(ifMatch, etag)) return told("precondition_failed", "", etag);
    if (!noneMatchHolds(ifNoneMatch, etag)) return { text: `{"status":304,"etag":${etag}}`, status: 304 };
    if (valueBytes > CHUNK_BYTES) return told("too_large", TOO_LARGE);
    const refused = this.room.refusal(valueBytes);
    if (refused !== null) return refused;
    let bytes: Uint8Array;
    try {
      bytes = found.view();
    } catch (error) {
      if (!(error instanceof VaultError)) throw error;
      return told(error.code, error.message);
    }
    const { buffer, byteOffset, length } = json ? innerText(bytes) : bytes;
    const content = Buffer.from(buffer, byteOffset, length);
    const text = json
      ? `"value":${content.toString("utf8")}`
      : `"type":${JSON.stringify(contentType)},"base64":"${content.toString("base64")}"`;
    const ttl = end === 0 ? "" : ttlMember(end - (this.cluster ?? this.context.vault).now());
    return { text: `{"status":200,"etag":${etag},${text}${ttl}}`, status: 200 };
  }

  /** One that was under way is over. */
  private finish(index: number, text: string, status: number): void {
    this.underWay--;
    this.isFull = false;
    this.end(index, text, status);
    this.go();
  }

  private end(index: number, text: string, status: number): void {
    const operation = this.operations[index] as Operation;
    const { verb, key } = operation;
    this.context.meter.count(VERBS[verb], status);
    if (this.notes !== null && (verb !== "get" || status === ERRORS.forbidden.status)) {
      const path = `/_kv/${encodeURIComponent(Buffer.from(key).toString("utf8"))}`;
      this.notes.also(METHODS[verb], path, status);
    }
    const following = this.following[index];
    if (following > 0) this.ready.push(following);
    this.note(index, text);
  }

  private note(index: number, text: string): void {
    this.results[index] = text;
    this.room.take(text.length);
    this.done++;
  }
}
