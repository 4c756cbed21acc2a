/** The parts that the completion of an upload names, as they are here. */
import type { Exchange } from "../exchange/exchange.ts";
import { S3Error } from "../protocol/errors.ts";
import { s3Checksum } from "../protocol/etag.ts";
import { allOf, type Read, textOf } from "../protocol/xml.ts";
import { factsAt, type ObjectFacts } from "../store/objects.ts";
import { PART_NUMBER_MAX, partKey } from "./uploads.ts";

const PART_BYTES_MIN = 5 * 1024 * 1024;
/** Parts that are looked up at once. */
const LOOKUPS_MAX = 100;
/** Elements that tell a part's checksum begin so; the algorithm follows in capitals. */
const SUM_PREFIX = "Checksum";

export interface Part {
  number: number;
  etag: string;
  facts: ObjectFacts;
}

/** What a client says of a part. */
interface Named {
  number: number;
  etag: string;
  sums: [element: string, sum: string][];
}

/**
 * The parts that a client names. Where it names one again right behind itself the last word counts, as with
 * parts themselves: it was sent twice, and both answers are in its list.
 */
function namedParts(document: Read): Named[] {
  const named: Named[] = [];
  for (const part of allOf(document, "Part")) {
    const text = textOf(part, "PartNumber") ?? "";
    const number = /^\d{1,5}$/.test(text) ? Number(text) : 0;
    const etag = (textOf(part, "ETag") ?? "").trim().replace(/^"|"$/g, "").toLowerCase();
    if (number < 1 || number > PART_NUMBER_MAX) throw new S3Error("InvalidPart");
    const before = named.at(-1)?.number ?? 0;
    if (number < before) throw new S3Error("InvalidPartOrder");
    if (number === before) named.pop();
    named.push({ number, etag, sums: sumsIn(part) });
  }
  if (named.length === 0)
    throw new S3Error("MalformedXML", "An upload is completed with the parts that it has.");
  return named;
}

/** The checksums that an element tells, by their elements' names; an empty one tells none. */
function sumsIn(part: Read): [string, string][] {
  return Object.keys(part)
    .filter((name) => name.startsWith(SUM_PREFIX))
    .map((name): [string, string] => [name, (textOf(part, name) ?? "").trim()])
    .filter(([, sum]) => sum !== "");
}

/** Whether a part is what was said of it. What was not kept cannot be compared, so it is not confirmed. */
function isAsNamed({ etag, sums }: Named, facts: ObjectFacts): boolean {
  const kept = s3Checksum(facts.trailer);
  const [own, text] =
    kept === null ? [] : [SUM_PREFIX + kept.name.toUpperCase(), Buffer.from(kept.sum).toString("base64")];
  return facts.etag === etag && sums.every(([name, sum]) => name === own && sum === text);
}

/**
 * The parts that a client names, as they are here: each with the ETag and the checksums that it was told, and
 * together as many bytes as it says.
 * @throws S3Error
 */
export async function partsOf(exchange: Exchange, id: string, document: Read): Promise<Part[]> {
  const { front } = exchange;
  const named = namedParts(document);
  const parts: Part[] = [];
  for (let from = 0; from < named.length; from += LOOKUPS_MAX) {
    const some = named.slice(from, from + LOOKUPS_MAX);
    const facts = await Promise.all(some.map(({ number }) => factsAt(front, partKey(id, number))));
    for (const [index, one] of some.entries()) {
      const found = facts[index];
      const { number, etag } = one;
      if (found === null || !isAsNamed(one, found))
        throw new S3Error(
          "InvalidPart",
          `Part ${number} was not found, or its ETag or checksum is another one.`,
        );
      parts.push({ number, etag, facts: found });
    }
  }
  if (parts.slice(0, -1).some(({ facts }) => facts.valueBytes < PART_BYTES_MIN))
    throw new S3Error("EntityTooSmall");
  const bytes = parts.reduce((sum, { facts }) => sum + facts.valueBytes, 0);
  const claimed = exchange.header("x-amz-mp-object-size");
  if (claimed !== "" && claimed !== String(bytes))
    throw new S3Error(
      "InvalidRequest",
      `The parts have ${bytes} bytes, and x-amz-mp-object-size is another number.`,
    );
  if (bytes > front.maxValueBytes)
    throw new S3Error("EntityTooLarge", `Objects are limited to ${front.maxValueBytes} bytes.`);
  return parts;
}
