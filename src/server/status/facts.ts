/** What the front knows of the node that it serves, beside the vault: types only. */
import type { ClusterFacts } from "../../cluster/repair/status.ts";

/** What the front knows about the node beside the vault. */
export interface NodeFacts {
  role: string;
  version: string;
  /** Nodes known to serve, this one included. */
  nodes: () => number;
  /** Of a node of a cluster; null: it is alone. */
  cluster: () => ClusterFacts | null;
  /** The front is closing. */
  stopping: () => boolean;
  /** Connections are closed as they come, for want of descriptors. */
  refusesConnections: () => boolean;
  /** Tokens, keys or certificates have changed, and could not be taken. */
  refusesFiles: () => boolean;
}
