/** What a client's write asks of what is there, as the coordinator judges it. Pure. */
import type { Ballot } from "../../format/record.ts";
import { etagText } from "../../format/version.ts";
import { conditionsHold } from "../../rules/conditions.ts";
import type { WriteHead } from "../../shards/arena/write.ts";
import type { Payload } from "../register/ports.ts";
import type { Change, Refusal, RegisterWrite } from "../register/requests.ts";
import type { Terms } from "../wire/hand-on.ts";
import { type StoredValue, touchedValue, withLife } from "../wire/values.ts";

export function termsOf({ verb, life, ifMatch, ifNoneMatch, versions = 1 }: WriteHead): Terms {
  const how = verb === "touch" ? "touch" : life.keep ? "keep" : "own";
  return { create: verb === "post", life: how, ifMatch, ifNoneMatch, versions };
}

/** The judge of a write that depends on what is there; null: it does not. */
export function judgeOf({ create, life, ifMatch, ifNoneMatch }: Terms): RegisterWrite["condition"] {
  if (!create && life === "own" && ifMatch === "" && ifNoneMatch === "") return null;
  return (exists: boolean, version: Ballot | null): Refusal | null => {
    if (life === "touch" && !exists) return "not_found";
    const etag = exists && version !== null ? etagText(version) : null;
    if (!conditionsHold({ ifMatch, ifNoneMatch }, etag)) return "precondition_failed";
    return create && exists ? "exists" : null;
  };
}

/**
 * How a value is made of what is there; null: it is not.
 * @param payload its value, or, of a touch, one that only has the new end
 */
export function changeOf({ life }: Terms, payload: Payload): Change | null {
  if (life === "own") return null;
  if (life === "keep") return { kind: life, make: (end) => withLife(payload as StoredValue, end) };
  const { end = 0 } = payload;
  return {
    kind: life,
    make: (value, base, isHeld) => touchedValue(value as StoredValue, end, base, isHeld),
  };
}

/** The value that is there, as it is, at another version. */
export function again(value: Payload, base: Ballot, isHeld: boolean): Payload {
  return touchedValue(value as StoredValue, value.end ?? 0, base, isHeld);
}
