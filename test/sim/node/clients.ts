/** The clients of one history: they write and read a few keys through any node, and note what they were told. */

import type { ClusterNode } from "../../../src/cluster/node/cluster-node.ts";
import { NAME_BYTES, REQUEST_BYTES, withOnce } from "../../../src/format/fields/recent.ts";
import { NO_TRAILER } from "../../../src/format/fields/trailer.ts";
import type { Ballot } from "../../../src/format/record.ts";
import { etagOf, etagText } from "../../../src/format/version.ts";
import { NO_LIFE } from "../../../src/rules/expiry.ts";
import type { WriteResult } from "../../../src/shards/arena/write.ts";
import type { End, Recorded } from "../linearizability.ts";
import type { SimCluster, SimWorker } from "./cluster.ts";
import { BIRTH_MS } from "./simulation.ts";

/** A client that has no answer by then goes on; nobody knows what became of its request. */
const PATIENCE_MS = 12_000;
/** One of so many values ends, this long after its write at most. */
const ENDING_ONE_IN = 3;
const LIFE_MS_MAX = 6000;
/** One of so many writes has an `Idempotency-Key`, and is sent again, to whichever node, so often at most. */
const ONCE_ONE_IN = 4;
const RETRIES_MAX = 3;
/** Who has no answer by then sends it again, while the first one may still be under way. */
const AGAIN_MS = 3000;
/** The judge takes no more operations of one key; some are kept for the end. */
const OPERATIONS_PER_KEY = 20;

const KINDS: readonly Recorded["kind"][] = [
  "put",
  "put",
  "get",
  "get",
  "delete",
  "post",
  "replaceIf",
  "deleteIf",
];

interface Known {
  etag: string;
  value: number;
}

export class Clients {
  /** What was told of each key. */
  readonly histories = new Map<string, Recorded[]>();
  operations = 0;
  /** Of these nobody knows whether they had an effect: the node said so, or said nothing. */
  unknown = 0;
  silent = 0;
  /** Operations that surely had no effect. */
  refused = 0;
  working = 0;
  /** Whether some writes are to be known when they come again. Not where clocks make them forgotten by leaps. */
  sendsAgain = false;
  private readonly cluster: SimCluster;
  private readonly keys: readonly string[];
  private readonly known = new Map<string, Known>();
  /** Of each value: its first version, and when it got another. */
  private readonly versions = new Map<number, { first: string; rewrittenMs: number }>();
  private readonly owners = new Map<string, string>();
  private nextId = 1;
  /** The operation that has asked for an end. */
  private readonly endOwners = new Map<number, number>();

  constructor(cluster: SimCluster, keys: readonly string[]) {
    this.cluster = cluster;
    this.keys = keys;
    for (const key of keys) this.histories.set(key, []);
    cluster.onAccepted = (name, ballot, value) => this.accepted(name, ballot, value);
  }

  /** Begins a client that works until `isOver`. */
  begin(thinkMs: number, isOver: () => boolean): void {
    const { simulation } = this.cluster;
    this.working++;
    const next = (): void => {
      const open = this.keys.filter((key) => this.history(key).length < OPERATIONS_PER_KEY);
      if (isOver() || open.length === 0) {
        this.working--;
        return;
      }
      const key = open[simulation.below(open.length)];
      const kind = KINDS[simulation.below(KINDS.length)];
      const again = () => simulation.after(simulation.observer, simulation.chance() * thinkMs, next);
      // Who was replaced and does not know it is asked, too.
      const { workers, zombies } = this.cluster;
      const ready = [...workers, ...zombies].filter(({ isReady }) => isReady);
      if (ready.length === 0) again();
      else this.operate(ready[simulation.below(ready.length)], key, kind, again);
    };
    simulation.after(simulation.observer, simulation.chance() * thinkMs, next);
  }

