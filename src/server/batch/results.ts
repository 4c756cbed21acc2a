/** The results of a batch's operations, as they stand in its answer. Pure. */
import { etagOf } from "../../format/version.ts";
import type { WriteResult } from "../../shards/arena/write.ts";
import { ERRORS, type ErrorCode } from "../../util/errors.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";
import type { Ending } from "../patch/ending.ts";

/** A result's text, and its status. */
export interface Told {
  text: string;
  status: number;
}

/** Of all results of a batch: a batch can name one large value ten thousand times. */
const RESULTS_BYTES_MAX = 32 * 1024 * 1024;
/** Of all batches of a front that are not answered yet. Their texts and bytes take some times as much. */
const ALL_BYTES_MAX = 128 * 1024 * 1024;

/** What the results of a front's batches take. */
export interface AllResults {
  bytes: number;
}

/** What the results of a batch take. */
export class ResultsRoom {
  private readonly all: AllResults;
  private bytes = 0;

  constructor(all: AllResults) {
    this.all = all;
  }

  /** What this batch's results may still have. */
  get left(): number {
    return RESULTS_BYTES_MAX - this.bytes;
  }

  take(bytes: number): void {
    this.bytes += bytes;
    this.all.bytes += bytes;
  }

  /** Its results are answered. */
  release(): void {
    this.all.bytes -= this.bytes;
    this.bytes = 0;
  }

  /** Why a value cannot be among the results; null: it can. */
  refusal(valueBytes: number): Told | null {
    if (valueBytes > this.left)
      return told("too_large", "the results of this batch are too large; ask for the rest in another one");
    if (this.all.bytes + valueBytes <= ALL_BYTES_MAX) return null;
    return told("overloaded", "other batches have all memory that there is for results; ask again");
  }
}

/** What a value is told that is too large. */
export const TOO_LARGE = `a batch gives values of at most ${CHUNK_BYTES} bytes; GET it alone`;

/** A refusal. @param etag with its quotes */
export function told(code: ErrorCode, detail = "", etag: string | null = null): Told {
  return { text: refusal(code, detail, etag), status: ERRORS[code].status };
}

export function refusal(code: ErrorCode, detail = "", etag: string | null = null): string {
  const { status, message } = ERRORS[code];
  const error = JSON.stringify(detail === "" ? message : detail);
  const version = etag === null ? "" : `"etag":${etag},`;
  return `{"status":${status},"success":false,${version}"error":${error},"code":"${code}"}`;
}

export function statusOf(verb: string, { error, created }: WriteResult): number {
  if (error !== null) return ERRORS[error].status;
  return verb !== "delete" && created ? 201 : 200;
}

/** What became of a write. */
export function written(verb: string, result: WriteResult, status: number): string {
  const etag = result.etag === null ? null : etagOf(result.etag);
  if (result.error !== null) return refusal(result.error, result.detail, etag);
  const version = etag === null ? "" : `,"etag":${etag}`;
  const replayed = result.replayed === true ? ',"replayed":true' : "";
  const effect = verb === "delete" ? `"deleted":${result.deleted}` : `"created":${result.created}`;
  return `{"status":${status},"success":true,${effect}${version}${replayed}}`;
}

/**
 * What became of a change in place.
 * @param bytesLeft what the results may still have
 */
export function changed(ending: Ending, bytesLeft: number): Told {
  if (ending.error !== null) return told(ending.error, ending.detail, ending.etag);
  const { created, etag, replayed: isReplay, told: about } = ending;
  const status = created ? 201 : 200;
  // It was done, and that is said; its value can be had alone.
  const fits = about.length > 0 && about.length <= bytesLeft;
  const known = fits ? `,${Buffer.from(about).toString("utf8")}` : "";
  const replayed = isReplay ? ',"replayed":true' : "";
  const text = `{"status":${status},"success":true,"created":${created},"etag":${etag}${known}${replayed}}`;
  return { text, status };
}
