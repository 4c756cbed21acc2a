/**
 * Changes in place: reads what there is, applies the change, and writes the result under the condition that
 * the value is still the one that was read; when another write came first, again. So a change is atomic over
 * all nodes by what conditional writes promise. Changes of one key that come to this front stand in line, and
 * each builds on the one before it without reading again.
 *
 * In a cluster, where a write takes long, those that wait together become one: each was replaced by the next
 * one before anybody could see it, and has a version of its own. Not those with conditions, nor those that
 * are to be known when they come again. And where several nodes change one key they hand their changes to one
 * of them (`handed.ts`), which would otherwise always come first: it knows the newest value first.
 */

import { withRecent } from "../../format/fields/recent.ts";
import { withoutSums } from "../../format/fields/sums.ts";
import { etagOf } from "../../format/version.ts";
import { stackOf } from "../../platform/system-error.ts";
import { conditionsHold } from "../../rules/conditions.ts";
import { NO_LIFE } from "../../rules/expiry.ts";
import { PatchConflict, PatchError } from "../../rules/patch/errors.ts";
import type { WriteHead } from "../../shards/arena/write.ts";
import { nameOf } from "../../util/bytes.ts";
import { VaultError } from "../../util/errors.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";
import { innerText, storedBytes, storedParts } from "../../value/stored.ts";
import type { FrontContext } from "../http/context.ts";
import { type Current, readCurrent } from "../reads/current.ts";
import { type MakeChange, type Patch, patchOf, type Step } from "./asked.ts";
import { type Ending, type Failed, failed, lowerEtag, refuse, replay, toldOf, type Value } from "./ending.ts";
import { handOn } from "./handed.ts";
import { type Left, Lines } from "./lines.ts";

/** Others may come first so often. */
const ATTEMPTS_MAX = 100;
/** Changes that become one write, and the bytes of what they make. */
const MERGED_MAX = 256;
const MERGED_BYTES_MAX = CHUNK_BYTES;

type Leave = (left: Left<Patch, Value>) => void;

/** Of one front, for all that change values in place: they stand in the same lines. */
export function createChanges(context: FrontContext): MakeChange {
  const enter = (patch: Patch): void => {
    if (!lines.enter(nameOf(patch.key), patch))
      patch.done(failed("overloaded", "too many changes of this key are waiting; try again"));
  };
  const lines = new Lines<Patch, Value>((line, known, leave) => {
    const elsewhere = handOn(context, line, enter);
    if (elsewhere > 0) leave({ known: null, answered: elsewhere, again: [] });
    else if (known !== null) change(context, line, known, true, leave);
    // The nearest copy, the first time: whether it is the newest one, the write's condition tells.
    else read(context, line, line[0].attempts > 0 || context.cluster === null, leave);
  });
  return (asked, done, stays = false) => {
    let patch: Patch;
    try {
      patch = patchOf(asked, stays, done);
    } catch (error) {
      done(error instanceof PatchError ? failed("bad_request", error.message) : unexpected(context, error));
      return;
    }
    enter(patch);
  };
}

/** Reads what there is, by a majority or (`isSure` false) the nearest copy, and changes it. */
function read(context: FrontContext, line: Patch[], isSure: boolean, leave: Leave): void {
  const [{ key }] = line;
  readCurrent(context, key, isSure ? "quorum" : "one", (current) => {
    const value = readValue(current);
    if (value === null || !("error" in value)) change(context, line, value, isSure, leave);
    else if (!isSure) read(context, line, true, leave);
    else {
      const patch = line.shift() as Patch;
      const end = (ending: Ending): void => answer([patch], ending, leave);
      if (current.state === "failed") end(value);
      else if (current.state === "found" && !conditionsHold(patch.asked, current.etag))
        refuse(context, patch, failed("precondition_failed", "", current.etag), end);
      else refuse(context, patch, value, end);
    }
  });
}

/** What was read, as a value; null: there is none; or why it cannot be changed. */
function readValue(current: Current): Value | Failed | null {
  if (current.state === "absent") return null;
  if (current.state === "failed") return failed(current.code, current.detail);
  const { etag, json, contentType, valueBytes } = current;
  if (valueBytes > CHUNK_BYTES)
    return failed("too_large", `a value that is changed in place has at most ${CHUNK_BYTES} bytes`, etag);
  // What the key remembers is its own affair, and sums over the value are of what it was.
  const trailer = withoutSums(withRecent(current.trailer, null));
  try {
    const bytes = current.view().slice();
    return { etag, json, contentType, trailer, bytes: json ? innerText(bytes) : bytes };
  } catch (error) {
    if (!(error instanceof VaultError)) throw error;
    return failed(error.code, error.message);
  }
}

/** Serves the first of a line, and who can be served with it. */
function change(
  context: FrontContext,
  line: Patch[],
  value: Value | null,
  isSure: boolean,
  leave: Leave,
): void {
  const [patch] = line;
  const made = make(context, patch, value);
  if (!("error" in made)) write(context, takeSteps(context, line, made), value, leave);
  else if (!isSure) read(context, line, true, leave);
  else {
    line.shift();
    refuse(context, patch, made, (ending) => answer([patch], ending, leave));
  }
}

