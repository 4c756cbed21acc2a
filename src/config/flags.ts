/**
 * The table of flags: everything that the parser, the help and the environment know of each.
 * docs/operations.md lists the same; a test compares them.
 */
import { availableParallelism } from "node:os";
import { FRONTS_MAX, REPLICAS_MAX, VALUE_BYTES_DEFAULT } from "../util/limits.ts";
import { registryAddress } from "./registry-address.ts";
import {
  duration,
  integer,
  listenHost,
  nodeAddress,
  nodeAddresses,
  nonEmpty,
  oneOf,
  origins,
  region,
  size,
  typedAuthKey,
  yesOrNo,
} from "./values.ts";

const THREADS_MAX = 64;
/** Leaves one core to the front. */
const THREADS_DEFAULT = Math.min(THREADS_MAX, Math.max(1, availableParallelism() - 1));

export interface Flag {
  /** Without dashes. The table is in the order of the help, group by group. */
  readonly name: string;
  readonly group: "Listening" | "Storing" | "Cluster" | "Access";
  /** What the help shows for the value; empty: a switch, which needs none. */
  readonly value: string;
  readonly text: string;
  /** Throws an Error whose message completes "-name: …". */
  readonly parse: (text: string) => unknown;
  /** Value when neither flag nor variable is given; absent: undefined. */
  readonly preset?: unknown;
  /** How the help shows the default where that is not the preset itself. */
  readonly presetText?: string;
}

