/** Leases by the commands' client, which knows certificates and several nodes, as a lock needs them. */
import { Readable } from "node:stream";
import type { LeaseStore } from "../../client/lock.ts";
import { errorOf, MinivaultError, UnknownOutcomeError } from "../../client/transport/errors.ts";
import { UsageError } from "../../config/values.ts";
import { bufferOf, NOTHING } from "../../util/bytes.ts";
import { JSON_TYPE } from "../../util/header-text.ts";
import { storedBytes } from "../../value/stored.ts";
import { bytesOf, type NodeClient, pathOf, type Question, Refused } from "../client/node-client.ts";

/** How long a node may take to renew a lock, to tell of it, or to take it back. */
const ANSWER_MS_MAX = 10_000;

/** What is longer is no lock, and is not read. */
const LOCK_BYTES_MAX = 64 * 1024;

export function leasesOf(client: NodeClient): LeaseStore {
  /** The version that an answer names. @throws MinivaultError */
  const ask = async (method: string, key: string, query: string, question: Question): Promise<Told> => {
    try {
      const answer = await client.ask(method, `${pathOf(key)}${query}`, question);
      const isLong = Number(answer.headers["content-length"]) > LOCK_BYTES_MAX;
      if (isLong) answer.body.destroy();
      return { etag: String(answer.headers.etag ?? ""), bytes: isLong ? NOTHING : await bytesOf(answer) };
    } catch (error) {
      throw error instanceof UsageError ? error : lockError(error as Error);
    }
  };
  return {
    create(key, value, { ttlMs }) {
      const body = storedBytes(Buffer.from(JSON.stringify(value)));
      const headers = { "Content-Type": JSON_TYPE, "Content-Length": String(body.length) };
      return ask("POST", key, `?ttl=${ttlMs}ms`, { headers, body: Readable.from([body]) });
    },
    async getEntry(key) {
      try {
        const { etag, bytes } = await ask("GET", key, "", { longestMs: ANSWER_MS_MAX });
        return { etag, value: valueIn(bytes) };
      } catch (error) {
        if (error instanceof MinivaultError && error.status === 404) return undefined;
        throw error;
      }
    },
    async renew(key, etag, { ttlMs, longestMs }) {
      const { etag: renewed } = await ask("PATCH", key, `?ttl=${ttlMs}ms`, {
        headers: { "If-Match": etag, "Content-Length": "0" },
        // Where a node hangs there is time for the next one.
        longestMs: Math.min(ANSWER_MS_MAX, longestMs / 2),
        mayRepeat: true,
      });
      return renewed;
    },
    release: (key, etag) =>
      ask("DELETE", key, "", { headers: { "If-Match": etag }, longestMs: ANSWER_MS_MAX, mayRepeat: true }),
  };
}

interface Told {
  etag: string;
  bytes: Uint8Array;
}

/** What is no JSON, or not in an envelope, is no lock of ours. */
function valueIn(bytes: Uint8Array): unknown {
  try {
    return (JSON.parse(bufferOf(bytes).toString()) as { value?: unknown }).value;
  } catch {
    return undefined;
  }
}

/** What was answered, or that nobody has answered, so that nobody knows. */
function lockError(error: Error): MinivaultError {
  const { message } = error;
  if (error instanceof Refused)
    return errorOf(message, { status: error.status, code: error.code ?? "bad_answer" });
  return new UnknownOutcomeError(message, { status: 0, code: "network", cause: error });
}
