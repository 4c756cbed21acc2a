/**
 * What the settings of access mean to a worker: who are its clients, what it signs with, and what of both can
 * change while it runs.
 */
import { randomBytes } from "node:crypto";
import { KeyRing } from "../auth/keys.ts";
import type { TokenRecord } from "../auth/token-file.ts";
import { keyRecord } from "../auth/tokens.ts";
import { clientTokens } from "../config/access.ts";
import type { AuthConfig, Config } from "../config/config.ts";
import type { AuditFile } from "../server/access/audit.ts";
import type { ClientAccess } from "../server/access/gate.ts";
import type { Front } from "../server/front.ts";
import type { FrontThreads } from "./fronts.ts";
import type { Reloadable } from "./reload.ts";

/** The part of a worker that speaks with other nodes. */
interface Linked {
  /** null: it is alone. */
  readonly node: object | null;
  readonly ring: KeyRing | null;
  readonly tls: { renew(): void };
}

/** What clients need; null: nothing. */
export function clientAccess(auth: AuthConfig | null): ClientAccess | null {
  return auth === null ? null : { mode: auth.mode, tokens: clientTokens(auth) };
}

/** @throws Error with a sentence where the nodes of a cluster could not tell each other from clients */
export function demandClusterKey({ auth, clusterKeys }: Config): void {
  if (auth !== null && clusterKeys.length === 0)
    throw new Error(
      "this is a node of a cluster: beside -tokens it needs the nodes' key (-cluster-key-file, or MINIVAULT_AUTH)",
    );
}

/**
 * What a worker signs with; null: nothing, and everybody is heard. With clients' tokens alone it is a key
 * that nobody has, so that the routes between nodes are closed.
 */
export function ringOf({ auth, clusterKeys }: Config): KeyRing | null {
  if (clusterKeys.length > 0) return new KeyRing(clusterKeys);
  return auth === null ? null : new KeyRing([randomBytes(32).toString("hex")]);
}

/** What can be renewed of a worker that runs. */
export function reloadable(
  { files }: Config,
  front: Front,
  threads: FrontThreads,
  cluster: Linked,
  audit: AuditFile | null,
): Reloadable {
  const renewTokens = (tokens: readonly TokenRecord[]): void => {
    front.renewTokens(tokens);
    threads.renew({ tokens });
  };
  return {
    renewTokens,
    renewCertificate() {
      const isNew = front.renewCertificate();
      threads.renew({ certificate: true });
      cluster.tls.renew();
      return isNew;
    },
    renewKey(key) {
      const isShared = files.clusterKey === null;
      if (isShared && cluster.node !== null) return false;
      if (files.tokens === null) renewTokens([keyRecord(key)]);
      if (isShared) cluster.ring?.renew([key]);
      return true;
    },
    renewClusterKeys(keys) {
      cluster.ring?.renew(keys);
      threads.renew({ clusterKeys: keys });
    },
    reopenAudit() {
      audit?.reopen();
      threads.renew({ audit: true });
    },
  };
}
