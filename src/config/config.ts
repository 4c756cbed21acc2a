/**
 * The validated settings of a node, as the flags and the environment give them.
 */
import type { TokenRecord } from "../auth/token-file.ts";
import type { RegistryAddress } from "./registry-address.ts";

export type Mode = "worker" | "master";

export interface Config {
  mode: Mode;
  /** 0: any free port. */
  port: number;
  host: string;
  /** Port of the S3 interface; 0: any free port; null: there is none. */
  s3Port: number | null;
  /**
   * How other nodes reach this one, without a trailing slash; null: http://localhost:<port>, with tls https.
   */
  publicUrl: string | null;
  /** Master URLs; empty: none. */
  masters: string[];
  /** Master: where it keeps its state together with others; null: in its own data directory. */
  registry: RegistryAddress | null;
  /** URLs of static workers (master) or peers (worker). */
  volumes: string[];
  /** Data directory, absolute. */
  dataDirectory: string;
  /** Master: silence after which a dead worker is removed, in milliseconds; 0: never. */
  removeAfterMs: number;
  /** Where connections to other nodes come from; null: the system chooses. */
  peerAddress: string | null;
  region: string;
  replicas: number;
  /** They were asked for, and not only preset. */
  isReplicasGiven: boolean;
  /** Of a cluster that is born; null: none were asked for. */
  partitions: number | null;
  consistency: "quorum" | "one";
  sync: "always" | "os";
  /** How long places in the feed of changes stay good, in milliseconds. */
  historyMs: number;
  threads: number;
  /** Threads that answer clients. */
  fronts: number;
  /** Port of the other ones, on a node of a cluster; 0: any free port; null: none is given. */
  frontPort: number | null;
  /** In bytes. */
  maxValueBytes: number;
  /** Origins whose web pages may call, or "*" for all; empty: none. */
  cors: string[];
  /** null: open to everyone. */
  auth: AuthConfig | null;
  /** Whether `/_metrics` is there; open: without a token. */
  metrics: "on" | "open" | "off";
  /** Whose clients are answered as they are used to. */
  compat: "none" | "mkv";
  /** File that writes and refusals are noted in; null: none. */
  audit: string | null;
  /**
   * What nodes sign with: the first; the second is accepted, too. Empty: the paths between nodes are open, or
   * closed where clients have tokens.
   */
  clusterKeys: string[];
  /** Without a key: a master that nobody has named here may take this worker into its cluster. */
  allowInvite: boolean;
  /**
   * Files of the server's own certificate, in PEM, and of the authorities whose certificates may be shown to
   * it; null: plain HTTP.
   */
  tls: { certificate: string; key: string; ca: string | null } | null;
  /** Certificates (PEM text) of the authorities to trust for other nodes; null: those that Node.js trusts. */
  tlsCa: string | null;
  /** Where these were read from, to be looked at again; null: from no file. */
  files: { auth: string | null; tokens: string | null; clusterKey: string | null; tlsCa: string | null };
  /** What an operator should read at start, one sentence each. */
  warnings: string[];
}

/** Who gets in. */
export interface AuthConfig {
  /** Clients' key, where they have no tokens; null: there are tokens alone. */
  key: string | null;
  mode: "all" | "writes";
  /** Clients' tokens; null: they carry the key. */
  tokens: readonly TokenRecord[] | null;
}
