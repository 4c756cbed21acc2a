/**
 * What HTTP's rules of framing (RFC 9112) ask of requests, and where a parser that this program runs on is known to do something else. The table is the only
 * place that makes exceptions: what it does not name is a failure.
 */

/** A malformed request is refused at once, or it is taken for an incomplete one: no answer, until the client or the idle timer ends it. */
export type Malformed = "refused" | "silent";

export interface ParserRules {
  /** As `-version` names it. */
  name: string;
  /** A request line that comes in pieces, cut behind the method or in the version at its end, is a 505. */
  refusesRequestLineInPieces: boolean;
  /** A head without any header; a folded header; a blank in front of the colon. */
  malformedHead: Malformed;
  /** An empty line in front of a request line; a carriage return alone in a header. */
  strayLineEnd: Malformed;
  /** Answers that are not sent yet when it refuses a request behind theirs, on the same connection, are lost: the refusal comes in place of them. */
  losesAnswersBeforeRefusal: boolean;
  /** Chunk sizes that are empty or have wrong digits, and a missing line end behind a chunk, may pass. */
  laxChunks: boolean;
}

const OLDER: ParserRules = {
  name: "uWebSockets.js of uws-pack",
  refusesRequestLineInPieces: true,
  malformedHead: "silent",
  strayLineEnd: "silent",
  losesAnswersBeforeRefusal: true,
  laxChunks: true,
};
const NEWER: ParserRules = {
  ...OLDER,
  name: "uWebSockets.js",
  refusesRequestLineInPieces: false,
  malformedHead: "refused",
};

/** @param version what `-version` prints */
export function rulesOf(version: string): ParserRules {
  const rules = [OLDER, NEWER].find(({ name }) => version.includes(name));
  if (rules === undefined) throw new Error(`no rules are known for the parser of ${version}`);
  return rules;
}

/** Cuts, counted from the start of a request, that may be answered 505. */
export function isCutRefused(rules: ParserRules, request: Buffer, cut: number): boolean {
  if (!rules.refusesRequestLineInPieces) return false;
  const version = request.indexOf(" HTTP/1.1") + 1;
  return cut === request.indexOf(" ") + 1 || (cut >= version && cut < version + "HTTP/1.1\r\n".length);
}
