/** The feeds of a node: of its replica, for all nodes, and of the whole cluster, for its own clients. */
import type { FeedReply } from "../../shards/feed/client.ts";
import type { FeedQuestion } from "../../shards/feed/messages.ts";
import type { LocalVault } from "../../shards/vault/local-vault.ts";
import type { Placement } from "../layout/groups.ts";
import type { KeyRead } from "../list/cluster-list.ts";
import type { PeerClient } from "../peers/peer-client.ts";
import type { AnswerRoom } from "../peers/peer-handler.ts";
import { ClusterFeed } from "./cluster-feed.ts";
import { bytesOfKey } from "./cluster-keys.ts";
import { changeOf } from "./key-change.ts";
import { ReplicaFeed } from "./replica-feed.ts";
import { Replicas } from "./replicas.ts";

export interface NodeFeedsSetup {
  self: string;
  vault: Pick<LocalVault, "feed">;
  peerOf: (node: string) => PeerClient | null;
  newerLayout: (epoch: number) => void;
  epoch: () => number;
  votes: () => Uint8Array;
  /** Null: there is none to work by. */
  placement: () => Placement | null;
  clusterMillis: () => number;
  /** A quorum read. */
  read: (key: Uint8Array, done: (answer: KeyRead) => void) => void;
  warn: (message: string) => void;
}

export class NodeFeeds {
  private readonly replica: ReplicaFeed;
  private readonly cluster: ClusterFeed;

  constructor(setup: NodeFeedsSetup) {
    const { self, vault, peerOf, newerLayout, epoch, votes, placement, clusterMillis, read, warn } = setup;
    this.replica = new ReplicaFeed({ feed: vault.feed, epoch, votes });
    const replicas = new Replicas({
      ...{ self, newerLayout, replica: this.replica },
      send: (node, frame, timeoutMs) =>
        peerOf(node)?.sendAlone(frame, timeoutMs) ??
        Promise.reject(new Error("not a node of the cluster any more")),
    });
    this.cluster = new ClusterFeed({
      ...{ replicas, placement, clusterMillis, warn },
      read: (key, values) =>
        new Promise((resolve) =>
          read(bytesOfKey(key), (answer) => resolve(changeOf(key, answer, values, clusterMillis()))),
        ),
    });
  }

  /** What has changed in the whole cluster: as FeedClient. */
  ask(question: FeedQuestion, reply: FeedReply): number {
    return this.cluster.ask(question, reply);
  }

  cancel(id: number): void {
    this.cluster.cancel(id);
  }

  /** Answers another node. */
  frame(bytes: Uint8Array, reply: (answer: Uint8Array) => void, room: AnswerRoom): void {
    this.replica.frame(bytes, reply, room);
  }

  /** Nobody waits for changes any more, here or at other nodes: the node stops. */
  close(): void {
    this.cluster.close();
    this.replica.close();
  }
}
