/** What is no key: `/health` and its like, and what nobody takes. */
import { PROMETHEUS_TYPE } from "../util/prometheus.ts";
import { hasConsole, sendConsole, sendToConsole, wantsPage } from "./console/console.ts";
import type { FrontContext } from "./http/context.ts";
import { sendError, sendJson, sendText } from "./http/reply.ts";
import {
  TARGET_BAD_KEY,
  TARGET_BATCH,
  TARGET_CONSOLE,
  TARGET_EMPTY_KEY,
  TARGET_HEALTH,
  TARGET_KEY,
  TARGET_LIVE,
  TARGET_METRICS,
  TARGET_RAW,
  TARGET_RESERVED,
  TARGET_ROOT,
  TARGET_STATS,
  TARGET_STORAGE,
  TARGET_STORAGE_BASE,
  TARGET_TOO_LONG,
} from "./http/target.ts";
import type { AnswerOther } from "./reads/reads.ts";
import type { NodeFacts } from "./status/facts.ts";
import type { Meter } from "./status/meter.ts";
import { healthDocument, metricsText, statsDocument } from "./status/stats.ts";
import type { Refusal, RefuseOther } from "./writes/writes.ts";

export interface OtherTargets {
  /** To GET and HEAD. */
  answer: AnswerOther;
  /** To all other methods. */
  refusalOf: RefuseOther;
}

/** @param hasMetrics `/_metrics` is there */
export function createOtherTargets(
  context: FrontContext,
  facts: NodeFacts,
  meters: readonly Meter[],
  hasMetrics: boolean,
): OtherTargets {
  const isMissing = (target: number): boolean =>
    (target === TARGET_METRICS && !hasMetrics) || (target === TARGET_CONSOLE && !hasConsole);
  const refusalOf: RefuseOther = (target) => otherTarget(isMissing(target) ? TARGET_RESERVED : target);
  const answer: AnswerOther = (res, req, target, head) => {
    if (target === TARGET_HEALTH) {
      const { status, document } = healthDocument(context.vault, facts, meters);
      sendJson(res, status, document, head);
      return status;
    }
    if (target === TARGET_LIVE) {
      sendJson(res, 200, { status: "alive" }, head);
      return 200;
    }
    if (target === TARGET_CONSOLE && hasConsole) return sendConsole(res, head);
    if (target === TARGET_ROOT && wantsPage(req)) return sendToConsole(res, head);
    if (target === TARGET_ROOT) {
      sendJson(res, 200, rootDocument(facts), head);
      return 200;
    }
    if (target === TARGET_STATS) {
      sendJson(res, 200, statsDocument(context.vault, facts, meters), head);
      return 200;
    }
    if (target === TARGET_METRICS && hasMetrics) {
      sendText(res, PROMETHEUS_TYPE, metricsText(context.vault, facts, meters), head);
      return 200;
    }
    const { code, options: errorOptions } = refusalOf(target);
    return sendError(res, code, { ...errorOptions, head });
  };
  return { answer, refusalOf };
}

/** What GET / says: who is there, and where to go on. */
function rootDocument({ role, version }: NodeFacts): object {
  const keys = "GET, HEAD, PUT, POST, PATCH, DELETE /<key>";
  return {
    ...{ name: "minivault", version, role, keys },
    ...{ list: "GET /<prefix>?list", watch: "GET /<prefix>?watch", health: "/health", stats: "/_stats" },
  };
}

/**
 * The refusal of a request that no handler takes: a path that is not a key, or a method that is none of ours.
 */
function otherTarget(target: number): Refusal {
  switch (target) {
    case TARGET_BAD_KEY:
    case TARGET_EMPTY_KEY:
    case TARGET_ROOT:
      return { code: "bad_key" };
    case TARGET_TOO_LONG:
      return { code: "key_too_long" };
    case TARGET_RESERVED:
      return {
        code: "not_found",
        options: { detail: "this path is reserved; /_kv/<key> reaches every key" },
      };
    case TARGET_KEY:
      return notAllowed("GET, HEAD, PUT, POST, PATCH, DELETE");
    case TARGET_RAW:
      return notAllowed("GET, HEAD, PUT, POST, DELETE, LOCK, UNLOCK");
    case TARGET_STORAGE:
      return notAllowed("GET, HEAD, PUT, DELETE");
    case TARGET_STORAGE_BASE:
      return notAllowed("GET, DELETE");
    case TARGET_BATCH:
      return notAllowed("POST");
    default:
      return notAllowed("GET, HEAD");
  }
}

function notAllowed(allow: string): Refusal {
  return { code: "method_not_allowed", options: { headers: [["Allow", allow]] } };
}