export const FLAGS: readonly Flag[] = [
  {
    name: "port",
    group: "Listening",
    value: "number",
    text: "port to listen on; 0: any free port, printed at start",
    parse: integer(0, 65_535),
    preset: 3000,
  },
  {
    name: "host",
    group: "Listening",
    value: "address",
    text: "address to listen on; 127.0.0.1: this machine only",
    parse: listenHost,
    preset: "0.0.0.0",
  },
  {
    name: "public-url",
    group: "Listening",
    value: "url",
    text: "how other nodes reach this one",
    parse: nodeAddress,
    presetText: "http(s)://localhost:<port>",
  },
  {
    name: "s3-port",
    group: "Listening",
    value: "number",
    text: "port of the S3 interface, for clients with an access key (minivault token -s3; with -auth alone the access key is minivault, and the key the secret); 0: any free port",
    parse: integer(0, 65_535),
    presetText: "none",
  },
  {
    name: "data",
    group: "Storing",
    value: "directory",
    text: "data directory; locked, so two processes never share one",
    parse: nonEmpty,
    preset: "./data",
  },
  {
    name: "sync",
    group: "Storing",
    value: "always|os",
    text: "when a write is acknowledged. always: after fdatasync, it survives power loss; os: after the write call, it survives kill -9 but not power loss",
    parse: oneOf("always", "os"),
    preset: "always",
  },
  {
    name: "history",
    group: "Storing",
    value: "time",
    text: "how long a client that follows changes can come back and go on, such as 1h; deletes take their place on the disk so long",
    parse: duration,
    preset: 3_600_000,
    presetText: "1h",
  },
  {
    name: "max-value",
    group: "Storing",
    value: "size",
    text: "largest value, such as 512MiB, 100MB or 4096; a larger body gets 413",
    parse: size,
    preset: VALUE_BYTES_DEFAULT,
    presetText: "1GiB",
  },
  {
    name: "fronts",
    group: "Listening",
    value: "number",
    text: "threads that answer clients, on a single node; more than 1 help where cores are left",
    parse: integer(1, FRONTS_MAX),
    preset: 1,
  },
  {
    name: "threads",
    group: "Storing",
    value: "number",
    text: "shard threads; a data directory keeps the shards that it was made with",
    parse: integer(1, THREADS_MAX),
    preset: THREADS_DEFAULT,
    presetText: "cores - 1",
  },
  {
    name: "mode",
    group: "Cluster",
    value: "worker|master",
    text: "worker: stores keys; master: the registry of a cluster",
    parse: oneOf("worker", "master"),
    preset: "worker",
  },
  {
    name: "master",
    group: "Cluster",
    value: "urls",
    text: "master, or several, comma-separated",
    parse: nodeAddresses,
  },
  {
    name: "volumes",
    group: "Cluster",
    value: "urls",
    text: "comma-separated. master: static workers; worker: static peers, no master needed",
    parse: nodeAddresses,
  },
  {
    name: "registry",
    group: "Cluster",
    value: "url",
    text: "master: its state lives in etcd, etcd://host:port[,host:port]/prefix (etcds: with TLS), and any number of masters with the same one stand in for each other",
    parse: registryAddress,
    presetText: "the data directory",
  },
  {
    name: "remove-after",
    group: "Cluster",
    value: "time",
    text: "master: a worker that is dead for so long, such as 10m, is removed if all others are up and enough for all copies; 0: never",
    parse: duration,
    preset: 600_000,
    presetText: "10m",
  },
  {
    name: "peer-address",
    group: "Cluster",
    value: "address",
    text: "own address that connections to other nodes come from, on machines with several",
    parse: listenHost,
  },
  {
    name: "region",
    group: "Cluster",
    value: "name",
    text: "failure domain of this worker, such as eu",
    parse: region,
    preset: "default",
  },
  {
    name: "replicas",
    group: "Cluster",
    value: "number",
    text: "copies of each key",
    parse: integer(1, REPLICAS_MAX),
    preset: 3,
  },
  {
    name: "consistency",
    group: "Cluster",
    value: "quorum|one",
    text: "default for reads; a request overrides it with ?consistency=",
    parse: oneOf("quorum", "one"),
    preset: "quorum",
  },
  {
    name: "auth",
    group: "Access",
    value: "key",
    text: "key of clients (Authorization: Bearer <key>), of at least 16 characters (8 on a loopback address), and of the nodes, unless -cluster-key-file is given; the process list shows it, so prefer MINIVAULT_AUTH or -auth-file",
    parse: typedAuthKey,
  },
  {
    name: "auth-file",
    group: "Access",
    value: "file",
    text: "file that holds the key",
    parse: nonEmpty,
  },
  {
    name: "auth-mode",
    group: "Access",
    value: "all|writes",
    text: "what needs the key or a token; writes: reads of single keys are public",
    parse: oneOf("all", "writes"),
    presetText: "all",
  },
  {
    name: "tokens",
    group: "Access",
    value: "file",
    text: "clients' tokens and what each may do, a line each as minivault token makes them; the key of -auth then opens nothing to clients. Read again when it changes",
    parse: nonEmpty,
  },
  {
    name: "audit",
    group: "Access",
    value: "file",
    text: "a JSON line for each write and each refusal is added to it, with the token's name",
    parse: nonEmpty,
  },
  {
    name: "metrics",
    group: "Access",
    value: "on|open|off",
    text: "/_metrics for Prometheus; on: with a token where one is needed; open: without",
    parse: oneOf("on", "open", "off"),
    preset: "on",
  },
  {
    name: "compat",
    group: "Access",
    value: "none|mkv",
    text: "mkv: minikeyvalue's form of ?list, and its statuses of PUT and DELETE",
    parse: oneOf("none", "mkv"),
    preset: "none",
  },
  {
    name: "cluster-key-file",
    group: "Access",
    value: "file",
    text: "file with the key that the nodes sign with, apart from what clients send. Of two lines the first signs and both are accepted: so a key is exchanged without a pause",
    parse: nonEmpty,
  },
  {
    name: "allow-invite",
    group: "Access",
    value: "",
    text: "without a key: a master that has this worker in its -volumes may take it into its cluster",
    parse: yesOrNo,
    preset: false,
    presetText: "only masters with the same key",
  },
  {
    name: "cors",
    group: "Access",
    value: "origins",
    text: "origins of web pages that may call, such as https://app.example, comma-separated; *: all. Other pages may not write",
    parse: origins,
    presetText: "none",
  },
  {
    name: "tls-cert",
    group: "Access",
    value: "file",
    text: "certificate (PEM, with those between it and its authority): clients and nodes are served by https",
    parse: nonEmpty,
  },
  {
    name: "tls-key",
    group: "Access",
    value: "file",
    text: "the certificate's private key (PEM)",
    parse: nonEmpty,
  },
  {
    name: "tls-ca",
    group: "Access",
    value: "file",
    text: "authorities (PEM) whose certificates other nodes must show; this node shows its own to them; default: those that Node.js trusts",
    parse: nonEmpty,
  },
];

/** The environment variable that stands for a flag. */
export function variableOf(name: string): string {
  return `MINIVAULT_${name.toUpperCase().replaceAll("-", "_")}`;
}
