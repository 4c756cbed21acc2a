/** What becomes of a write, as its client is told. */
import { writeEtag } from "../../format/version.ts";
import type { WriteHead, WriteResult } from "../../shards/arena/write.ts";
import type { ClusterTime } from "../clock/cluster-time.ts";
import type { RegisterResult } from "../register/requests.ts";

export const FAILED: WriteResult = { error: null, detail: "", created: false, deleted: false, etag: null };

/** A clock that is off by less is right, for a person. */
const NO_SKEW_MS = 1000;

/** Whose clock may be off. */
interface Clock {
  readonly time: ClusterTime;
  readonly self: string;
}

/** @param etag scratch for the version, of which the result has a view */
export function resultOf(
  verb: WriteHead["verb"],
  { outcome, ballot, existed, replicas, reason, replayed }: RegisterResult,
  etag: Uint8Array,
  clock: Clock,
): WriteResult {
  const result: WriteResult = {
    error: null,
    detail: "",
    created: false,
    deleted: false,
    etag: null,
    replicas,
    replayed: replayed != null,
  };
  if (ballot !== null && outcome !== "unknown_outcome") {
    writeEtag(etag, ballot.clockLow, ballot.clockHigh, ballot.node, ballot.incarnation);
    result.etag = etag;
  }
  if (outcome === "done") {
    result.created = verb !== "delete" && !existed;
    result.deleted = verb === "delete" && existed;
    if (replayed != null) result.detail = Buffer.from(replayed).toString("latin1");
  } else if (outcome === "no_quorum" && reason === "full") result.error = "disk_full";
  else if (outcome === "no_quorum" && reason === "key_refused") result.error = reason;
  else if (outcome === "no_quorum" && reason === "ahead") {
    result.error = "clock_ahead";
    result.detail = clockDetail(clock);
  } else result.error = outcome;
  return result;
}

function clockDetail({ time, self }: Clock): string {
  const refused = "other nodes refuse the write's version, which is too far ahead of their time";
  const skewMs = time.skewMs();
  if (time.agreed && Math.abs(skewMs) < NO_SKEW_MS)
    return `${refused}; the clock of ${self} agrees with theirs by now: try again`;
  const seconds = (Math.abs(skewMs) / 1000).toFixed(1);
  const known = time.agreed ? "what the nodes agree on" : "what it last knew of the others";
  return `${refused}; the clock of ${self} is ${seconds} s ${skewMs < 0 ? "behind" : "ahead of"} ${known}: set it right, or try again when it has heard of them`;
}
