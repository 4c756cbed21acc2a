/**
 * The key of `-auth`: who may read and write. Clients send it (Bearer). Compared in constant time, over
 * digests, so that neither the answer's time nor the key's length tells anything.
 */
import { hash, timingSafeEqual } from "node:crypto";
import type { Req } from "../http/http.ts";

export interface AuthSettings {
  /** The key that `Authorization: Bearer` must carry. */
  key: string;
  /** all: every request; writes: GET and HEAD are public. */
  mode: "all" | "writes";
}

const AUTHORIZATION = Buffer.from("authorization");
const SCHEME = /^bearer +/i;

/** Answers a function that says whether a request carries the key, the one that `settings` hold then. */
export function createKeyCheck(settings: AuthSettings): (req: Req) => boolean {
  if (settings.key === "") throw new Error("the auth key is empty");
  let { key } = settings;
  let expected = hash("sha256", key, "buffer");
  return (req) => {
    if (settings.key !== key) {
      key = settings.key;
      expected = hash("sha256", key, "buffer");
    }
    const header = req.getHeader(AUTHORIZATION);
    const scheme = SCHEME.exec(header);
    if (scheme === null) return false;
    // uWS gives header values as Latin-1: one character for each byte that came.
    const sent = Buffer.from(header.slice(scheme[0].length), "latin1");
    return timingSafeEqual(hash("sha256", sent, "buffer"), expected);
  };
}
