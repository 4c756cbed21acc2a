/** What a worker's membership is given, and who hears of what it decides. */
import type { RequestSigner } from "../../auth/signature.ts";
import type { Marks } from "../identity/life.ts";
import type { Known } from "../identity/lives.ts";
import type { RunFile } from "../identity/run-file.ts";
import type { Placement } from "../layout/groups.ts";
import type { Layout } from "../layout/layout.ts";
import type { PeerTls } from "../link/peer-tls.ts";

export interface MembershipLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

export interface MembershipOptions {
  /** The data directory. */
  directory: string;
  /** This worker's public URL: its id. */
  url: string;
  region: string;
  /** Name of the machine. */
  host: string;
  /** Identity of its store, 32 hex digits, its node number, and how often it was started. */
  store: string;
  storeNode: number;
  starts: number;
  /** Where the log of each shard ended when it was opened, and up to where it is answered by now. */
  openedEnds: Marks;
  answeredEnds: () => Marks;
  /** How the last run ended, and where this one is noted. */
  run: RunFile;
  /** Asks another node what it knows of this one's store. */
  hello: (node: string) => Promise<Known>;
  /** Empty: those that the data directory knows, if any. */
  masters: readonly string[];
  /** Static workers, when there is no master. */
  volumes: readonly string[];
  replicas: number;
  /** They were asked for; null: only preset. */
  wantedReplicas: number | null;
  /** Of the first layout, for good; null: none were asked for. */
  partitions: number | null;
  /** The highest feature level that this program can do with its data directory. */
  features: number;
  /** What heartbeats say of the load. */
  load: () => { keys: number; bytes: number };
  /** Whether the store holds nothing at all, not even traces of deleted keys. */
  isEmpty: () => boolean;
  signer: RequestSigner | null;
  /** For https. */
  tls: PeerTls;
  log: MembershipLog;
  /** Shorter in tests. */
  heartbeatMs?: number;
  proofWaitMs?: number;
}

export type LayoutListener = (layout: Layout, placement: Placement) => void;
