/**
 * The routes between nodes, /_peer/*: who may use them, and what they do. They work on this node's own data;
 * only what is handed on to it, writes and changes in place, it does with the help of others.
 *
 * With a key only signed requests pass (src/auth/signature.ts), and nothing of a body reaches the handler
 * before it is checked: a batch as a whole, a stream piece by piece. Their answers are signed, too, refusals
 * included. Without a key they are open, as the rest of the node is. A client's Bearer key opens nothing
 * here. Bodies being received are bounded, over all connections, by PEER_RECEIVING_BYTES_MAX.
 */

import { type RequestVerifier, STREAMED_BODY } from "../../auth/signature.ts";
import { parameterOf } from "../../cluster/identity/life.ts";
import { NAME_PARAMETER, PEER_BATCH_PATH, PEER_VALUE_PATH } from "../../cluster/link/paths.ts";
import type { PeerHandler } from "../../cluster/peers/peer-handler.ts";
import { LAYOUT_BYTES_MAX, PEER_BATCH_BYTES_MAX, PEER_HEAD_BYTES_MAX } from "../../util/limits.ts";
import type { FrontContext } from "../http/context.ts";
import type { Handlers, Req, Res } from "../http/http.ts";
import { refuse } from "../http/linger.ts";
import { sendError, statusLine } from "../http/reply.ts";
import { Batches, BYTES_HEAD, type TakeFrame } from "./batch.ts";
import { documentOf } from "./documents.ts";
import { PeerBodies } from "./exchange.ts";
import { PeerGate } from "./peer-gate.ts";
import { PeerUpload } from "./peer-upload.ts";
import { refusalOf } from "./refusal.ts";
import { sendValue } from "./value-answer.ts";

const JSON_HEAD = Buffer.from(
  `${statusLine(200)}\r\nContent-Type: application/json\r\nCache-Control: no-store`,
);

export interface PeerRoutes {
  handler: PeerHandler;
  /** null: there is no key, and the routes are open. */
  verifier: RequestVerifier | null;
  /** Makes a change in place that another node has handed on. */
  takeChange: TakeFrame;
}

/** The handlers of everything below /_peer/. */
export function createPeerRoutes(context: FrontContext, given: PeerRoutes): Handlers {
  const { handler, verifier, takeChange } = given;
  const gate = new PeerGate(context, handler, verifier);
  const bodies = new PeerBodies(context, (reason) => gate.refused(reason));
  const batches = new Batches(handler, takeChange);

  const read = (given: Res, req: Req): void => {
    const admitted = gate.admit(given, req, "GET");
    if (admitted === null) return;
    const { res, path, query } = admitted;
    try {
      const document = documentOf(handler, path, query);
      res.writeStatus(JSON_HEAD);
      res.end(document);
    } catch (error) {
      const { code, options } = refusalOf(context, error);
      sendError(res, code, options);
    }
  };

  const post = (res: Res, req: Req): void => {
    const admitted = gate.admit(res, req, "POST");
    if (admitted === null) return;
    const { path, query, genuine } = admitted;
    const signed = genuine === null || verifier === null ? null : { verifier, genuine };
    if (path === PEER_BATCH_PATH)
      bodies.receive(admitted, PEER_BATCH_BYTES_MAX, (body, exchange) =>
        batches.take(body, exchange, parameterOf(query, NAME_PARAMETER)),
      );
    else if (path === PEER_VALUE_PATH)
      bodies.receive(admitted, PEER_HEAD_BYTES_MAX, (head, exchange) =>
        exchange.handOver((answer) => sendValue(context, handler, answer, head, BYTES_HEAD, signed)),
      );
    else
      bodies.receive(admitted, LAYOUT_BYTES_MAX, (body, exchange) =>
        handler.takeLayout(body, (document) => exchange.answer(JSON_HEAD, document)),
      );
  };

  const put = (given: Res, req: Req): void => {
    const admitted = gate.admit(given, req, "PUT");
    if (admitted === null) return;
    const { res, bodyBytes, genuine } = admitted;
    if (genuine !== null && genuine.body !== STREAMED_BODY) {
      refuse(res, "unauthorized", bodyBytes, { detail: "a value is signed piece by piece" });
      return;
    }
    const upload = new PeerUpload(context, res, (head) => handler.openSink(head), genuine);
    res.onAborted(() => upload.aborted());
    if (bodyBytes === 0) upload.data(new ArrayBuffer(0), true);
    else res.onData((chunk, last) => upload.data(chunk, last));
  };

  const other = (res: Res, req: Req): void => {
    // No path has these methods, so this answers.
    gate.admit(res, req, req.getCaseSensitiveMethod());
  };
  return { get: read, head: other, post, put, delete: other, other };
}
