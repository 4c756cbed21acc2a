/** Batches of frames: many operations of another node in one request, and their answers in one. */

import { joinFrames, splitFrames } from "../../cluster/peers/frames.ts";
import type { PeerHandler } from "../../cluster/peers/peer-handler.ts";
import { NOTHING } from "../../util/bytes.ts";
import { BYTES_TYPE } from "../../util/header-text.ts";
import {
  PEER_ANSWERING_BYTES_MAX,
  PEER_ANSWERS_BYTES_MAX,
  PEER_BATCH_FRAMES_MAX,
} from "../../util/limits.ts";
import { statusLine } from "../http/reply.ts";
import type { Exchange } from "./exchange.ts";
import { NamedBatches } from "./named-batches.ts";

export const BYTES_HEAD = Buffer.from(`${statusLine(200)}\r\nContent-Type: ${BYTES_TYPE}`);

/** First byte of a frame with a change in place that another node hands on. All others are the cluster's. */
export const HANDED_CHANGE = 35;

/** Takes a frame, which is valid during the call, and answers it now or later. */
export type TakeFrame = (frame: Uint8Array, reply: (answer: Uint8Array) => void) => void;

export class Batches {
  private readonly handler: PeerHandler;
  private readonly takeChange: TakeFrame;
  private readonly named = new NamedBatches();
  /** What answers take that are being made or sent. */
  private answeringBytes = 0;

  /** @param takeChange makes a change in place that another node has handed on */
  constructor(handler: PeerHandler, takeChange: TakeFrame) {
    this.handler = handler;
    this.takeChange = takeChange;
  }

  /**
   * Hands the frames of a body to the handler, and answers once all are answered.
   * @param name of what must not be done twice; null: it has none
   */
  take(body: Uint8Array, exchange: Exchange, name: string | null = null): void {
    const frames = splitFrames(body, PEER_BATCH_FRAMES_MAX);
    if (frames === null) {
      exchange.refuse("bad_request", { detail: "the lengths of the frames do not add up" });
      return;
    }
    const send = (answer: Uint8Array): void => exchange.answer(BYTES_HEAD, answer);
    if (frames.length === 0) {
      send(NOTHING);
      return;
    }
    if (name !== null && !this.named.begins(name, send)) return;
    const answers = new Array<Uint8Array>(frames.length);
    let missing = frames.length;
    let answerBytes = 0;
    let takenBytes = 0;
    const room = {
      take: (bytes: number): boolean => {
        const fits =
          !exchange.over &&
          takenBytes + bytes <= PEER_ANSWERS_BYTES_MAX &&
          this.answeringBytes + bytes <= PEER_ANSWERING_BYTES_MAX;
        if (fits) {
          takenBytes += bytes;
          this.answeringBytes += bytes;
        }
        return fits;
      },
    };
    exchange.onOver = () => {
      this.answeringBytes -= takenBytes;
      takenBytes = 0;
    };
    const answer = (index: number, bytes: Uint8Array) => {
      if (answers[index] !== undefined) throw new Error("a frame was answered twice");
      answers[index] = bytes;
      answerBytes += bytes.length;
      if (--missing !== 0) return;
      const all = joinFrames(answers, answerBytes);
      if (name !== null) this.named.ended(name, all);
      send(all);
    };
    for (let index = 0; index < frames.length; index++) {
      const reply = (bytes: Uint8Array): void => answer(index, bytes);
      if (frames[index][0] === HANDED_CHANGE) this.takeChange(frames[index], reply);
      else this.handler.frame(frames[index], reply, room);
    }
  }
}
