/**
 * What a write's headers say, read in one pass over them: to ask uWS for each of these by its name costs as
 * much, and names that only begin in a known way (`X-Meta-…`) cannot be asked for. A list header that came in
 * several lines is one list (RFC 9110, section 5.3); of any other the first line counts, as it does for uWS,
 * also an empty one.
 */
import { META_PREFIX, type MetadataLine } from "../../format/fields/metadata.ts";
import { EMPTY_LIST } from "../../rules/conditions.ts";
import { HOSTS_DIFFER, LENGTHS_DIFFER } from "../http/body-length.ts";
import type { Req } from "../http/http.ts";
import { IDEMPOTENCY_KEY } from "../once/once.ts";

const LETTER_C = 0x63;
const LETTER_H = 0x68;
const LETTER_I = 0x69;
const LETTER_T = 0x74;
const LETTER_X = 0x78;

/** One object serves all requests: valid until the next `read`. Empty: there is no such header. */
export class HeadLines {
  /** null: there is no line. */
  contentLength: string | null = null;
  /** What is wrong with lengths and host, as a sentence (body-length.ts); null: nothing. */
  problem: string | null = null;
  transferEncoding: string | null = null;
  transferLines = 0;
  contentType = "";
  contentRange = "";
  contentEncoding = "";
  ifMatch = "";
  ifNoneMatch = "";
  ifUnmodifiedSince = "";
  /** All its lines: there should be one. */
  idempotencyKey: string[] = [];
  contentLanguage = "";
  /** All its lines: there should be one. */
  contentDisposition: string[] = [];
  cacheControl = "";
  /** The client's own, in their order; a name that came in several lines once. */
  meta: MetadataLine[] = [];
  private hosts = 0;

  read(req: Req): void {
    this.contentLength = this.transferEncoding = null;
    this.transferLines = 0;
    this.problem = null;
    this.hosts = 0;
    this.contentType = this.contentRange = "";
    this.contentEncoding = this.ifMatch = this.ifNoneMatch = this.ifUnmodifiedSince = "";
    this.contentLanguage = this.cacheControl = "";
    if (this.contentDisposition.length > 0) this.contentDisposition = [];
    if (this.meta.length > 0) this.meta = [];
    if (this.idempotencyKey.length > 0) this.idempotencyKey = [];
    req.forEach(this.take);
  }

  private readonly take = (name: string, value: string): void => {
    switch (name.charCodeAt(0)) {
      case LETTER_C:
        this.takeContent(name, value);
        break;
      case LETTER_H:
        if (name === "host" && ++this.hosts > 1) this.problem ??= HOSTS_DIFFER;
        break;
      case LETTER_I:
        if (name === "if-match") this.ifMatch = joined(this.ifMatch, value || EMPTY_LIST);
        else if (name === "if-none-match") this.ifNoneMatch = joined(this.ifNoneMatch, value || EMPTY_LIST);
        else if (name === "if-unmodified-since")
          this.ifUnmodifiedSince = joined(this.ifUnmodifiedSince, value);
        else if (name === IDEMPOTENCY_KEY) this.idempotencyKey.push(value);
        break;
      case LETTER_T:
        if (name !== "transfer-encoding") break;
        this.transferEncoding ??= value;
        this.transferLines++;
        break;
      case LETTER_X:
        if (name.startsWith(META_PREFIX)) this.takeMeta(name, value);
    }
  };

  private takeContent(name: string, value: string): void {
    switch (name) {
      case "content-length":
        this.contentLength ??= value;
        if (this.contentLength !== value || value === "") this.problem = LENGTHS_DIFFER;
        break;
      case "content-type":
        if (this.contentType === "") this.contentType = value;
        break;
      case "content-range":
        this.contentRange = value;
        break;
      case "content-encoding":
        this.contentEncoding = joined(this.contentEncoding, value);
        break;
      case "content-language":
        this.contentLanguage = joined(this.contentLanguage, value);
        break;
      case "content-disposition":
        if (value !== "") this.contentDisposition.push(value);
        break;
      case "cache-control":
        this.cacheControl = joined(this.cacheControl, value);
    }
  }

  private takeMeta(name: string, value: string): void {
    const at = this.meta.findIndex(([known]) => known === name);
    if (at < 0) this.meta.push([name, value]);
    else this.meta[at] = [name, joined(this.meta[at][1], value)];
  }
}

function joined(before: string, value: string): string {
  if (value === "") return before;
  return before === "" ? value : `${before}, ${value}`;
}
