/**
 * Changes in place: what becomes of a value, as a function of what it is. Pure, so that it can be tried
 * again on a newer value when another write came first.
 */
import { add, compare, type Decimal, textOf as decimalText, readDecimal } from "./decimal.ts";
import { PatchConflict, PatchError } from "./errors.ts";
import { applyJsonPatch, readJsonPatch } from "./json-patch.ts";
import { cloneOf, demandDistinct, isNumber, isString, NULL, readTree, type Tree, textOf } from "./tree.ts";

/** What there is: the text of a JSON value, or null for no value. */
export type Change = (text: string | null) => string | null;

/**
 * Reads a patch.
 * @param type "merge": RFC 7396. "operations": RFC 6902. "command": `{"increment":…}` or `{"append":…}`.
 * @returns the change: answers the new text, or null when there is no value and none can begin
 * @throws PatchError when it cannot be understood; the change throws PatchConflict where it does not fit
 */
export function readPatch(type: "merge" | "operations" | "command", source: string): Change {
  let patch: Tree;
  try {
    patch = readTree(source);
  } catch (error) {
    throw new PatchError(`the patch is not JSON: ${(error as Error).message}`);
  }
  if (type === "merge") return onValue((value) => merge(value, patch));
  if (type === "operations") {
    const steps = readJsonPatch(patch);
    return onValue((value) => applyJsonPatch(value, steps));
  }
  return readCommand(patch);
}

function onValue(change: (value: Tree) => Tree): Change {
  return (text) => (text === null ? null : textOf(change(readValue(text))));
}

function readValue(text: string): Tree {
  try {
    return readTree(text);
  } catch (error) {
    // It is JSON, or it would not be here; but deeper than what is worked with.
    throw new PatchConflict(`the value cannot be changed in place: ${(error as Error).message}`);
  }
}

/** RFC 7396, section 2. */
function merge(target: Tree, patch: Tree): Tree {
  if (patch.kind !== "object") return cloneOf(patch);
  const members = new Map(target.kind === "object" ? target.members : []);
  for (const [name, value] of patch.members) {
    if (value.kind === "leaf" && value.text === NULL.text) members.delete(name);
    else members.set(name, merge(members.get(name) ?? NULL, value));
  }
  return { kind: "object", members, names: members.size, text: null, height: 0 };
}

const COUNTER_MEMBERS: ReadonlySet<string> = new Set(["increment", "initial", "min", "max"]);

function readCommand(patch: Tree): Change {
  const members = patch.kind === "object" ? patch.members : new Map<string, Tree>();
  if (patch.kind === "object") demandDistinct(patch, "the patch");
  const value = members.get("append");
  if (value !== undefined && members.size === 1)
    return (text) => (text === null ? null : append(text, value));
  if (!members.has("increment") || [...members.keys()].some((name) => !COUNTER_MEMBERS.has(name)))
    throw new PatchError('the patch is {"increment": n, "initial": m, "min": …, "max": …} or {"append": …}');
  const number = (name: string): Decimal | null => {
    const tree = members.get(name);
    if (tree === undefined) return null;
    const decimal = isNumber(tree) ? readDecimal(tree.text) : null;
    if (decimal === null) throw new PatchError(`"${name}" is not a number, or has too many digits`);
    return decimal;
  };
  const [by, initial] = [number("increment") as Decimal, number("initial")];
  const [min, max] = [number("min"), number("max")];
  return (text) => {
    const before = text === null ? initial : counterOf(text);
    if (before === null) return null;
    const sum = add(before, by);
    if (min !== null && compare(sum, min) < 0) throw new PatchConflict("the sum would be less than min");
    if (max !== null && compare(sum, max) > 0) throw new PatchConflict("the sum would be more than max");
    const result = decimalText(sum);
    if (readDecimal(result) === null) throw new PatchConflict("the sum has too many digits");
    return result;
  };
}

function counterOf(text: string): Decimal {
  const tree = readValue(text);
  if (!isNumber(tree)) throw new PatchConflict("the value is not a number");
  const decimal = readDecimal(tree.text);
  if (decimal === null) throw new PatchConflict("the value has too many digits");
  return decimal;
}

function append(text: string, value: Tree): string {
  const tree = readValue(text);
  if (tree.kind === "array") {
    return textOf({ kind: "array", items: [...tree.items, value], text: null, height: 0 });
  }
  if (isString(tree) && isString(value)) return `${tree.text.slice(0, -1)}${value.text.slice(1)}`;
  throw new PatchConflict(
    isString(tree) ? "to a text only a text can be appended" : "the value is neither an array nor a text",
  );
}
