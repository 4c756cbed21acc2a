/**
 * The flags that say who gets in: keys and tokens of clients, keys of nodes, and certificates. Reads
 * -auth-file, -tokens, -cluster-key-file and -tls-ca; the files of the server's own certificate are left to
 * the server.
 */
import { closeSync, existsSync, fstatSync, statSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { KEYS_MAX } from "../auth/keys.ts";
import { parseTokens, type TokenRecord } from "../auth/token-file.ts";
import { keyRecord } from "../auth/tokens.ts";
import { reasonOf } from "../platform/system-error.ts";
import { openBriefly, readBriefly, readOpened } from "../util/brief-read.ts";
import type { AuthConfig, Config } from "./config.ts";
import { authKey, UsageError } from "./values.ts";

/** The parsed flags that matter here. */
export interface AccessOptions {
  mode?: Config["mode"];
  s3Port?: number;
  auth?: string;
  authFile?: string;
  authMode?: "all" | "writes";
  tokens?: string;
  clusterKeyFile?: string;
  tlsCert?: string;
  tlsKey?: string;
  tlsCa?: string;
}

/** @param isFlag whether an option was given as a flag, not as a variable */
export function readAuth(options: AccessOptions, isFlag: (name: string) => boolean): AuthConfig | null {
  const { auth, authFile, authMode, tokens } = options;
  // The flag wins over the variable, also over the one of the other way to give a key.
  if (auth !== undefined && authFile !== undefined && isFlag("auth") === isFlag("authFile")) {
    throw new UsageError("-auth and -auth-file (or their variables): give only one of them");
  }
  const file = keyFile(options, isFlag);
  const key = file === null ? auth : readKey(file);
  if (key !== undefined || tokens !== undefined) {
    const records = tokens === undefined ? null : readTokens(tokens);
    return { key: key ?? null, mode: authMode ?? "all", tokens: records };
  }
  if (authMode !== undefined)
    throw new UsageError("-auth-mode needs a key: MINIVAULT_AUTH, -auth-file or -auth; or -tokens");
  return null;
}

/**
 * Port of the S3 interface; null: there is none. Nobody is let in there without a signature.
 * @param warnings gets what an operator should know
 */
export function readS3Port(
  { s3Port, mode }: Pick<AccessOptions, "s3Port" | "mode">,
  auth: AuthConfig | null,
  warnings: string[],
): number | null {
  // A master stores no objects, and may well share its environment with workers.
  if (s3Port === undefined || mode === "master") return s3Port ?? null;
  if (auth === null)
    throw new UsageError(
      "-s3-port needs a secret to sign with: -tokens with a line of minivault token -s3, or a key (MINIVAULT_AUTH, -auth-file)",
    );
  if (!clientTokens(auth).some(({ s3 }) => s3 !== null))
    warnings.push(
      "no token has an access key yet, so the S3 interface lets nobody in: minivault token NAME -s3 makes one",
    );
  return s3Port;
}

/** What clients can show: tokens where there are some, else the key. */
export function clientTokens({ key, tokens }: AuthConfig): readonly TokenRecord[] {
  return tokens ?? (key === null ? [] : [keyRecord(key)]);
}

/**
 * The tokens in a file.
 * @throws UsageError without anything of what is in the file
 */
export function readTokens(file: string): TokenRecord[] {
  try {
    const { text, mode } = readSecret(file);
    return soundTokens(file, text, mode);
  } catch (error) {
    throw new UsageError(`-tokens: ${file}: ${reasonOf(error)}`);
  }
}

/**
 * The text of a file of tokens that a line can be added to; empty, where there is none yet.
 * @throws UsageError where nodes would not take the file, as it is or with the line
 */
export function tokensWith(file: string, line: string): string {
  if (!existsSync(file)) return "";
  readTokens(file);
  try {
    const { text, mode } = readSecret(file);
    soundTokens(file, `${text}\n${line}`, mode);
    return text;
  } catch (error) {
    throw new UsageError(`-tokens: ${file}: with this line ${reasonOf(error)}`);
  }
}

function soundTokens(file: string, text: string, mode: number): TokenRecord[] {
  const records = parseTokens(text);
  if (records.some(({ s3 }) => s3 !== null) && process.getuid !== undefined && (mode & 0o077) !== 0)
    throw new Error(`it holds secrets for S3, so only its user may read it: chmod 600 ${file}`);
  return records;
}

/** The text of a file that only its user, and perhaps a group, may read. */
function readSecret(file: string): { text: string; mode: number } {
  const fd = openBriefly(file);
  try {
    const { mode } = fstatSync(fd);
    const text = readOpened(fd).toString();
    const mayOthers = othersMay(mode);
    if (mayOthers !== null)
      throw new Error(`other users of this machine may ${mayOthers} the secret in it: chmod 600 ${file}`);
    return { text, mode };
  } finally {
    closeSync(fd);
  }
}

/** What a file's mode lets others do that they should not; null: nothing. */
function othersMay(mode: number): "change" | "read" | null {
  if (process.getuid === undefined) return null;
  return (mode & 0o022) !== 0 ? "change" : (mode & 0o004) !== 0 ? "read" : null;
}

/** The files that these were read from; null: from no file. */
export function filesOf(options: AccessOptions, isFlag: (name: string) => boolean): Config["files"] {
  const { tokens = null, clusterKeyFile = null, tlsCa = null } = options;
  return { auth: keyFile(options, isFlag), tokens, clusterKey: clusterKeyFile, tlsCa };
}

/** The file that the key is read from; null: it comes from elsewhere, or there is none. */
function keyFile({ auth, authFile }: AccessOptions, isFlag: (name: string) => boolean): string | null {
  return authFile !== undefined && (auth === undefined || isFlag("authFile")) ? authFile : null;
}

/**
 * What should be mended of files with private keys of certificates, one sentence each. They are no reason to
 * refuse a start: a container's secrets are often mounted so that all who are in it can read them.
 */
export function secretWarnings(files: readonly (string | null | undefined)[]): string[] {
  return files.flatMap((file) => {
    if (file === null || file === undefined) return [];
    const mayOthers = othersMay(statSync(file, { throwIfNoEntry: false })?.mode ?? 0);
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
    return authKey(readSecret(file).text.trim());
  } catch (error) {
    // What is in the file stays out of the message: a wrong file may hold other secrets.
    throw new UsageError(`-auth-file: ${file}: ${reasonOf(error)}`);
  }
}

/**
 * What nodes sign with: the lines of -cluster-key-file, else the clients' key; empty: nothing.
 * @throws UsageError without anything of what is in the file
 */
export function readClusterKeys({ clusterKeyFile }: AccessOptions, auth: AuthConfig | null): string[] {
  if (clusterKeyFile === undefined) return auth === null || auth.key === null ? [] : [auth.key];
  try {
    const lines = readSecret(clusterKeyFile).text.split("\n");
    const keys = lines.map((line) => line.trim()).filter((line) => line !== "");
    if (keys.length === 0 || keys.length > KEYS_MAX)
      throw new Error(`it has ${keys.length} lines with keys; one signs, and a second one may be accepted`);
    return keys.map((key) => authKey(key));
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
    const text = readBriefly(tlsCa).toString("utf8");
    if (!text.includes("-----BEGIN CERTIFICATE-----")) throw new Error("it holds no certificate in PEM");
    createSecureContext({ ca: text });
    return text;
  } catch (error) {
    throw new UsageError(`-tls-ca: ${tlsCa}: ${reasonOf(error)}`);
  }
}
