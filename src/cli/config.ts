/**
 * The validated settings of a node, as the flags and the environment give them.
 */

export type Mode = "worker" | "master";

export interface Config {
  mode: Mode;
  /** 0: any free port. */
  port: number;
  host: string;
  /** How other nodes reach this one, without a trailing slash; null: http://localhost:<port>. */
  publicUrl: string | null;
  /** Master URLs; empty: none. */
  masters: string[];
  /** URLs of static workers (master) or peers (worker). */
  volumes: string[];
  /** Data directory, absolute. */
  dataDirectory: string;
  region: string;
  replicas: number;
  consistency: "quorum" | "one";
  sync: "always" | "os";
  threads: number;
  /** In bytes. */
  maxValueBytes: number;
  /** null: open to everyone. */
  auth: { key: string; mode: "all" | "writes" } | null;
  /** What an operator should read at start, one sentence each. */
  warnings: string[];
}
