/** DeleteObjects: up to a thousand at once, each with its own outcome. */

import { REMOVE } from "../../auth/tokens.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { knownError, S3Error } from "../protocol/errors.ts";
import { storeKey } from "../protocol/names.ts";
import { allOf, type Elements, readDocument, textOf } from "../protocol/xml.ts";
import { removeUnder } from "./delete-object.ts";

const KEYS_MAX = 1000;
/** The longest keys, of characters that XML writes as five. */
const BODY_BYTES_MAX = 8 * 1024 * 1024;
/** Deletes that are under way at once. */
const UNDER_WAY_MAX = 64;

export async function deleteObjects(exchange: Exchange): Promise<void> {
  const { asked, context, body } = exchange;
  // Whoever has a token is told of each object whether it may.
  if (asked.caller.name === null) exchange.denied();
  const document = readDocument(await body.whole(BODY_BYTES_MAX), "Delete");
  const objects = allOf(document, "Object");
  if (objects.length === 0 || objects.length > KEYS_MAX)
    throw new S3Error("MalformedXML", `One request deletes 1 to ${KEYS_MAX} objects.`);
  const isQuiet = textOf(document, "Quiet")?.trim().toLowerCase() === "true";
  const keys = objects.map((object) => {
    const key = textOf(object, "Key");
    if (key === null || key === "") throw new S3Error("MalformedXML", "Each Object has a Key.");
    if (textOf(object, "LastModifiedTime") !== null || textOf(object, "Size") !== null)
      throw new S3Error("NotImplemented", "The one condition of a delete is an ETag.");
    const version = textOf(object, "VersionId");
    if (version !== null && version !== "null")
      throw new S3Error("NotImplemented", "There are no versions here.");
    return { key, ifMatch: textOf(object, "ETag") ?? "" };
  });
  await context.buckets.demand(asked.bucket);
  // From here on each delete is noted, and not the request.
  exchange.notes?.own();
  const results: Elements[] = new Array(keys.length);
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < keys.length) {
      const index = next++;
      results[index] = await remove(exchange, keys[index].key, keys[index].ifMatch);
    }
  };
  await Promise.all(Array.from({ length: Math.min(UNDER_WAY_MAX, keys.length) }, work));
  exchange.sendXml("DeleteResult", {
    Deleted: isQuiet ? [] : results.filter((result) => !("Code" in result)),
    Error: results.filter((result) => "Code" in result),
  });
}

async function remove(exchange: Exchange, key: string, ifMatch: string): Promise<Elements> {
  const { bucket } = exchange.asked;
  let status = 204;
  try {
    const name = storeKey(bucket, key);
    exchange.demand(REMOVE, name);
    await removeUnder(exchange, name, { ifMatch, ifNoneMatch: "" });
    return { Key: key };
  } catch (error) {
    const { code, message, status: refused } = knownError(error) ?? new S3Error("InternalError");
    status = refused;
    return { Key: key, Code: code, Message: message };
  } finally {
    exchange.notes?.also("DELETE", `/${bucket}/${encodeURIComponent(key)}`, status);
  }
}
