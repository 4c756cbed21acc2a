/** UploadPart: a part as it comes. */

import { WRITE } from "../../auth/tokens.ts";
import { BYTES_TYPE } from "../../util/header-text.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { checksumLines, trailerOf } from "../objects/kept.ts";
import { demandLength, receiveInto } from "../objects/put-object.ts";
import { S3Error } from "../protocol/errors.ts";
import { ValueSink } from "../store/value-sink.ts";
import { demandUpload, endOfUpload, PART_NUMBER_MAX, partKey, uploadIdOf } from "./uploads.ts";

export async function uploadPart(exchange: Exchange): Promise<void> {
  const { front, body } = exchange;
  exchange.demand(WRITE, exchange.storeKey);
  const id = uploadIdOf(exchange);
  const number = partNumberOf(exchange);
  demandLength(exchange);
  body.payload.wantsMd5 = true;
  const sink = new ValueSink(front, placeOfPart(id, number), body.payload.expectedBytes);
  try {
    const received = receiveInto(exchange, sink);
    const { algorithm } = await demandUpload(exchange, id);
    const own = body.payload.algorithm;
    if (algorithm !== null && own !== null && own !== algorithm)
      throw new S3Error("InvalidRequest", `The upload was begun with ${algorithm}, and the part has ${own}.`);
    const { md5, checksum } = await received;
    const sum = { md5: md5 as Buffer, parts: 0 };
    await sink.commit(trailerOf([], sum, checksum));
    exchange.sendEmpty(200, [["ETag", `"${sum.md5.toString("hex")}"`], ...checksumLines(checksum)]);
  } finally {
    sink.close();
  }
}

/** Where a part goes, and until when. */
export function placeOfPart(id: string, number: number): ConstructorParameters<typeof ValueSink>[1] {
  return {
    key: partKey(id, number),
    contentType: BYTES_TYPE,
    life: { ttlMs: 0, expiresMs: endOfUpload(id), keep: false },
  };
}

/** @throws S3Error */
export function partNumberOf(exchange: Exchange): number {
  const text = exchange.parameter("partNumber") ?? "";
  const number = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (number < 1 || number > PART_NUMBER_MAX)
    throw new S3Error("InvalidArgument", `A part's number is from 1 to ${PART_NUMBER_MAX}.`);
  return number;
}
