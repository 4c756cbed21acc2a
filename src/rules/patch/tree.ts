/**
 * JSON as a tree in which nothing is lost: numbers and strings keep their own text, and so does every array
 * and object that no change has touched. Pure.
 */
import { PatchConflict, PatchError } from "./errors.ts";

/**
 * `text`: the own text, as long as nothing in it has changed. `height`: containers one within the other,
 * itself among them, for as long.
 */
export type Tree = Leaf | Branch | List;

/** A number, a string, true, false or null. */
export interface Leaf {
  kind: "leaf";
  text: string;
}

export interface Branch {
  kind: "object";
  /** In their order; of a name that stands twice the last value counts. */
  members: Map<string, Tree>;
  /** How many there are in the text, those with the same name counted each. */
  names: number;
  text: string | null;
  height: number;
}

export interface List {
  kind: "array";
  items: Tree[];
  text: string | null;
  height: number;
}

export const NULL: Leaf = { kind: "leaf", text: "null" };

/** Containers in containers. */
const DEPTH_MAX = 1000;
/** What a part of a tree takes beside its characters, about. */
const PART_CHARACTERS = 8;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const SPACE = /[ \t\r\n]*/y;
/** A number, true, false or null. */
const WORD = /[-+.\w]*/y;

/** Reads a text. Throws SyntaxError when it is not JSON, or deeper than 1,000 containers. */
export function readTree(text: string): Tree {
  // The engine's own parser knows the grammar; what follows only cuts.
  JSON.parse(text);
  const reader = new Reader(text);
  return reader.value(0);
}

/**
 * The text of a tree.
 * @param depth containers that it is in
 * @throws PatchConflict where it is deeper than what can be read again
 */
export function textOf(tree: Tree, depth = 0): string {
  const height = tree.kind !== "leaf" && tree.text === null ? 1 : heightOf(tree);
  if (depth + height > DEPTH_MAX) throw tooDeep();
  if (tree.kind === "leaf" || tree.text !== null) return tree.text as string;
  if (tree.kind === "array") return `[${tree.items.map((item) => textOf(item, depth + 1)).join(",")}]`;
  const members = [...tree.members].map(
    ([name, value]) => `${JSON.stringify(name)}:${textOf(value, depth + 1)}`,
  );
  return `{${members.join(",")}}`;
}

/**
 * A tree of its own, which may be changed without the first one noticing.
 * @param spend told of the characters of each part, and what it takes beside them
 * @throws PatchConflict where it is too deep
 */
export function cloneOf(tree: Tree, spend: (characters: number) => void = () => {}, depth = 0): Tree {
  spend(PART_CHARACTERS + (tree.kind === "leaf" ? tree.text.length : 0));
  if (tree.kind === "leaf") return tree;
  if (depth >= DEPTH_MAX) throw tooDeep();
  if (tree.kind === "array")
    return { ...tree, items: tree.items.map((item) => cloneOf(item, spend, depth + 1)) };
  const members = new Map<string, Tree>();
  for (const [name, value] of tree.members) {
    spend(name.length);
    members.set(name, cloneOf(value, spend, depth + 1));
  }
  return { ...tree, members };
}

/** What is to be changed is said once: of a member that stands twice, readers differ in which one counts. */
export function demandDistinct({ members, names }: Branch, what: string): void {
  if (names > members.size) throw new PatchError(`${what} has a member twice`);
}

function tooDeep(): PatchConflict {
  return new PatchConflict(`the changed value would be deeper than ${DEPTH_MAX} arrays and objects`);
}

export function isNumber(tree: Tree): tree is Leaf {
  return tree.kind === "leaf" && /^[-\d]/.test(tree.text);
}

export function isString(tree: Tree): tree is Leaf {
  return tree.kind === "leaf" && tree.text.startsWith('"');
}

function heightOf(tree: Tree): number {
  return tree.kind === "leaf" ? 0 : tree.height;
}

/** Cuts a text that is known to be JSON. */
class Reader {
  private readonly source: string;
  private at = 0;

  constructor(source: string) {
    this.source = source;
  }

  value(depth: number): Tree {
    this.skipSpace();
    const start = this.at;
    const first = this.source[start];
    if (depth === DEPTH_MAX && (first === "{" || first === "["))
      throw new SyntaxError(`it is deeper than ${DEPTH_MAX} arrays and objects`);
    if (first === "{") return this.object(start, depth);
    if (first === "[") return this.array(start, depth);
    if (first === '"') this.skipString();
    else this.skip(WORD);
    return { kind: "leaf", text: this.source.slice(start, this.at) };
  }

  private object(start: number, depth: number): Branch {
    const members = new Map<string, Tree>();
    let names = 0;
    let height = 1;
    this.at++;
    for (this.skipSpace(); this.source[this.at] !== "}"; this.skipComma()) {
      const from = this.at;
      this.skipString();
      const name = JSON.parse(this.source.slice(from, this.at)) as string;
      this.skipSpace();
      this.at++;
      const value = this.value(depth + 1);
      members.set(name, value);
      names++;
      height = Math.max(height, 1 + heightOf(value));
    }
    this.at++;
    return { kind: "object", members, names, text: this.source.slice(start, this.at), height };
  }

  private array(start: number, depth: number): List {
    const items: Tree[] = [];
    let height = 1;
    this.at++;
    for (this.skipSpace(); this.source[this.at] !== "]"; this.skipComma()) {
      const item = this.value(depth + 1);
      items.push(item);
      height = Math.max(height, 1 + heightOf(item));
    }
    this.at++;
    return { kind: "array", items, text: this.source.slice(start, this.at), height };
  }

  private skipComma(): void {
    this.skipSpace();
    if (this.source[this.at] === ",") this.at++;
    this.skipSpace();
  }

  private skipSpace(): void {
    this.skip(SPACE);
  }

  private skip(pattern: RegExp): void {
    pattern.lastIndex = this.at;
    pattern.test(this.source);
    this.at = pattern.lastIndex;
  }

  private skipString(): void {
    this.at++;
    for (let code = this.source.charCodeAt(this.at); code !== QUOTE; code = this.source.charCodeAt(this.at))
      this.at += code === BACKSLASH ? 2 : 1;
    this.at++;
  }
}
