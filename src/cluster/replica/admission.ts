/** What the own replica takes at all, before its shard is asked: right epoch, a vote, a ballot of now. */
import { type Ballot, ballotOf } from "../../format/record.ts";
import { isAhead } from "../../rules/register.ts";
import type { LocalVault } from "../../shards/vault/local-vault.ts";
import { indexPartitionOf } from "../../util/hash.ts";
import type { ClusterKey, Refused } from "../register/ports.ts";
import { keyBytes } from "./cluster-key.ts";

export interface AdmissionSetup {
  vault: LocalVault;
  /** Epoch of the layout that this node has; 0: none. */
  epoch: () => number;
  /** Whether this replica may vote for a key. */
  votesFor: (key: ClusterKey) => boolean;
  /** Cluster time, milliseconds since 1970. */
  clusterMillis: () => number;
  /** Somebody has a newer layout. */
  behind: (epoch: number) => void;
}

/** The ballot is too far ahead of cluster time. */
export const AHEAD: Refused = Object.freeze({ kind: "refused", reason: "ahead", epoch: 0 });

export class Admission {
  private readonly setup: AdmissionSetup;

  constructor(setup: AdmissionSetup) {
    this.setup = setup;
  }

  /**
   * What the key has here is only looked at for the few ballots that are far ahead. A promise needs no look:
   * who met one that is far ahead comes with a second clock.
   */
  isTooFarAhead(key: ClusterKey, ballot: Ballot): boolean {
    const { vault, clusterMillis } = this.setup;
    const millis = clusterMillis();
    if (!isAhead(ballot, null, millis)) return false;
    const { state, head } = vault.findRegister(keyBytes(key));
    const floor = vault.replica.floorOf(indexPartitionOf(key.hashA));
    const record = state === "found" || state === "tombstone" ? ballotOf(head) : null;
    return isAhead(ballot, record ?? floor, millis);
  }

  /** Why an operation cannot be taken, or null. */
  refusal(key: ClusterKey, epoch: number, repair = false): Refused | null {
    const { setup } = this;
    const own = setup.epoch();
    if (epoch < own) return { kind: "refused", reason: "stale_epoch", epoch: own };
    if (epoch > own) {
      setup.behind(epoch);
      return { kind: "refused", reason: "behind_epoch", epoch: own };
    }
    return repair || setup.votesFor(key) ? null : { kind: "refused", reason: "not_voting", epoch: own };
  }
}
