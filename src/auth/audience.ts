/** Whether a request that is signed for some URL is meant for this node. */
import type { OwnNames } from "../platform/own-names.ts";

/**
 * Answers a function that says why it is not, or null.
 * @param known URL by which the others know this node; null: nobody has said yet, then every name counts that
 * leads here
 */
export function audienceOf(known: () => string | null, names: OwnNames): (url: string) => string | null {
  return (url) => {
    const own = known();
    if (own === url || (own === null && names.has(url))) return null;
    return own === null
      ? `the request is signed for ${url}, which this node does not know for its own name: start it with -public-url ${url}`
      : `the request is signed for ${url}, this node is ${own} (-public-url)`;
  };
}
