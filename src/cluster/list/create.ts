/** Puts the lists of a cluster together. */
import type { Placement } from "../layout/groups.ts";
import type { PeerClient } from "../peers/peer-client.ts";
import { ANSWER_MS_MAX } from "./asking.ts";
import { ClusterList, type Consistency, type KeyRead } from "./cluster-list.ts";
import type { ReplicaList } from "./replica-list.ts";

export interface ListParts {
  self: string;
  replica: ReplicaList;
  peerOf: (node: string) => PeerClient | null;
  newerLayout: (epoch: number) => void;
  clusterMillis: () => number;
  /** Null: there is none to work by. */
  placement: () => Placement | null;
  read: (key: Uint8Array, consistency: Consistency, done: (answer: KeyRead) => void) => void;
}

export function createClusterList({
  self,
  replica,
  peerOf,
  newerLayout,
  placement,
  clusterMillis,
  read,
}: ListParts): ClusterList {
  return new ClusterList({
    ...{ self, replica, placement, newerLayout, clusterMillis },
    send: (node, frame) =>
      peerOf(node)?.sendAlone(frame, ANSWER_MS_MAX) ??
      Promise.reject(new Error("not a node of the cluster any more")),
    read: (key, consistency) => new Promise((resolve) => read(key, consistency, resolve)),
    now: () => performance.now(),
  });
}
