/**
 * Which part of the front takes which request of a client.
 */
import type { RunBackup } from "../shards/backup/backups.ts";
import { createBackup } from "./admin/backup.ts";
import { createBatch } from "./batch/batch.ts";
import type { Feeds } from "./feed/feeds.ts";
import { declaredBytes } from "./http/body-length.ts";
import { type FrontContext, targetOf } from "./http/context.ts";
import type { Handlers } from "./http/http.ts";
import { refuse } from "./http/linger.ts";
import { type ReservedPosts, reservedPost } from "./http/reserved.ts";
import { TARGET_KEY, TARGET_RESERVED } from "./http/target.ts";
import { createDeletion } from "./list/deletion.ts";
import { createLists } from "./list/lists.ts";
import { createMkvLists } from "./list/mkv-lists.ts";
import type { OtherTargets } from "./other-targets.ts";
import { createPatch } from "./patch/patch.ts";
import { createClusterReads } from "./reads/cluster-reads.ts";
import { type AnswerQuery, createReads } from "./reads/reads.ts";
import { OTHER } from "./status/meter.ts";
import { createExport } from "./transfer/export.ts";
import { createImport } from "./transfer/import.ts";
import { createWrites } from "./writes/writes.ts";

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
): Handlers {
  const ownLists = createLists(context);
  const lists = options.compat === "mkv" ? createMkvLists(context, ownLists) : ownLists;
  const exporting = createExport(context);
  const answerQuery: AnswerQuery = (res, req, query, target, head) =>
    target === TARGET_RESERVED
      ? exporting(res, query, head)
      : lists(res, req, query, target, head) || feeds.answer(res, req, query, target, head);
  const local = createReads(context, others.answer, answerQuery);
  const reads =
    options.cluster === undefined ? local : createClusterReads(context, local, others.answer, answerQuery);
  const writes = createWrites(context, others.refusalOf, createBatch(context), createImport(context));
  const posts: ReservedPosts = new Map([["_delete", createDeletion(context)]]);
  if (options.backup !== undefined) posts.set("_admin/backup", createBackup(context, options.backup));
  const patch = createPatch(context);
  return {
    ...reads,
    ...writes,
    post: (res, req) => (reservedPost(context, req, posts) ?? writes.post)(res, req),
    other: (res, req) => {
      if (targetOf(context, req) === TARGET_KEY && req.getCaseSensitiveMethod() === "PATCH") {
        patch(res, req);
        return;
      }
      const { code, options: errorOptions } = others.refusalOf(targetOf(context, req));
      context.meter.count(OTHER, refuse(res, code, declaredBytes(req), errorOptions));
    },
  };
}
