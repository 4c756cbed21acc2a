/**
 * The coordinator: the operations of the cluster as one node runs them for its clients. Pure: replicas,
 * clock, timers and random numbers come from outside, so that the simulator (test/sim) runs this very code.
 * read.ts and write.ts have the steps.
 */
import type { Ballot } from "../../format/record.ts";
import { hasEnded } from "../../rules/expiry.ts";
import type { ClusterKey } from "../register/ports.ts";
import {
  ALL_RULES,
  type CoordinatorSetup,
  type OperationRules,
  type ReadResult,
  type RegisterResult,
  type RegisterWrite,
} from "../register/requests.ts";
import { OnceOperation } from "./once.ts";
import { ReadOperation } from "./read.ts";
import { WriteOperation } from "./write.ts";
import { WriteQueue } from "./write-queue.ts";

export class Coordinator {
  private readonly setup: CoordinatorSetup;
  private readonly rules: OperationRules;
  private readonly queue: WriteQueue;

  constructor(setup: CoordinatorSetup, rules: OperationRules = ALL_RULES) {
    this.setup = setup;
    this.rules = rules;
    this.queue = new WriteQueue(
      (request, weight, done) => {
        if (request.only == null) new WriteOperation(this.setup, this.rules, request, weight, done).start();
        else new OnceOperation(this.setup, this.rules, request, request.only, done).start();
      },
      () => setup.now(),
      () => setup.clusterMillis(),
    );
  }

  /**
   * Writes: blind when `condition` is null, else judged and written as one step. `done` is called exactly
   * once, possibly before this returns.
   */
  write(request: RegisterWrite, done: (result: RegisterResult) => void): void {
    this.queue.write(request, done);
  }

  /** The linearizable read. `done` is called exactly once, possibly before this returns. */
  read(key: ClusterKey, done: (result: ReadResult) => void): void {
    new ReadOperation(this.setup, this.rules, key, false, done).start();
  }

  /**
   * Writes the value that is there again, at a new ballot above the promises of a majority: afterwards a
   * majority holds one record and nothing older can get in its way. For repair; a key that is absent
   * everywhere stays so.
   * @param above what the new ballot must be above, too: a promise that only a minority has given is no
   * obstacle to the others, and would go on keeping the record out where it stands
   */
  settle(key: ClusterKey, done: (result: ReadResult) => void, above: Ballot | null = null): void {
    new ReadOperation(this.setup, this.rules, key, true, done, above).start();
  }

  /**
   * `consistency=one`: what the nearest replica that can tell holds; it may be old, or not decided yet. Asks
   * one after the other.
   */
  readOne(key: ClusterKey, done: (result: ReadResult) => void): void {
    const { setup } = this;
    const group = setup.groupOf(key);
    const nodes = group.nodes.filter((_, index) => (group.previous & (1 << index)) !== 0);
    nodes.sort((a, b) => setup.distance(a) - setup.distance(b));
    const ask = (at: number): void => {
      if (at === nodes.length || setup.distance(nodes[at]) === Infinity) {
        done({ outcome: "no_quorum", ballot: null, payload: null, replicas: 0 });
        return;
      }
      setup.port.read(nodes[at], key, group.epoch, (answer) => {
        if (answer.kind !== "yes") {
          ask(at + 1);
          return;
        }
        const found =
          answer.ballot !== null && !answer.tombstone && !hasEnded(answer.end, setup.clusterMillis());
        done({
          outcome: found ? "found" : "absent",
          ballot: answer.ballot,
          payload: found ? answer.payload : null,
          replicas: 1,
        });
      });
    };
    ask(0);
  }
}
