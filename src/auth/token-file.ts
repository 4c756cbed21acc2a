/**
 * The file of clients' tokens: one JSON object a line, which says what the holder of a token may do. Of the
 * token itself it holds the SHA-256 alone, so whoever reads the file cannot use what is in it (but for lines
 * made for S3, whose signatures need the secret). Pure: text to records, or a sentence that names the line.
 *
 *   {"name":"reader","sha256":"<64 hex digits>","prefix":["a/"],"allow":["read","list"]}
 *
 * Empty lines, and lines that begin with "#", say nothing. What a line does not allow is denied. A member
 * with a name that is not known is an error: a slip of the pen in a rule of access must not go unnoticed.
 */

/** What a token can be allowed, in the order of their bits. */
export const PERMISSIONS = ["read", "list", "write", "delete", "watch", "metrics", "admin"] as const;
export type Permission = (typeof PERMISSIONS)[number];

/** Tokens in one file. */
export const TOKENS_MAX = 10_000;
const TOKEN_PREFIXES_MAX = 100;
const TOKEN_FILE_BYTES_MAX = 8 * 1024 * 1024;
const NAME_CHARACTERS_MAX = 128;
const RATE_MAX = 1_000_000;
const MILLIS_PER_SECOND = 1000;

/** One line, checked. Plain data: it can be sent to other threads. */
export interface TokenRecord {
  name: string;
  /** Of the token's text, in small hexadecimal digits. */
  sha256: string;
  /** Keys that begin with one of these; "" is all of them. Empty: none. */
  prefix: readonly string[];
  allow: readonly Permission[];
  /** null: as many as there are. */
  requestsPerSecond: number | null;
  /** From then on it opens nothing, in milliseconds since 1970; null: never. */
  expiresMs: number | null;
  /** For signatures of S3; null: it is not for S3. */
  s3: { accessKey: string; secretKey: string } | null;
  /** Where its rate is counted, in memory that all front threads share: below TOKENS_MAX. */
  slot: number;
}

const MEMBERS: ReadonlySet<string> = new Set([
  ...["name", "sha256", "prefix", "allow", "requestsPerSecond", "expires", "accessKey", "secretKey"],
]);

/**
 * Reads a whole file.
 * @throws Error with a sentence for a person, which never holds what stands in the file
 */
export function parseTokens(text: string): TokenRecord[] {
  if (text.length > TOKEN_FILE_BYTES_MAX)
    throw new Error(`it is larger than ${TOKEN_FILE_BYTES_MAX / 2 ** 20} MiB`);
  const records: TokenRecord[] = [];
  const lineOf = new Map<string, number>();
  for (const [index, line] of text
    .replace(/^\ufeff/, "")
    .split(/\r?\n/)
    .entries()) {
    if (line.trim() === "" || line.trimStart().startsWith("#")) continue;
    const number = index + 1;
    try {
      const record = parseToken(line, records.length);
      for (const mark of [record.sha256, ...(record.s3 === null ? [] : [record.s3.accessKey])]) {
        const other = lineOf.get(mark);
        if (other !== undefined) throw new Error(`it is the token of line ${other} again`);
        lineOf.set(mark, number);
      }
      records.push(record);
    } catch (error) {
      throw new Error(`line ${number}: ${(error as Error).message}`);
    }
    if (records.length > TOKENS_MAX) throw new Error(`it holds more than ${TOKENS_MAX} tokens`);
  }
  return records;
}

function parseToken(line: string, slot: number): TokenRecord {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new Error("it is no JSON");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new Error("it is no JSON object");
  const members = value as Record<string, unknown>;
  const unknown = Object.keys(members).find((name) => !MEMBERS.has(name));
  if (unknown !== undefined)
    throw new Error(`nothing is known by the name ${JSON.stringify(unknown.slice(0, 40))}`);
  const { name, sha256, prefix = [], allow = [], requestsPerSecond = null, expires = null } = members;
  if (typeof name !== "string" || name === "" || name.length > NAME_CHARACTERS_MAX || /\p{Cc}/u.test(name))
    throw new Error(`"name" is a text of 1 to ${NAME_CHARACTERS_MAX} characters`);
  if (typeof sha256 !== "string" || !/^[0-9a-f]{64}$/i.test(sha256))
    throw new Error('"sha256" is the SHA-256 of the token, 64 hexadecimal digits');
  return {
    name,
    sha256: sha256.toLowerCase(),
    prefix: readPrefixes(prefix),
    allow: readPermissions(allow),
    requestsPerSecond: readRate(requestsPerSecond),
    expiresMs: expires === null ? null : readMoment(expires),
    s3: readS3(members),
    slot,
  };
}

function readPrefixes(value: unknown): string[] {
  const isList = Array.isArray(value) && value.length <= TOKEN_PREFIXES_MAX;
  if (!isList || !value.every((one) => typeof one === "string"))
    throw new Error(`"prefix" is a list of at most ${TOKEN_PREFIXES_MAX} texts that keys begin with`);
  if (value.some((one) => /\p{Surrogate}/u.test(one)))
    throw new Error('"prefix" holds half of a surrogate pair');
  return [...new Set(value as string[])];
}

function readPermissions(value: unknown): Permission[] {
  if (!Array.isArray(value) || !value.every((one) => PERMISSIONS.includes(one)))
    throw new Error(`"allow" is a list of ${PERMISSIONS.map((one) => `"${one}"`).join(", ")}`);
  return [...new Set(value as Permission[])];
}

function readRate(value: unknown): number | null {
  if (value === null) return null;
  if (typeof value !== "number" || !(value >= 1 && value <= RATE_MAX))
    throw new Error(`"requestsPerSecond" is a number from 1 to ${RATE_MAX}`);
  return value;
}

/** Seconds since 1970, or a date of RFC 3339; answers milliseconds. */
function readMoment(value: unknown): number {
  if (typeof value === "number" && Number.isFinite(value) && value >= 0) return value * MILLIS_PER_SECOND;
  const isDate =
    typeof value === "string" &&
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/i.test(value);
  const millis = isDate ? Date.parse(value) : Number.NaN;
  if (Number.isNaN(millis))
    throw new Error('"expires" is in seconds since 1970, or a date such as "2027-01-31T12:00:00Z"');
  return millis;
}

function readS3({ accessKey, secretKey }: Record<string, unknown>): TokenRecord["s3"] {
  if (accessKey === undefined && secretKey === undefined) return null;
  const isKey = (text: unknown, least: number): text is string =>
    typeof text === "string" && text.length >= least && /^[\x21-\x7e]{1,128}$/.test(text);
  if (!isKey(accessKey, 3) || !isKey(secretKey, 16))
    throw new Error('"accessKey" and "secretKey" come together, as minivault token -s3 makes them');
  return { accessKey, secretKey };
}

/**
 * Gives the tokens of a file that was read again the slots that they had, so that who has used up a rate
 * does not get it anew by a change of the file.
 */
export function keepSlots(fresh: readonly TokenRecord[], before: readonly TokenRecord[]): TokenRecord[] {
  const slots = new Map(before.map(({ sha256, slot }) => [sha256, slot]));
  const taken = new Set(fresh.flatMap(({ sha256 }) => slots.get(sha256) ?? []));
  let next = 0;
  return fresh.map((record) => {
    let slot = slots.get(record.sha256);
    if (slot === undefined) {
      while (taken.has(next)) next++;
      slot = next;
      taken.add(slot);
    }
    return { ...record, slot };
  });
}
