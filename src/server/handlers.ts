/**
 * Which part of the front takes which request of a client.
 */
import type { RunBackup } from "../shards/backup/backups.ts";
import { createBackup } from "./admin/backup.ts";
import { createBatch } from "./batch/batch.ts";
import type { Feeds } from "./feed/feeds.ts";
import { type FrontContext, targetOf } from "./http/context.ts";
import type { Handlers } from "./http/http.ts";
import { lengthToTake, refuse } from "./http/linger.ts";
import { type ReservedPosts, reservedPost } from "./http/reserved.ts";
import { TARGET_BATCH, TARGET_KEY, TARGET_RAW, TARGET_RESERVED } from "./http/target.ts";
import { createDeletion } from "./list/deletion.ts";
import { createLists } from "./list/lists.ts";
import { createMkvHead } from "./mkv/head.ts";
import { createMkvLists } from "./mkv/lists.ts";
import type { OtherTargets } from "./other-targets.ts";
import type { MakeChange } from "./patch/asked.ts";
import { createPatch } from "./patch/patch.ts";
import { createRaw } from "./raw/raw.ts";
import { createClusterReads } from "./reads/cluster-reads.ts";
import { type AnswerQuery, createReads } from "./reads/reads.ts";
import { OTHER } from "./status/meter.ts";
import { createExport } from "./transfer/export.ts";
import { createImport } from "./transfer/import.ts";
import { createUnstorage } from "./unstorage/unstorage.ts";
import { createReceive, createWrites, type TakeOther } from "./writes/writes.ts";

/** What of a front's options they depend on. */
export interface HandlerOptions {
  compat?: "none" | "mkv";
  /** There, where the node may be one of a cluster. */
  cluster?: unknown;
  backup?: RunBackup;
}

export function handlersOf(
  context: FrontContext,
  options: HandlerOptions,
  others: OtherTargets,
  feeds: Feeds,
  change: MakeChange,
): Handlers {
  const ownLists = createLists(context);
  const lists = options.compat === "mkv" ? createMkvLists(context, ownLists) : ownLists;
  const exporting = createExport(context);
  const receive = createReceive(context);
  const raw = createRaw(context, receive);
  const unstorage = createUnstorage(context, receive);
  const answerQuery: AnswerQuery = (res, req, query, target, head) => {
    if (target === TARGET_RESERVED) return exporting(res, query, head);
    if (target < TARGET_RAW)
      return lists(res, req, query, target, head) || feeds.answer(res, req, query, target, head);
    if (target === TARGET_RAW) raw.read(res, req, head);
    else unstorage.read(res, req, target, head);
    return true;
  };
  const local = createReads(context, others.answer, answerQuery);
  const reads =
    options.cluster === undefined ? local : createClusterReads(context, local, others.answer, answerQuery);
  const batch = createBatch(context, change);
  const importing = createImport(context);
  const takeOther: TakeOther = (verb, res, req, target) => {
    if (target === TARGET_RESERVED) return verb === "put" && importing(res, req);
    if (target > TARGET_RAW) return unstorage.write(verb, res, req, target);
    if (target === TARGET_RAW) raw.write(verb, res, req, target);
    else if (target === TARGET_BATCH && verb === "post") batch(res, req);
    else return false;
    return true;
  };
  const writes = createWrites(context, receive, others.refusalOf, takeOther);
  const posts: ReservedPosts = new Map([["_delete", createDeletion(context)]]);
  if (options.backup !== undefined) posts.set("_admin/backup", createBackup(context, options.backup));
  const patch = createPatch(context, change);
  return {
    ...reads,
    ...(options.compat === "mkv" ? { head: createMkvHead(context, reads.head) } : {}),
    ...writes,
    post: (res, req) => (reservedPost(context, req, posts) ?? writes.post)(res, req),
    other: (res, req) => {
      const method = req.getCaseSensitiveMethod();
      if (targetOf(context, req) === TARGET_KEY && method === "PATCH") {
        patch(res, req);
        return;
      }
      if (raw.lock(res, req)) return;
      const declared = lengthToTake(context.meter, OTHER, res, req);
      if (declared === null) return;
      const { code, options: errorOptions } = others.refusalOf(targetOf(context, req), method);
      context.meter.count(OTHER, refuse(res, code, declared, errorOptions));
    },
  };
}
