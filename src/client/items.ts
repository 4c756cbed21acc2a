/** What lists and watches say of a key. */
import type { ListItem, ListOptions, ListPrefix } from "./options/options.ts";
import { pathOf, queryOf } from "./transport/paths.ts";
import type { Requests } from "./transport/requests.ts";
import { bytesOfBase64, decoded } from "./transport/values.ts";

/** As it stands in an answer. */
export interface RawItem {
  key: string;
  /** Without quotes. */
  etag: string;
  bytes: number;
  type: string;
  ttl?: number;
  value?: unknown;
  base64?: string;
}

interface Page {
  keys: RawItem[];
  prefixes: string[];
  cursor: string | null;
}

export function itemOf({ key, etag, bytes, type, ttl, value, base64 }: RawItem): ListItem {
  const item: ListItem = { key, etag: `"${etag}"`, bytes, type, ttl: ttl ?? null };
  if (base64 !== undefined) item.value = decoded(bytesOfBase64(base64), type);
  else if (value !== undefined) item.value = value;
  return item;
}

/**
 * Pages of a list, one request each; a request that fails is sent again, to another node where there is one.
 */
export async function* list(
  requests: Requests,
  prefix: string,
  options: ListOptions,
): AsyncGenerator<ListItem | ListPrefix, void, void> {
  const { signal, ...parameters } = options;
  for (let cursor: string | null = null; ; ) {
    const path = `${pathOf("_kv", prefix)}${queryOf({ list: true, ...parameters, cursor })}`;
    const { bytes } = await requests.send({ method: "GET", path, signal });
    const page = JSON.parse(new TextDecoder().decode(bytes)) as Page;
    // In one order, as they stand in the store.
    const keys: (ListItem | ListPrefix)[] = page.keys.map(itemOf);
    const all = page.prefixes.length === 0 ? keys : merged(keys, page.prefixes, options.reverse === true);
    yield* all;
    if (page.cursor === null) return;
    cursor = page.cursor;
  }
}

function merged(
  items: (ListItem | ListPrefix)[],
  prefixes: string[],
  isReverse: boolean,
): (ListItem | ListPrefix)[] {
  const all = [...items, ...prefixes.map((prefix) => ({ prefix }))];
  const nameOf = (item: ListItem | ListPrefix): string => ("key" in item ? item.key : item.prefix);
  return all.sort((a, b) => compareCodePoints(nameOf(a), nameOf(b)) * (isReverse ? -1 : 1));
}

/** The order of bytes in UTF-8 is that of code points, which is not that of JavaScript's texts. */
function compareCodePoints(a: string, b: string): number {
  const left = [...a];
  const right = [...b];
  for (let index = 0; index < Math.min(left.length, right.length); index++) {
    const difference = (left[index].codePointAt(0) as number) - (right[index].codePointAt(0) as number);
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}

/** How many keys begin with a prefix. */
export async function count(
  requests: Requests,
  prefix: string,
  { signal, consistency }: Pick<ListOptions, "signal" | "consistency">,
): Promise<number> {
  let sum = 0;
  for (let cursor: string | null = null; ; ) {
    const path = `${pathOf("_kv", prefix)}${queryOf({ list: true, count: true, consistency, cursor })}`;
    const { bytes } = await requests.send({ method: "GET", path, signal });
    const page = JSON.parse(new TextDecoder().decode(bytes)) as { count: number; cursor: string | null };
    sum += page.count;
    if (page.cursor === null) return sum;
    cursor = page.cursor;
  }
}
