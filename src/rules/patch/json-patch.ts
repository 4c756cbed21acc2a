/** RFC 6902: operations on places in a value, which RFC 6901 names. Pure; all of them happen, or none. */
import { CHUNK_BYTES } from "../../util/limits.ts";
import { areEqual } from "./decimal.ts";
import { PatchConflict, PatchError } from "./errors.ts";
import { cloneOf, demandDistinct, isNumber, isString, type Leaf, type Tree } from "./tree.ts";

const INDEX = /^(?:0|[1-9]\d*)$/;

/**
 * What a patch may copy in all, in characters: a few short operations that copy a value into itself would
 * otherwise make one of any size, long before anybody looks at what comes of it.
 */
const COPIED_CHARACTERS_MAX = 4 * CHUNK_BYTES;
/**
 * And what else it may cost, in items of arrays that move to make room and characters of numbers that are
 * compared: a fraction of a second, in which nobody else is served.
 */
const STEPS_MAX = 128 * 1024 * 1024;
/** A character of a number costs as much as so many items. */
const NUMBER_STEPS = 8;

interface Step {
  op: string;
  path: string[];
  from: string[] | null;
  value: Tree | null;
}

/** Reads a patch. Throws PatchError when it is none. */
export function readJsonPatch(patch: Tree): Step[] {
  if (patch.kind !== "array") throw new PatchError("a JSON patch is an array of operations");
  return patch.items.map((item, index) => readStep(item, `operation ${index + 1}`));
}

function readStep(item: Tree, what: string): Step {
  if (item.kind !== "object") throw new PatchError(`${what} is not an object`);
  demandDistinct(item, what);
  const text = (name: string): string => {
    const value = item.members.get(name);
    if (value === undefined || !isString(value)) throw new PatchError(`${what} has no text "${name}"`);
    return JSON.parse(value.text) as string;
  };
  const op = text("op");
  const value = item.members.get("value") ?? null;
  switch (op) {
    case "add":
    case "replace":
    case "test":
      if (value === null) throw new PatchError(`${what} has no "value"`);
      return { op, path: pointer(text("path"), what), from: null, value };
    case "remove":
      return { op, path: pointer(text("path"), what), from: null, value: null };
    case "move":
    case "copy": {
      const step = { op, path: pointer(text("path"), what), from: pointer(text("from"), what), value: null };
      if (op === "move" && isBelow(step.path, step.from))
        throw new PatchError(`${what} moves a value into itself`);
      return step;
    }
    default:
      throw new PatchError(`${what}: "op" is add, remove, replace, move, copy or test`);
  }
}

/** The names on the way to a place. */
function pointer(text: string, what: string): string[] {
  if (text === "") return [];
  if (!text.startsWith("/") || /~(?![01])/.test(text))
    throw new PatchError(`${what}: ${JSON.stringify(text)} is no JSON pointer`);
  return text
    .slice(1)
    .split("/")
    .map((name) => name.replaceAll("~1", "/").replaceAll("~0", "~"));
}

function isBelow(path: string[], from: string[]): boolean {
  return path.length > from.length && from.every((name, index) => path[index] === name);
}

/** Counts down from `max`; what goes beyond is refused. */
function allowance(max: number, sentence: string): Spend {
  let left = max;
  return (cost) => {
    left -= cost;
    if (left < 0) throw new PatchConflict(sentence);
  };
}

type Spend = (cost: number) => void;

/** The changed value; the given one stays as it is. Throws PatchConflict where it does not fit. */
export function applyJsonPatch(value: Tree, steps: readonly Step[]): Tree {
  const copy = allowance(COPIED_CHARACTERS_MAX, "the patch copies too much: it may copy some 4 MiB in all");
  const step = allowance(STEPS_MAX, "the patch takes too long: send it in parts");
  let root = cloneOf(value);
  for (const { op, path, from, value: operand } of steps) {
    if (op === "test") {
      if (!isEqual(at(root, path), operand as Tree, step))
        throw new PatchConflict(`the value at ${shown(path)} is another one than the patch tests for`);
    } else if (op === "remove") root = remove(root, path, step);
    else if (op === "replace") {
      at(root, path);
      root = path.length === 0 ? cloneOf(operand as Tree) : replace(root, path, cloneOf(operand as Tree));
    } else if (op === "add") root = insert(root, path, cloneOf(operand as Tree), step);
    else if (op === "copy") root = insert(root, path, cloneOf(at(root, from as string[]), copy), step);
    else root = move(root, from as string[], path, step);
  }
  return root;
}