  /** One operation; `over` is called once it is answered, or not waited for any more. */
  operate(worker: SimWorker, key: string, kind: Recorded["kind"], over: (isDone: boolean) => void): void {
    const { simulation } = this.cluster;
    const known = this.known.get(key);
    const isIf = kind === "replaceIf" || kind === "deleteIf";
    if (isIf && known === undefined) return void over(false);
    const process = worker.process;
    const node = worker.part?.node;
    if (process === null || node == null) return void over(false);
    const operation: Recorded = {
      ...{
        id: this.nextId++,
        kind,
        called: simulation.now,
        answered: Number.POSITIVE_INFINITY,
        outcome: "unknown",
      },
      ...{
        value: 0,
        expected: isIf ? (known as Known).value : 0,
        rewritten: Number.POSITIVE_INFINITY,
        existed: null,
      },
    };
    if (kind === "put" || kind === "post" || kind === "replaceIf") operation.end = this.endFor(operation.id);
    this.operations++;
    let isOver = false;
    const end = (isDone: boolean): void => {
      if (isOver) return;
      isOver = true;
      simulation.after(simulation.observer, 0, () => over(isDone));
    };
    if (kind !== "get") this.history(key).push(operation);
    const etag = known?.etag ?? "";
    const isOnce = kind !== "get" && this.sendsAgain && simulation.below(ONCE_ONE_IN) === 0;
    if (isOnce) this.once(worker, key, operation, etag, end);
    else
      simulation.after(process, 0, () => {
        if (kind === "get") this.read(node, key, operation, end);
        else
          this.write(node, key, operation, etag, null, (result) =>
            end(this.answered(key, operation, result)),
          );
      });
    const patienceMs = isOnce ? PATIENCE_MS + RETRIES_MAX * AGAIN_MS : PATIENCE_MS;
    simulation.after(simulation.observer, patienceMs, () => {
      if (!isOver && kind !== "get") this.silent++;
      end(false);
    });
  }

  private read(node: ClusterNode, key: string, operation: Recorded, end: (isDone: boolean) => void): void {
    node.read(Buffer.from(key), "quorum", (answer) => {
      if (answer.state === "unavailable") {
        this.refused++;
        end(false);
        return;
      }
      operation.answered = this.cluster.simulation.now;
      operation.outcome = "done";
      if (answer.state === "found") {
        operation.value = Number(
          Buffer.from((answer.value as unknown as { bytes: Uint8Array }).bytes).toString(),
        );
        operation.endOwner = this.endOwners.get(answer.value.end) ?? 0;
        this.known.set(key, { etag: etagText(answer.ballot), value: operation.value });
      }
      // What comes after the client has gone on is as true, and tells as much.
      this.history(key).push(operation);
      end(true);
    });
  }

  /** Some values end. By which clock is not judged here, with clocks that are hours off: only that it is for good. */
  private endFor(owner: number): End | null {
    const { simulation } = this.cluster;
    if (simulation.below(ENDING_ONE_IN) !== 0) return null;
    let millis = BIRTH_MS + Math.floor(simulation.now + simulation.chance() * LIFE_MS_MAX);
    while (this.endOwners.has(millis)) millis++;
    this.endOwners.set(millis, owner);
    return { millis, owner, reachedAt: 0 };
  }

  /** A write that is known when it comes again: it is sent until somebody says what became of it. */
  private once(
    first: SimWorker,
    key: string,
    operation: Recorded,
    etag: string,
    end: (isDone: boolean) => void,
  ): void {
    const { simulation, workers } = this.cluster;
    let tries = 0;
    /** One whose answer did not come, or was that nobody knows. */
    let isOpen = false;
    let isTold = false;
    const once = onceOf(operation.id);
    const send = (worker: SimWorker | undefined): void => {
      const node = worker?.part?.node;
      if (isTold) return;
      if (worker?.process == null || node == null) {
        again();
        return;
      }
      let isOver = false;
      simulation.after(worker.process, 0, () =>
        this.write(node, key, operation, etag, once, (result) => {
          const wasOver = isOver;
          isOver = true;
          const isRefusal = result.error === "exists" || result.error === "precondition_failed";
          if (isRefusal && isTold && operation.outcome === "done")
            throw new Error(`write ${operation.id} of ${key} was done, and is refused later`);
          if (isTold) return;
          if (result.error === null || (isRefusal && !isOpen)) {
            isTold = true;
            end(this.answered(key, operation, result));
          } else if (isRefusal) {
            // One that is still under way may find something else there.
            isTold = true;
            this.unknown++;
            end(false);
          } else if (!wasOver) {
            isOpen ||= result.error === "unknown_outcome";
            again();
          }
        }),
      );
      simulation.after(simulation.observer, AGAIN_MS, () => {
        if (isOver || isTold) return;
        isOver = isOpen = true;
        again();
      });
    };
    const again = (): void => {
      if (++tries <= RETRIES_MAX) {
        const ready = workers.filter(({ isReady }) => isReady);
        simulation.after(simulation.observer, simulation.chance() * 200, () =>
          send(ready[simulation.below(Math.max(1, ready.length))]),
        );
      } else if (isOpen) this.unknown++;
      else {
        // Nobody answers it any more.
        isTold = true;
        this.drop(key, operation);
      }
      if (tries > RETRIES_MAX) end(false);
    };
    send(first);
  }

