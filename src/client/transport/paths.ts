/** Keys as paths, and queries. */

/** How a key is asked for: `_kv` as everywhere, `_raw` without the envelope of JSON. */
export type Form = "_kv" | "_raw";

/**
 * The path of a key, or of a prefix. Whoever normalises URLs takes segments "." and ".." for a way, however
 * they are encoded: a key that has one travels as a single segment.
 */
export function pathOf(form: Form, key: string): string {
  const segments = key.split("/");
  const isPlain = key !== "" && !segments.some((segment) => segment === "." || segment === "..");
  if (isPlain) return `/${form}/${segments.map(encode).join("/")}`;
  return key === "" ? `/${form}/` : `/${form}%2F${encode(key)}`;
}

function encode(text: string): string {
  try {
    return encodeURIComponent(text);
  } catch {
    throw new TypeError(`the key ${JSON.stringify(text)} is no valid Unicode text`);
  }
}

/** A parameter's value; true: it is there without one; false and undefined: it is not. */
export type Parameter = string | number | boolean | null | undefined;

/** A query with its question mark, or "". */
export function queryOf(parameters: Readonly<Record<string, Parameter>>): string {
  const parts: string[] = [];
  for (const [name, value] of Object.entries(parameters)) {
    if (value === undefined || value === null || value === false) continue;
    parts.push(value === true ? name : `${name}=${encodeURIComponent(String(value))}`);
  }
  return parts.length === 0 ? "" : `?${parts.join("&")}`;
}

/** A time to live for a query: a number is seconds; a text is as the server takes it, such as "5m". */
export function ttlText(ttl: number | string | undefined): string | undefined {
  if (ttl === undefined || typeof ttl === "string") return ttl;
  if (!(ttl > 0)) throw new RangeError("ttl is a number of seconds above 0");
  // Never a power of ten, which the server does not read.
  return `${Math.max(1, Math.ceil(ttl * 1000))}ms`;
}

/** A moment for a query. */
export function momentText(moment: Date | number | undefined): string | undefined {
  if (moment === undefined) return undefined;
  return typeof moment === "number" ? String(moment) : moment.toISOString();
}
