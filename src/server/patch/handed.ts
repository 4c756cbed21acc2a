/**
 * Changes in place that are made by another node: while several nodes change a key, one of them makes all
 * changes, in one line. Which one is a hint (cluster/node/hot-keys.ts): what is made here and there at once
 * races as before.
 */

import { PeerError } from "../../cluster/peers/peer-error.ts";
import { NOTHING } from "../../util/bytes.ts";
import { ERRORS, type ErrorCode } from "../../util/errors.ts";
import { PEER_FRAME_BYTES_MAX } from "../../util/limits.ts";
import type { FrontContext } from "../http/context.ts";
import type { TakeFrame } from "../peers/batch.ts";
import type { MakeChange, Patch } from "./asked.ts";
import { type Ending, type Failed, failed } from "./ending.ts";
import {
  decodeChange,
  decodeChanged,
  encodeChange,
  encodeChanged,
  type HandedEnding,
} from "./handed-frame.ts";

/** Bodies of all changes that other nodes have handed on. */
const HANDED_BYTES_MAX = 32 * 1024 * 1024;
const NOT_MADE = failed("no_quorum");
const LOST = failed("unknown_outcome");
/** Of errors that say that nothing has happened, those that say nothing of what is there. */
const NOTHING_CHANGED: ReadonlySet<ErrorCode> = new Set(["no_quorum", "overloaded", "unavailable"] as const);

/**
 * Hands on those at the head of a line that another node should make.
 * @param stay what surely was not made there is made here
 * @returns how many
 */
export function handOn({ cluster }: FrontContext, line: Patch[], stay: (patch: Patch) => void): number {
  if (cluster === null || line[0].stays) return 0;
  const { writes } = cluster;
  const peer = writes.elsewhere(line[0].key);
  if (peer === null) return 0;
  let count = 0;
  for (; count < line.length && !line[count].stays; count++) {
    const patch = line[count];
    const frame = encodeChange(patch.asked, writes.writer);
    const end = (ending: Ending): void => {
      // What is known when it comes again may come again.
      const isUnknown = ending.error === "unknown_outcome" && patch.once !== null;
      if (ending.error === "no_quorum") stay({ ...patch, stays: true });
      else if (isUnknown) stay({ ...patch, stays: true, done: (last) => patch.done(openEnded(last)) });
      else patch.done(ending);
    };
    if (frame.length > PEER_FRAME_BYTES_MAX) end(NOT_MADE);
    else
      peer.handOn(frame).then(
        (answer) => {
          const changed = decodeChanged(answer);
          if (changed?.shared === true) writes.shared(patch.key);
          end(changed === null ? LOST : endingOf(changed));
        },
        (error: unknown) => end(failureOf(error)),
      );
  }
  line.splice(0, count);
  return count;
}

/** The end of a change that another node may have made, or may make yet. */
function openEnded(ending: Ending): Ending {
  return ending.error !== null && NOTHING_CHANGED.has(ending.error) ? LOST : ending;
}

function failureOf(error: unknown): Failed {
  return error instanceof PeerError && error.outcome === "not_sent" ? NOT_MADE : LOST;
}

function endingOf({ error, detail, etag, created, replayed, replicas, told }: HandedEnding): Ending {
  if (error !== null) return error in ERRORS ? failed(error as ErrorCode, detail, etag) : LOST;
  return { error, created, etag: etag ?? "", replayed, told, replicas };
}

/** Makes what other nodes hand on. */
export function createTakeChange(context: FrontContext, change: MakeChange): TakeFrame {
  let bytes = 0;
  return (frame, reply) => {
    // The frame is gone when the change has its turn.
    const handed = decodeChange(Uint8Array.from(frame));
    if (handed === null || context.cluster === null) {
      reply(answerOf(NOT_MADE, false));
      return;
    }
    const { key, body, writer } = handed;
    const shared = context.cluster.writes.begins(key, writer);
    if (bytes + body.length > HANDED_BYTES_MAX) {
      reply(answerOf(failed("overloaded"), shared));
      return;
    }
    bytes += body.length;
    const end = (ending: Ending): void => {
      bytes -= body.length;
      reply(answerOf(ending, shared));
    };
    change(handed, end, true);
  };
}

function answerOf(ending: Ending, shared: boolean): Uint8Array {
  const isDone = ending.error === null;
  return encodeChanged({
    error: ending.error,
    detail: isDone ? "" : ending.detail,
    etag: ending.etag,
    created: isDone && ending.created,
    replayed: isDone && ending.replayed,
    replicas: isDone ? (ending.replicas ?? 0) : 0,
    shared,
    told: isDone ? ending.told : NOTHING,
  });
}
