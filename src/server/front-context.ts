/** Making what the parts of one front share. */
import { EVERYBODY } from "../auth/tokens.ts";
import type { ClusterAccess } from "../cluster/node/access.ts";
import { type FrontContext, InFlight, NOT_PARSED } from "./http/context.ts";
import { Pacer } from "./http/pace.ts";
import { sendWriteResult } from "./http/reply.ts";
import { createKeyScratch } from "./http/target.ts";

/** In what the contexts of fronts differ. */
export interface ContextOptions
  extends Pick<FrontContext, "vault" | "log" | "meter" | "maxValueBytes" | "varies">,
    Partial<Pick<FrontContext, "writesOnce" | "answerWrite">> {
  /** What answers clients once the node is one of a cluster. Left out: it never is. */
  cluster?: (() => ClusterAccess | null) | undefined;
}

export function createContext(options: ContextOptions): FrontContext {
  const { vault, cluster = () => null, log, meter, maxValueBytes, varies } = options;
  return {
    vault,
    get cluster() {
      return cluster();
    },
    log,
    meter,
    pacer: new Pacer(),
    inFlight: new InFlight(meter.requestsInFlight),
    maxValueBytes,
    key: createKeyScratch(),
    target: NOT_PARSED,
    caller: EVERYBODY,
    notes: null,
    varies,
    writesOnce: options.writesOnce ?? false,
    answerWrite: options.answerWrite ?? sendWriteResult,
    stopping: false,
  };
}
