/**
 * What a key has now, for those who need it whole and small: from this node's vault, or by a majority of the
 * cluster.
 */
import type { Consistency } from "../../cluster/node/access.ts";
import { isInline } from "../../cluster/wire/values.ts";
import { etagOf, etagText } from "../../format/version.ts";
import type { KeyBytes } from "../../shards/arena/write.ts";
import type { Found } from "../../shards/vault/vault.ts";
import { type ErrorCode, VaultError } from "../../util/errors.ts";
import type { FrontContext } from "../http/context.ts";
import { failureOf } from "../later/failure.ts";
import { findPatiently } from "./cold-reads.ts";

/** `view`: the whole value (for JSON: of its stored form), until something else is read. */
export type Current =
  | { state: "absent" }
  | { state: "failed"; code: ErrorCode; detail: string }
  | {
      state: "found";
      /** With its quotes. */
      etag: string;
      json: boolean;
      contentType: string;
      /** What else is kept with it. */
      trailer: Uint8Array;
      valueBytes: number;
      /** When its life ends, in ms since 1970; 0: it does not. */
      end: number;
      /** Throws VaultError when it is damaged, or too large to be here. */
      view(): Uint8Array;
    };

/** Reads a key that does not change any more. `done` is called once, perhaps before this returns. */
export function readCurrent(
  context: FrontContext,
  key: Uint8Array,
  consistency: Consistency,
  done: (current: Current) => void,
): void {
  const { cluster } = context;
  if (cluster === null) {
    readHere(context, key, 1, done);
    return;
  }
  cluster.read(key, consistency, (answer) => {
    if (answer.state === "unavailable") done({ state: "failed", code: "no_quorum", detail: "" });
    else if (answer.state === "absent") done({ state: "absent" });
    else {
      const { value, ballot } = answer;
      const { json, contentType, trailer, valueBytes, end } = value;
      const view = (): Uint8Array => {
        if (!isInline(value)) throw new VaultError("too_large");
        return value.bytes;
      };
      done({ state: "found", etag: etagText(ballot), json, contentType, trailer, valueBytes, end, view });
    }
  });
}

/** Has it written down that a value has ended; then it can be told. */
function endHere(
  { vault }: FrontContext,
  key: KeyBytes,
  then: (failure: Extract<Current, { state: "failed" }> | null) => void,
): void {
  const isTaken = vault.end(key, ({ error, detail }) =>
    then(error === null ? null : { state: "failed", code: error, detail }),
  );
  if (!isTaken) then({ state: "failed", code: "overloaded", detail: "" });
}

function readHere(
  context: FrontContext,
  key: Uint8Array,
  reads: number,
  done: (current: Current) => void,
): void {
  const { vault } = context;
  const name = { bytes: key, length: key.length };
  let found: Found;
  try {
    found = findPatiently(vault, name, reads);
  } catch (error) {
    // It may be called back outside the request's handler, where nobody catches anything.
    done({ state: "failed", ...failureOf(context, error, "a value could not be read") });
    return;
  }
  if (found.state === "cold") vault.warm(() => readHere(context, key, reads + 1, done));
  else if (found.state === "ended")
    endHere(context, name, (failure) => {
      if (failure === null) readHere(context, key, reads, done);
      else done(failure);
    });
  else if (found.state === "absent") done({ state: "absent" });
  else if (found.state === "damaged") done({ state: "failed", code: "corrupt", detail: "" });
  else {
    const { json, contentType, trailer, valueBytes, end } = found;
    const view = (): Uint8Array => found.view();
    done({ state: "found", etag: etagOf(found.etag), json, contentType, trailer, valueBytes, end, view });
  }
}
