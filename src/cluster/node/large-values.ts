/** Large values between replicas: from where they are into an upload here, or to another node. */
import { NO_TRAILER } from "../../format/fields/trailer.ts";
import type { LocalUpload } from "../../shards/upload/upload.ts";
import { copyOf } from "../../util/bytes.ts";
import { VaultError } from "../../util/errors.ts";
import type { PeerClient, PeerDownload } from "../peers/peer-client.ts";
import { type AcceptAnswer, type ClusterKey, type Proposal, UNAVAILABLE } from "../register/ports.ts";
import type { LocalReplica } from "../replica/local-replica.ts";
import { rangeBytes } from "../replica/peer-frames.ts";
import { decodeAccepted } from "../wire/answer-frame.ts";
import { ACCEPT, encodeRequest, READ } from "../wire/request-frame.ts";
import { inlineValue, kindOnly, NO_KIND, type RemoteValue } from "../wire/values.ts";

export interface LargeValuesSetup {
  /** This node's id. */
  self: string;
  /** The way to another node; null: it is none of the cluster's. */
  peerOf: (node: string) => PeerClient | null;
}

export class LargeValues {
  private readonly setup: LargeValuesSetup;
  private readonly replica: LocalReplica;

  constructor(setup: LargeValuesSetup, replica: LocalReplica) {
    this.setup = setup;
    this.replica = replica;
  }

  /** The bytes `start` to `end` of a value on another node. */
  download(key: Uint8Array, value: RemoteValue, start: number, end: number): Promise<PeerDownload> {
    const peer = this.setup.peerOf(value.node);
    if (peer === null)
      return Promise.reject(new Error(`${value.node} is not a node of the cluster any more`));
    const range = inlineValue(NO_KIND, rangeBytes(start, end));
    return peer.getStream(encodeRequest({ kind: READ, epoch: 0, key, ballot: value.ballot, value: range }));
  }

  /** The bytes of a large value, wherever it is. */
  private async *bytesOf(key: ClusterKey, value: RemoteValue): AsyncGenerator<Uint8Array> {
    if (value.node !== this.setup.self) {
      yield* (await this.download(key.bytes, value, 0, value.valueBytes)).body;
      return;
    }
    const found = this.replica.findVersion(key.bytes, value.ballot);
    if (found === null) throw new Error("this version is not here any more");
    const reader = found.open();
    try {
      for (let offset = 0; offset < value.valueBytes; ) {
        // A copy: when it is sent, the disk may not be able to give it any more.
        const piece = copyOf(reader.read(offset));
        if (reader.holds?.(offset, offset + piece.length) === false) throw new VaultError("corrupt");
        offset += piece.length;
        yield piece;
      }
    } finally {
      reader.close();
    }
  }

  /** Streams a large value into an upload. */
  async fetch(key: ClusterKey, value: RemoteValue, upload: LocalUpload): Promise<void> {
    let failed: string | null = null;
    let drained: () => void = () => {};
    upload.onDrain = () => drained();
    upload.onFail = (result) => {
      failed = result.detail || (result.error ?? "failed");
      drained();
    };
    for await (const piece of this.bytesOf(key, value)) {
      const ready = new Promise<void>((resolve) => {
        drained = resolve;
      });
      if (!upload.write(piece)) await ready;
      if (failed !== null) throw new Error(failed);
    }
  }

  /** Streams a large value to another node, which then accepts it. */
  relay(
    node: string,
    key: ClusterKey,
    epoch: number,
    proposal: Proposal,
    reply: (answer: AcceptAnswer) => void,
  ): void {
    const value = proposal.payload as RemoteValue;
    const { ballot, operationLow, operationHigh, held } = proposal;
    const peer = this.setup.peerOf(node);
    if (peer === null) {
      reply(UNAVAILABLE);
      return;
    }
    const request = {
      kind: ACCEPT,
      epoch,
      key: key.bytes,
      ballot,
      operationLow,
      operationHigh,
      held,
    } as const;
    // A stream's description has no room for fields: they come with the accept of what it has staged.
    const staged = value.trailer.length > 0;
    const bare = kindOnly({ ...value, trailer: NO_TRAILER });
    const accept = encodeRequest({ ...request, staged, value: kindOnly(value) });
    peer
      .putStream(encodeRequest({ ...request, staged, value: bare }), this.bytesOf(key, value))
      .then((answer) => (staged && decodeAccepted(answer)?.kind === "yes" ? peer.send(accept) : answer))
      .then(
        (answer) => reply(decodeAccepted(answer) ?? { kind: "lost" }),
        () => reply({ kind: "lost" }),
      );
  }
}
