/** The parameters of a query that mean something to requests for one key. Pure. */

/** A cursor and a key, percent-encoded, fit. */
const QUERY_CHARACTERS_MAX = 8192;
/**
 * The parameters of a query, by which everybody reads it: so what a request is let in for is what is done. A
 * question mark in front is part of the first name (RFC 3986, section 3.4); URLSearchParams drops it.
 */
export function parametersOf(query: string): URLSearchParams {
  return new URLSearchParams(`&${query}`);
}

/**
 * Questions, which nothing else than a GET can be: what a request with one of these is meant to do must not
 * be left out in silence.
 */
const FOR_GET: ReadonlySet<string> = new Set(["list", "watch", "changes", "wait"]);
/** Whoever writes a value reads these himself. */
const OF_WRITES: ReadonlySet<string> = new Set(["ttl", "expires"]);

/**
 * Checks the query's parameters. Answers what is wrong, or null. Names this program does not know mean
 * nothing: clients add them to get past caches.
 * @param writes the request writes a value, so that it may say how long that is to live
 */
export function queryProblem(query: string, writes = false): string | null {
  if (query.length > QUERY_CHARACTERS_MAX)
    return `the query is limited to ${QUERY_CHARACTERS_MAX} characters`;
  for (const [name, value] of parametersOf(query)) {
    if (name === "consistency" && value !== "quorum" && value !== "one") {
      return "consistency is quorum or one";
    }
    if (FOR_GET.has(name)) return `${name} is for GET`;
    if (!writes && OF_WRITES.has(name)) return `${name} is for PUT, POST and PATCH`;
  }
  return null;
}

/** What a parameter says that is either there or not; null: it says neither. */
export function flagOf(value: string): boolean | null {
  if (/^(?:|1|true)$/.test(value)) return true;
  return /^(?:0|false)$/.test(value) ? false : null;
}

/** What is wrong with one that says neither. */
export function noFlag(name: string): string {
  return `${name} is either there or not; it takes no value but true and false`;
}

/** What the query says of consistency; null: nothing. */
export function consistencyOf(query: string): "quorum" | "one" | null {
  const value = parametersOf(query).get("consistency");
  return value === "quorum" || value === "one" ? value : null;
}
