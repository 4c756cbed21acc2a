/** What the front knows of the node that it serves, beside the vault: types only. */
import type { ClusterStats } from "../../cluster/repair/status.ts";

/** What a node of a cluster says of it. */
export interface ClusterFacts {
  /** Whether it has a layout to work by: without one it serves nobody. */
  ready: boolean;
  /** Why it serves nobody, where it is not for want of a layout. */
  reason: string | null;
  /** What it has been unable to do for clients for some seconds, for a person; null: nothing. */
  unable: string | null;
  /** In a few words, for `/health`. */
  health: object;
  /** All, for `/_stats` and `/_metrics`. */
  stats: ClusterStats;
}

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
