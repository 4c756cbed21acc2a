/** The answer of a batch: the texts of its results as bytes, made a part at a time. */
import { JSON_TYPE } from "../../util/header-text.ts";
import type { Res } from "../http/http.ts";
import { statusLine } from "../http/reply.ts";
import type { Turns } from "./turns.ts";

/** Characters of a part, about: a result more may be in it. */
const PART_LENGTH = 64 * 1024;

/** JSON has them between its parts only, where a blank does as well. */
const LINE_ENDS = /[\r\n]/g;

/** Makes an answer's body of the results' texts, in the form in which the operations came. */
export function bodyOf(turns: Turns, results: readonly string[], isLines: boolean): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const parts: Uint8Array[] = [];
    let next = 0;
    turns.add(() => {
      const from = next;
      for (let length = 0; next < results.length && length < PART_LENGTH; next++)
        length += results[next].length;
      const isLast = next === results.length;
      const part = results.slice(from, next);
      parts.push(Buffer.from(isLines ? linesOf(part) : jsonOf(part, from === 0, isLast), "utf8"));
      if (isLast) resolve(parts.length === 1 ? parts[0] : Buffer.concat(parts));
      return !isLast;
    }, reject);
  });
}

function linesOf(part: readonly string[]): string {
  return part.map((result) => `${result.replaceAll(LINE_ENDS, " ")}\n`).join("");
}

function jsonOf(part: readonly string[], isFirst: boolean, isLast: boolean): string {
  const start = isFirst ? '{"success":true,"results":[' : ",";
  return `${start}${part.join(",")}${isLast ? "]}\n" : ""}`;
}

/** Sends an answer. Answers its status. */
export function send(res: Res, body: Uint8Array, isLines: boolean): number {
  const type = isLines ? "application/x-ndjson" : JSON_TYPE;
  res.writeStatus(`${statusLine(200)}\r\nContent-Type: ${type}\r\nCache-Control: no-store`);
  res.end(body);
  return 200;
}
