/** `encoding-type`: how keys are written in lists, since XML has no character for some of them. */
import { S3Error } from "../protocol/errors.ts";
import { encodeUri } from "../signature/canonical.ts";
import type { Exchange } from "./exchange.ts";

const URL_ENCODING = "url";

export interface Encoding {
  /** As the list names it; undefined: keys stand there as they are. */
  readonly name: string | undefined;
  encode(text: string): string;
}

/**
 * What a request asks for; an empty word asks for nothing.
 * @throws S3Error InvalidArgument
 */
export function encodingOf(exchange: Exchange): Encoding {
  const name = exchange.parameter("encoding-type") ?? "";
  if (name === "") return { name: undefined, encode: (text) => text };
  if (name !== URL_ENCODING) throw new S3Error("InvalidArgument", `encoding-type is ${URL_ENCODING}.`);
  return { name, encode: (text) => encodeUri(text).replaceAll("%2F", "/") };
}
