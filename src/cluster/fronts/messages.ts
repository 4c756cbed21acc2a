/** What a node and its other front threads tell each other of their cluster: shapes only, all cloneable. */
import type { Layout } from "../layout/layout.ts";
import type { ClusterKey, Proposal } from "../register/ports.ts";
import type { ClusterStats } from "../repair/status.ts";

/** What of the node changes while it runs. */
export interface HomeState {
  layout: Layout | null;
  /** Whether its replica votes, and whether it may speak for its store. */
  voting: boolean;
  isProven: boolean;
  /** This life, as other nodes are told of it. */
  life: string;
  /** Why it serves nobody, where it is not for want of a layout. */
  unready: string | null;
  /** Nodes known to serve, this one included. */
  nodesUp: number;
}

/** What it shows of itself. */
export interface HomeFigures {
  health: object;
  stats: ClusterStats;
}

/** What a front is given when it begins. */
export interface Home {
  /** The node's id: its public URL. */
  url: string;
  /** The number of the node's own ballots, which no front may have. */
  number: number;
  incarnation: number;
  state: HomeState;
  figures: HomeFigures;
}

/** To a front. */
export type HomeNews =
  | { kind: "home"; state: HomeState }
  | { kind: "figures"; figures: HomeFigures }
  | { kind: "judged"; life: string; counts: boolean };

/** From a front. */
export type FrontWord =
  /** See ClusterNodeSetup. */
  | { kind: "missed"; key: ClusterKey; proposal: Proposal; nodes: readonly string[] }
  | { kind: "newer"; epoch: number }
  /** See PeerIdentity. */
  | { kind: "heard"; life: string }
  | { kind: "refused"; life: string; reason: string };
