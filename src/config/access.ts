/**
 * The flags that say who gets in: the keys of clients and of nodes, and certificates. Reads -auth-file,
 * -cluster-key-file and -tls-ca; the files of the server's own certificate are left to the server.
 */
import { readFileSync, statSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { KEYS_MAX } from "../auth/keys.ts";
import { reasonOf } from "../platform/system-error.ts";
import type { Config } from "./config.ts";
import { authKey, UsageError } from "./values.ts";

/** The parsed flags that matter here. */
export interface AccessOptions {
  auth?: string;
  authFile?: string;
  authMode?: "all" | "writes";
  clusterKeyFile?: string;
  tlsCert?: string;
  tlsKey?: string;
  tlsCa?: string;
}

/** @param isFlag whether an option was given as a flag, not as a variable */
export function readAuth(options: AccessOptions, isFlag: (name: string) => boolean): Config["auth"] {
  const { auth, authFile, authMode } = options;
  // The flag wins over the variable, also over the one of the other way to give a key.
  if (auth !== undefined && authFile !== undefined && isFlag("auth") === isFlag("authFile")) {
    throw new UsageError("-auth and -auth-file (or their variables): give only one of them");
  }
  const file = keyFile(options, isFlag);
  const key = file === null ? auth : readKey(file);
  if (key !== undefined) return { key, mode: authMode ?? "all" };
  if (authMode !== undefined)
    throw new UsageError("-auth-mode needs a key: MINIVAULT_AUTH, -auth-file or -auth");
  return null;
}

/** The file that the key is read from; null: it comes from elsewhere, or there is none. */
export function keyFile({ auth, authFile }: AccessOptions, isFlag: (name: string) => boolean): string | null {
  return authFile !== undefined && (auth === undefined || isFlag("authFile")) ? authFile : null;
}

/**
 * What should be mended of files that hold secrets, one sentence each. They are no reason to refuse a start:
 * a container's secrets are often mounted so that all who are in it can read them.
 */
export function secretWarnings(files: readonly (string | null | undefined)[]): string[] {
  return files.flatMap((file) => {
    if (file === null || file === undefined || process.getuid === undefined) return [];
    const mode = statSync(file, { throwIfNoEntry: false })?.mode ?? 0;
    const mayOthers = (mode & 0o022) !== 0 ? "change" : (mode & 0o004) !== 0 ? "read" : null;
    return mayOthers === null
      ? []
      : [`other users of this machine may ${mayOthers} the secret in ${file}: chmod 600 ${file}`];
  });
}

/**
 * The key in a file.
 * @throws UsageError without anything of what is in the file
 */
export function readKey(file: string): string {
  try {
    return authKey(readFileSync(file, "utf8").trim());
  } catch (error) {
    // What is in the file stays out of the message: a wrong file may hold other secrets.
    throw new UsageError(`-auth-file: ${file}: ${reasonOf(error)}`);
  }
}

/** A key of the cluster is guessed by machines, from what they have overheard. */
const CLUSTER_KEY_CHARACTERS_MIN = 16;

/**
 * What nodes sign with: the lines of -cluster-key-file, else the clients' key; empty: nothing.
 * @throws UsageError without anything of what is in the file
 */
export function readClusterKeys({ clusterKeyFile }: AccessOptions, auth: Config["auth"]): string[] {
  if (clusterKeyFile === undefined) return auth === null ? [] : [auth.key];
  try {
    const lines = readFileSync(clusterKeyFile, "utf8").split("\n");
    const keys = lines.map((line) => line.trim()).filter((line) => line !== "");
    if (keys.length === 0 || keys.length > KEYS_MAX)
      throw new Error(`it has ${keys.length} lines with keys; one signs, and a second one may be accepted`);
    for (const key of keys)
      if (authKey(key).length < CLUSTER_KEY_CHARACTERS_MIN)
        throw new Error(`a key of the cluster has at least ${CLUSTER_KEY_CHARACTERS_MIN} characters`);
    return keys;
  } catch (error) {
    throw new UsageError(`-cluster-key-file: ${clusterKeyFile}: ${reasonOf(error)}`);
  }
}

/** Files of the server's own certificate. */
export function readTls({ tlsCert, tlsKey, tlsCa }: AccessOptions): Config["tls"] {
  if (tlsCert === undefined && tlsKey === undefined) return null;
  if (tlsCert === undefined || tlsKey === undefined) {
    throw new UsageError("-tls-cert and -tls-key (or their variables): give both or none");
  }
  return { certificate: tlsCert, key: tlsKey, ca: tlsCa ?? null };
}

/** Text of the authorities' certificates. */
export function readTlsCa({ tlsCa }: AccessOptions): string | null {
  if (tlsCa === undefined) return null;
  try {
    const text = readFileSync(tlsCa, "utf8");
    if (!text.includes("-----BEGIN CERTIFICATE-----")) throw new Error("it holds no certificate in PEM");
    createSecureContext({ ca: text });
    return text;
  } catch (error) {
    throw new UsageError(`-tls-ca: ${tlsCa}: ${reasonOf(error)}`);
  }
}