/** What a patch makes of a value, or why nothing. */
function make(context: FrontContext, patch: Patch, value: Value | null): Step["next"] | Failed {
  const etag = value?.etag ?? null;
  if (!conditionsHold(patch.asked, etag)) return failed("precondition_failed", "", etag);
  let next: ReturnType<Patch["transform"]>;
  try {
    next = patch.transform(value);
  } catch (error) {
    // Whoever stands in line behind this one waits for its end.
    if (!(error instanceof PatchConflict)) return unexpected(context, error);
    return failed("patch_conflict", error.message, etag);
  }
  if (next === null) return failed("not_found");
  const valueBytes = next.json ? storedParts(next.bytes).valueBytes : next.bytes.length;
  if (valueBytes > Math.min(CHUNK_BYTES, context.maxValueBytes))
    return failed("too_large", `the changed value would have more than ${CHUNK_BYTES} bytes`, etag);
  return next;
}

/** A bug: the client gets a 500, and the process lives. */
function unexpected({ log }: FrontContext, error: unknown): Failed {
  log.error({ error: stackOf(error) }, "a change in place failed");
  return failed("internal");
}

/** Takes from a line those that become one write. @param next what the first one makes */
function takeSteps(context: FrontContext, line: Patch[], next: Step["next"]): Step[] {
  const first = { patch: line.shift() as Patch, next };
  const steps: Step[] = [first];
  if (context.cluster?.writes.drawsVersions !== true || !canMerge(first.patch)) return steps;
  let made = next;
  let bytes = next.bytes.length;
  while (line.length > 0 && canMerge(line[0]) && steps.length < MERGED_MAX && bytes < MERGED_BYTES_MAX) {
    // No client knows the version that it builds on.
    const then = make(context, line[0], { ...made, etag: "" });
    // It is judged by what will be there.
    if ("error" in then) break;
    steps.push({ patch: line.shift() as Patch, next: then });
    made = then;
    bytes += then.bytes.length;
  }
  return steps;
}

function canMerge({ once, asked }: Patch): boolean {
  return once === null && asked.ifMatch === "" && asked.ifNoneMatch === "";
}

/** Writes what the last step makes, under the condition that the value is the one that they began with. */
function write(context: FrontContext, steps: readonly Step[], value: Value | null, leave: Leave): void {
  const [{ patch }] = steps;
  const { key, once, asked } = patch;
  const life = value === null ? asked.life : NO_LIFE;
  const { next } = steps[steps.length - 1];
  const { json, contentType, trailer, bytes } = next;
  const head: WriteHead = {
    verb: "put",
    key: { bytes: key, length: key.length },
    json,
    contentType,
    trailer: once === null ? trailer : once.in(trailer, tellable(next)),
    life,
    ifMatch: value === null ? "" : value.etag,
    ifNoneMatch: value === null ? "*" : "",
    versions: steps.length,
  };
  const patches = steps.map((step) => step.patch);
  for (const one of patches) one.attempts++;
  const body = json ? storedBytes(bytes) : bytes;
  const isTaken = (context.cluster ?? context.vault).submit(head, body, (result) => {
    const etag = result.etag === null ? null : etagOf(result.etag);
    if (result.replayed === true) replay(context, patch, result, (ending) => answer(patches, ending, leave));
    else if (result.error === null && etag !== null) {
      const { replicas } = result;
      steps.forEach((step, index) => {
        const own = lowerEtag(etag, steps.length - 1 - index);
        const told = toldOf(step.next.json, tellable(step.next));
        const created = value === null && index === 0;
        step.patch.done({ error: null, created, etag: own, replayed: false, told, replicas });
      });
      // What a new value's end is, is not known here.
      const known = life !== NO_LIFE ? null : { ...next, etag };
      leave({ known, answered: steps.length, again: [] });
    } else if (result.error === "precondition_failed") {
      // Another write came first.
      const late = patches.filter(({ attempts }) => attempts >= ATTEMPTS_MAX);
      for (const { done } of late)
        done(failed("overloaded", "others changed the value each time; nothing was changed, try again"));
      leave({
        known: null,
        answered: late.length,
        again: patches.filter(({ attempts }) => attempts < ATTEMPTS_MAX),
      });
    } else answer(patches, failed(result.error ?? "internal", result.detail, etag), leave);
  });
  if (!isTaken) answer(patches, failed("overloaded"), leave);
}

/** What can be told of a value: JSON text, or how long it is. */
function tellable({ json, bytes }: Step["next"]): Uint8Array {
  return json ? bytes : Buffer.from(String(bytes.length));
}

/** All of these end alike, and what is there now is not known. */
function answer(patches: readonly Patch[], ending: Ending, leave: Leave): void {
  for (const { done } of patches) done(ending);
  leave({ known: null, answered: patches.length, again: [] });
}
