/** What is no key: `/health` and its like, and what nobody takes. */
import type { KeyBytes } from "../shards/arena/write.ts";
import { PROMETHEUS_TYPE } from "../util/prometheus.ts";
import { hasConsole, sendConsole, sendToConsole, wantsPage } from "./console/console.ts";
import type { Operation } from "./describe/operation.ts";
import type { FrontContext } from "./http/context.ts";
import { sendError, sendJson, sendText } from "./http/reply.ts";
import {
  TARGET_BAD_KEY,
  TARGET_CONSOLE,
  TARGET_EMPTY_KEY,
  TARGET_HEALTH,
  TARGET_KEY,
  TARGET_LIVE,
  TARGET_METRICS,
  TARGET_OPENAPI,
  TARGET_RAW,
  TARGET_ROOT,
  TARGET_STATS,
  TARGET_STORAGE,
  TARGET_STORAGE_BASE,
  TARGET_TOO_LONG,
} from "./http/target.ts";
import { IDEMPOTENCY_KEY, remembers } from "./once/once.ts";
import { createOpenApi } from "./openapi/serve.ts";
import { methodsByPath, OPENAPI_PATH } from "./operations/worker.ts";
import type { AnswerOther } from "./reads/reads.ts";
import type { NodeFacts } from "./status/facts.ts";
import type { Meter } from "./status/meter.ts";
import { healthDocument, metricsText, statsDocument } from "./status/stats.ts";
import type { RefuseOther } from "./writes/writes.ts";

export interface OtherTargets {
  /** To GET and HEAD. */
  answer: AnswerOther;
  /** To all other methods. */
  refusalOf: RefuseOther;
}

/** @param operations all that can be asked of this node */
export function createOtherTargets(
  context: FrontContext,
  facts: NodeFacts,
  meters: readonly Meter[],
  operations: readonly Operation[],
): OtherTargets {
  const methods = methodsByPath(operations);
  const hasMetrics = methods.has("/_metrics");
  const refusalOf = createRefusals(context.key, methods);
  const sendOpenApi = createOpenApi(operations, facts.version);
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
    if (target === TARGET_OPENAPI) return sendOpenApi(res, req, head);
    if (target === TARGET_CONSOLE && hasConsole) return sendConsole(res, head);
    if (target === TARGET_ROOT && wantsPage(req)) return sendToConsole(res, head);
    if (target === TARGET_ROOT) {
      sendJson(res, 200, rootDocument(facts, remembers(context)), head);
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
function rootDocument({ role, version }: NodeFacts, remembers: boolean): object {
  const keys = "GET, HEAD, PUT, POST, PATCH, DELETE /<key>";
  return {
    ...{ name: "minivault", version, role, keys },
    ...{ list: "GET /<prefix>?list", watch: "GET /<prefix>?watch", health: "/health", stats: "/_stats" },
    openapi: OPENAPI_PATH,
    // What a program asks for before it relies on it.
    features: remembers ? [IDEMPOTENCY_KEY] : [],
  };
}

const METHODS_OF_KEYS: readonly string[] = ["PUT", "POST", "PATCH", "DELETE"];

/** The path of each target that is not a path of its own. */
const TEMPLATES: Readonly<Record<number, string>> = {
  [TARGET_ROOT]: "/",
  [TARGET_KEY]: "/{key}",
  [TARGET_RAW]: "/_raw/{key}",
  [TARGET_STORAGE]: "/_unstorage/{key}",
  [TARGET_STORAGE_BASE]: "/_unstorage/{base}:",
};

/**
 * The refusals of requests that no handler takes: of a path that is not a key, or of a method that its path
 * has not.
 * @param key the scratch of the request at hand, with the decoded path
 * @param methods those of each path
 */
function createRefusals(key: KeyBytes, methods: ReadonlyMap<string, string>): RefuseOther {
  return (target, method = "PUT") => {
    // Mostly whoever writes here has left a key out.
    if (target === TARGET_ROOT && METHODS_OF_KEYS.includes(method)) return { code: "bad_key" };
    switch (target) {
      case TARGET_BAD_KEY:
      case TARGET_EMPTY_KEY:
        return { code: "bad_key" };
      case TARGET_TOO_LONG:
        return { code: "key_too_long" };
      default: {
        const allow = methods.get(TEMPLATES[target] ?? pathOf(key));
        if (allow !== undefined)
          return { code: "method_not_allowed", options: { headers: [["Allow", allow]] } };
        return {
          code: "not_found",
          options: { detail: "this path is reserved; /_kv/<key> reaches every key" },
        };
      }
    }
  };
}

function pathOf({ bytes, length }: KeyBytes): string {
  return `/${Buffer.from(bytes.buffer, bytes.byteOffset, length).toString("utf8")}`;
}
