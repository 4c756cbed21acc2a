/**
 * The headers of answers, each with its meaning. What every answer has, such as `Date`, is not among them.
 */
import type { Schema } from "./schema.ts";

interface HeaderFacts {
  text: string;
  schema: Schema;
}

const text = { type: "string" } as const;

export const HEADERS = {
  ETag: { text: "The version, in quotes.", schema: { type: "string", pattern: '^"[0-9a-f]+"$' } },
  "Last-Modified": { text: "The version's time; never later than `Date`.", schema: text },
  "Accept-Ranges": { text: "Parts of the value can be asked for.", schema: { const: "bytes" } },
  "Content-Range": { text: "Which bytes of how many come; of a 416 only how many there are.", schema: text },
  "Content-Encoding": { text: "As it was stored with the value.", schema: text },
  "Content-Language": { text: "As it was stored with the value.", schema: text },
  "Content-Disposition": {
    text: "As it was stored with the value; of an export, a file's name.",
    schema: text,
  },
  "Cache-Control": {
    text: "`no-cache`, or what was stored with the value, its `max-age` capped by `X-TTL`; `no-store` for what is of the moment.",
    schema: text,
  },
  "X-TTL": {
    text: "Seconds that are left of the value's life; absent: it does not end.",
    schema: { type: "string", pattern: "^\\d+\\.\\d{3}$" },
  },
  "X-Content-Type-Options": {
    text: "No browser takes the value for another type.",
    schema: { const: "nosniff" },
  },
  "Content-Security-Policy": {
    text: "`sandbox`, where the type is not plainly inert; of the console, its own.",
    schema: text,
  },
  "X-Accel-Buffering": { text: "Keeps a proxy from holding events back.", schema: { const: "no" } },
  "X-Minivault-Replicas": {
    text: "On a node of a cluster: how many replicas hold what is answered.",
    schema: { type: "string", pattern: "^\\d+$" },
  },
  "X-Minivault-Region": { text: "On a node of a cluster: the region that answers.", schema: text },
  "Idempotency-Replayed": {
    text: "The write was done before, under the same `Idempotency-Key`; absent: it was not.",
    schema: { const: "true" },
  },
  "Retry-After": {
    text: "Seconds to wait before the next try.",
    schema: { type: "string", pattern: "^\\d+$" },
  },
  "WWW-Authenticate": { text: "What is to be sent as `Authorization`.", schema: text },
  Allow: { text: "The methods that the path has.", schema: text },
  "Accept-Encoding": { text: "Which encodings are taken.", schema: { const: "identity" } },
  Location: { text: "Where it is.", schema: text },
  "Content-Md5": {
    text: "With `-compat mkv`, of a HEAD: MD5 of the value, in hex, where it has at most 1 MiB.",
    schema: { type: "string", pattern: "^[0-9a-f]{32}$" },
  },
  "Referrer-Policy": { text: "Links from the console do not say where they are.", schema: text },
  "Cross-Origin-Opener-Policy": { text: "Other pages do not reach into the console.", schema: text },
} as const satisfies Record<string, HeaderFacts>;

export type HeaderName = keyof typeof HEADERS;