function move(root: Tree, from: string[], path: string[], step: Spend): Tree {
  const moved = at(root, from);
  if (from.length === path.length && from.every((name, index) => path[index] === name)) return root;
  return insert(remove(root, from, step), path, moved, step);
}

function shown(path: readonly string[]): string {
  const text = path.map((name) => `/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
  return text === "" ? "the top" : text;
}

/**
 * What is at a place.
 * @param visit called with everything on the way, and with it
 */
function at(root: Tree, path: readonly string[], visit: (tree: Tree) => void = () => {}): Tree {
  let tree = root;
  visit(tree);
  for (const [depth, name] of path.entries()) {
    const child =
      tree.kind === "object"
        ? tree.members.get(name)
        : tree.kind === "array" && INDEX.test(name)
          ? tree.items[Number(name)]
          : undefined;
    if (child === undefined)
      throw new PatchConflict(`there is nothing at ${shown(path.slice(0, depth + 1))}`);
    tree = child;
    visit(tree);
  }
  return tree;
}

/** The container of a place; all on the way to it are going to be changed. */
function containerOf(root: Tree, path: readonly string[]): Tree {
  return at(root, path.slice(0, -1), (tree) => {
    if (tree.kind !== "leaf") tree.text = null;
  });
}

function remove(root: Tree, path: string[], step: Spend): Tree {
  if (path.length === 0) throw new PatchConflict("the whole value cannot be removed: DELETE does that");
  at(root, path);
  const container = containerOf(root, path);
  const name = path[path.length - 1];
  if (container.kind === "object") container.members.delete(name);
  else if (container.kind === "array") {
    step(container.items.length - Number(name));
    container.items.splice(Number(name), 1);
  }
  return root;
}

function replace(root: Tree, path: string[], value: Tree): Tree {
  const container = containerOf(root, path);
  const name = path[path.length - 1];
  if (container.kind === "object") container.members.set(name, value);
  else if (container.kind === "array") container.items[Number(name)] = value;
  return root;
}

function insert(root: Tree, path: string[], value: Tree, step: Spend): Tree {
  if (path.length === 0) return value;
  const container = containerOf(root, path);
  const name = path[path.length - 1];
  if (container.kind === "object") container.members.set(name, value);
  else if (container.kind === "array") {
    const index = name === "-" ? container.items.length : INDEX.test(name) ? Number(name) : -1;
    if (index < 0 || index > container.items.length)
      throw new PatchConflict(`there is no place ${shown(path)} in an array of ${container.items.length}`);
    step(container.items.length - index);
    container.items.splice(index, 0, value);
  } else throw new PatchConflict(`${shown(path.slice(0, -1))} is neither an object nor an array`);
  return root;
}

/** Equality as RFC 6902, section 4.6, has it: numbers by their value, members in any order. */
function isEqual(a: Tree, b: Tree, step: Spend): boolean {
  if (a.kind === "leaf" || b.kind === "leaf")
    return a.kind === "leaf" && b.kind === "leaf" && areLeavesEqual(a, b, step);
  if (a.kind === "array")
    return (
      b.kind === "array" &&
      a.items.length === b.items.length &&
      a.items.every((item, index) => isEqual(item, b.items[index], step))
    );
  if (b.kind !== "object" || a.members.size !== b.members.size) return false;
  for (const [name, value] of a.members) {
    const other = b.members.get(name);
    if (other === undefined || !isEqual(value, other, step)) return false;
  }
  return true;
}

function areLeavesEqual(a: Leaf, b: Leaf, step: Spend): boolean {
  if (a.text === b.text) return true;
  if (isString(a) && isString(b)) return JSON.parse(a.text) === JSON.parse(b.text);
  if (!isNumber(a) || !isNumber(b)) return false;
  step(NUMBER_STEPS * (a.text.length + b.text.length));
  return areEqual(a.text, b.text);
}
