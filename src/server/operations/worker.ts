/** All that can be asked of a worker, by what it was started with. */

import { METHODS, type Operation } from "../describe/operation.ts";
import { header, JSON_TYPE } from "../describe/shapes.ts";
import { ADMIN_OPERATIONS } from "./admin.ts";
import { BATCH_OPERATIONS } from "./batch.ts";
import { CONSOLE_OPERATIONS } from "./console.ts";
import { FEED_OPERATIONS } from "./feed.ts";
import { LIST_OPERATIONS, MKV_LIST_OPERATIONS } from "./list.ts";
import { PATCH_OPERATIONS } from "./patch.ts";
import { RAW_OPERATIONS } from "./raw.ts";
import { MKV_READ_OPERATIONS, READ_OPERATIONS } from "./reads.ts";
import { METRICS_OPERATION, STATUS_OPERATIONS, workerRoot } from "./status.ts";
import { TRANSFER_OPERATIONS } from "./transfer.ts";
import { UNSTORAGE_OPERATIONS } from "./unstorage.ts";
import { MKV_WRITE_OPERATIONS, WRITE_OPERATIONS } from "./writes.ts";

export const OPENAPI_PATH = "/_openapi.json";

/** What of a node's options makes a difference. */
export interface OfferedBy {
  compat?: "none" | "mkv";
  /** Whether each of these is there. */
  metrics: boolean;
  console: boolean;
  backup: boolean;
}

export const OPENAPI_OPERATION: Operation = {
  ...{ id: "openapi", group: "Node", methods: ["GET", "HEAD"], paths: [OPENAPI_PATH], needs: ["none"] },
  summary: "This document",
  parameters: [header("If-None-Match", "304 where it is as the client knows it.")],
  answers: {
    200: {
      text: "OpenAPI 3.1.",
      headers: ["ETag", "Cache-Control"],
      content: { [JSON_TYPE]: { type: "object" } },
    },
    304: { text: "It is as the client knows it.", headers: ["ETag", "Cache-Control"] },
  },
  errors: [],
};

export function workerOperations({ compat = "none", metrics, console, backup }: OfferedBy): Operation[] {
  const isMkv = compat === "mkv";
  return [
    ...(isMkv ? MKV_READ_OPERATIONS : READ_OPERATIONS),
    ...(isMkv ? MKV_WRITE_OPERATIONS : WRITE_OPERATIONS),
    ...PATCH_OPERATIONS,
    ...RAW_OPERATIONS,
    ...(isMkv ? MKV_LIST_OPERATIONS : LIST_OPERATIONS),
    ...FEED_OPERATIONS,
    ...UNSTORAGE_OPERATIONS,
    ...BATCH_OPERATIONS,
    ...TRANSFER_OPERATIONS,
    workerRoot(console),
    ...STATUS_OPERATIONS,
    ...(metrics ? [METRICS_OPERATION] : []),
    ...(console ? CONSOLE_OPERATIONS : []),
    ...(backup ? ADMIN_OPERATIONS : []),
    OPENAPI_OPERATION,
  ];
}

/** The methods of each path, as `Allow` has them. */
export function methodsByPath(operations: readonly Operation[]): ReadonlyMap<string, string> {
  const known = new Map<string, Set<string>>();
  for (const { paths, methods, answers } of operations) {
    // One that is only refused is none.
    if (Object.keys(answers).length === 0) continue;
    for (const path of paths) {
      const there = known.get(path) ?? new Set();
      for (const method of methods) there.add(method);
      known.set(path, there);
    }
  }
  return new Map(
    [...known].map(([path, there]) => [path, METHODS.filter((method) => there.has(method)).join(", ")]),
  );
}