  private write(
    node: ClusterNode,
    key: string,
    operation: Recorded,
    etag: string,
    once: Uint8Array | null,
    done: (result: WriteResult) => void,
  ): void {
    const { kind, id } = operation;
    const life = operation.end == null ? NO_LIFE : { ...NO_LIFE, expiresMs: operation.end.millis };
    const bytes = Buffer.from(key);
    const verb = kind === "post" ? "post" : kind.startsWith("delete") ? "delete" : "put";
    const ifMatch = kind.endsWith("If") ? etag : "";
    const sent = node.submit(
      {
        ...{ verb, key: { bytes, length: bytes.length }, json: false, contentType: "text/plain" },
        ...{ trailer: withOnce(NO_TRAILER, once), life, ifMatch, ifNoneMatch: "" },
      },
      Buffer.from(verb === "delete" ? "" : String(id)),
      // It is only lent.
      (result) => done({ ...result, etag: result.etag?.slice() ?? null }),
    );
    if (!sent) done(OVERLOADED);
  }

  private answered(key: string, operation: Recorded, { error, etag }: WriteResult): boolean {
    const isRefusal = error === "exists" || error === "precondition_failed";
    if (error === "unknown_outcome") {
      this.unknown++;
      return false;
    }
    if (error !== null && !isRefusal) {
      this.drop(key, operation);
      return false;
    }
    operation.answered = this.cluster.simulation.now;
    operation.outcome = isRefusal ? "refused" : "done";
    if (!isRefusal && etag !== null && !operation.kind.startsWith("delete"))
      this.known.set(key, { etag: etagOf(etag), value: operation.id });
    return true;
  }

  /** It had no effect. */
  private drop(key: string, operation: Recorded): void {
    this.refused++;
    const history = this.history(key);
    history.splice(history.indexOf(operation), 1);
  }

  /** What is told of a key, in order of call, with what became of the versions. */
  judged(key: string): Recorded[] {
    const history = [...this.history(key)].sort((a, b) => a.called - b.called);
    return history.map((operation) => ({
      ...operation,
      rewritten: this.versions.get(operation.expected)?.rewrittenMs ?? Number.POSITIVE_INFINITY,
    }));
  }

  /** A replica has taken a record: a version is of one value ever, and a value may get a second version. */
  private accepted(name: string, ballot: Ballot, value: string | null): void {
    const etag = `${name} ${etagText(ballot)}`;
    const owner = this.owners.get(etag);
    if (owner !== undefined && owner !== String(value))
      throw new Error(`one version of ${name} is given to ${owner} and ${value}`);
    this.owners.set(etag, String(value));
    if (value === null) return;
    const version = this.versions.get(Number(value));
    if (version === undefined)
      this.versions.set(Number(value), { first: etag, rewrittenMs: Number.POSITIVE_INFINITY });
    else if (version.first !== etag)
      version.rewrittenMs = Math.min(version.rewrittenMs, this.cluster.simulation.now);
  }

  private history(key: string): Recorded[] {
    return this.histories.get(key) as Recorded[];
  }
}

const OVERLOADED: WriteResult = {
  error: "overloaded",
  detail: "",
  created: false,
  deleted: false,
  etag: null,
};

/** What a write is known by: its number. */
function onceOf(id: number): Uint8Array {
  const once = new Uint8Array(NAME_BYTES + REQUEST_BYTES);
  new DataView(once.buffer).setUint32(0, id);
  return once;
}
