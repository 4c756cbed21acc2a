/**
 * Large values that come from clients: each goes to every replica of its key at once, and what is accepted
 * then says where it is.
 */
import { NO_TRAILER } from "../../format/fields/trailer.ts";
import type { Ballot } from "../../format/record.ts";
import type { Upload, WriteHead } from "../../shards/arena/write.ts";
import type { LocalUpload } from "../../shards/upload/upload.ts";
import type { LocalVault } from "../../shards/vault/local-vault.ts";
import { copyOf } from "../../util/bytes.ts";
import { CLUSTER_UPLOADS_MAX } from "../../util/limits.ts";
import { type PlaceHolder, Places } from "../../util/places.ts";
import type { ReplicaGroup } from "../layout/groups.ts";
import type { PeerClient } from "../peers/peer-client.ts";
import type { ClusterKey } from "../register/ports.ts";
import { clusterKey } from "../replica/cluster-key.ts";
import type { LocalReplica } from "../replica/local-replica.ts";
import { ClusterUpload } from "../upload/cluster-upload.ts";
import { decodeAccepted } from "../wire/answer-frame.ts";
import { ACCEPT, encodeRequest } from "../wire/request-frame.ts";
import { kindOnly } from "../wire/values.ts";
import { termsOf } from "./terms.ts";
import type { ClusterWrites } from "./writes.ts";

/** Ballot in the head of a stream whose accept comes later. */
const NO_BALLOT: Ballot = Object.freeze({ clockLow: 0, clockHigh: 0, node: 0, incarnation: 0 });

export interface ClusterUploadsSetup {
  /** This node's id. */
  self: string;
  vault: LocalVault;
  replica: LocalReplica;
  writes: ClusterWrites;
  peerOf: (node: string) => PeerClient | null;
  /** Whether there is a layout to work by. */
  isReady: () => boolean;
  groupOf: (key: ClusterKey) => ReplicaGroup;
}

export class ClusterUploads {
  private readonly setup: ClusterUploadsSetup;
  /** Each has a stream to every replica. */
  private readonly places = new Places(CLUSTER_UPLOADS_MAX);

  constructor(setup: ClusterUploadsSetup) {
    this.setup = setup;
  }

  /** Null: there are too many, or none can be made now. */
  begin(head: WriteHead): Upload | null {
    const { self, vault, replica, writes, peerOf, isReady, groupOf } = this.setup;
    if (!isReady()) return null;
    const key = clusterKey(copyOf(head.key.bytes, 0, head.key.length));
    const group = groupOf(key);
    const { operationLow, operationHigh } = writes.nextOperation();
    const { verb, json, contentType, trailer, trailerAtEnd, life } = head;
    const terms = termsOf(head);
    // What is staged gets its fields with the accept.
    const kind = { json, contentType, trailer: NO_TRAILER };
    const begun: { upload: ClusterUpload | null } = { upload: null };
    const holder: PlaceHolder = {
      sinceMs: performance.now(),
      get movedBytes() {
        return begun.upload?.movedBytes ?? 0;
      },
      giveWay: () => begun.upload?.giveWay(),
    };
    if (!this.places.enter(holder)) return null;
    let local: LocalUpload | null = null;
    if (group.nodes.includes(self)) {
      local = vault.stage({ key: head.key, ballot: NO_BALLOT, operationLow, operationHigh, ...kind });
      if (local === null) {
        this.places.leave(holder);
        return null;
      }
    }
    const description = encodeRequest({
      kind: ACCEPT,
      epoch: group.epoch,
      key: key.bytes,
      operationLow,
      operationHigh,
      staged: true,
      value: kindOnly(kind),
    });
    const upload = local;
    begun.upload = new ClusterUpload({
      group,
      json,
      local:
        upload === null
          ? null
          : {
              node: self,
              upload,
              keep: () => replica.staged.keep(key.bytes, operationLow, operationHigh, upload),
            },
      send: async (node, body, signal) => {
        const answer = await peerOf(node)?.putStream(description, body, signal);
        if (answer === undefined || decodeAccepted(answer)?.kind !== "yes")
          throw new Error(`${node} has not taken the value`);
      },
      write: (staged, valueBytes, done) => {
        const value = { ...kind, trailer: trailerAtEnd?.() ?? trailer, life, valueBytes, staged };
        writes.writeLarge(verb, { key, terms, value, operationLow, operationHigh }, (result) => {
          replica.staged.drop(key.bytes, operationLow, operationHigh);
          done(result);
        });
      },
      release: () => this.places.leave(holder),
    });
    return begun.upload;
  }
}
