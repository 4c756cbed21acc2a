/** What other nodes read of this one: whether it is there, what it knows of them, its layout. */
import { FROM_PARAMETER, parameterOf } from "../../cluster/identity/life.ts";
import { PEER_HELLO_PATH, PEER_PING_PATH } from "../../cluster/link/paths.ts";
import { type PeerHandler, pingAnswer } from "../../cluster/peers/peer-handler.ts";

/** The document of a path, as JSON. Throws VaultError. */
export function documentOf(handler: PeerHandler, path: string, query: string): Uint8Array {
  if (path === PEER_PING_PATH) return pingAnswer(Date.now(), handler.ownLife());
  if (path === PEER_HELLO_PATH) return handler.hello(parameterOf(query, FROM_PARAMETER) ?? "");
  return handler.readLayout();
}
