/**
 * The Cache-Control of a value that ends: no cache may show it when it is over. What its owner has said
 * stands as far as that allows.
 */

/** Seconds for which an answer may be shown without asking. */
const FRESHNESS = /^(max-age|s-maxage)$/i;
/** Seconds for which it may be shown after that. */
const STALENESS = /^(stale-while-revalidate|stale-if-error)$/i;
/** With one of these nothing is shown without asking, or kept at all. */
const CAUTION = /^(no-cache|no-store)$/i;

/**
 * The directives as they are sent.
 * @param leftMs of the value's life
 */
export function cappedCaching(text: string, leftMs: number): string {
  const leftSeconds = Math.floor(leftMs / 1000);
  let isBound = false;
  const directives = splitDirectives(text).map((directive) => {
    const [name, value = ""] = directive.split("=", 2).map((part) => part.trim());
    if (STALENESS.test(name)) return `${name}=0`;
    if (CAUTION.test(name)) isBound = true;
    if (!FRESHNESS.test(name)) return directive;
    if (/^max-age$/i.test(name)) isBound = true;
    const digits = value.replaceAll('"', "");
    // What is no number says nothing that could be relied on.
    return `${name}=${/^\d+$/.test(digits) ? Math.min(Number(digits), leftSeconds) : 0}`;
  });
  // Caches may guess how long, by the age of a value.
  return (isBound ? directives : [...directives, `max-age=${leftSeconds}`]).join(", ");
}

/** At its commas, but not those in quotes. */
function splitDirectives(text: string): string[] {
  const parts = text.match(/(?:[^,"]|"(?:[^"\\]|\\.)*"?)+/g) ?? [];
  return parts.map((part) => part.trim()).filter((part) => part !== "");
}
