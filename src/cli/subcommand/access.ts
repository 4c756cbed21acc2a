/** As whom a command asks, and whose word it takes for who answers. */
import { type AccessOptions, readAuth, readTlsCa } from "../../config/access.ts";
import { UsageError } from "../../config/values.ts";
import { reasonOf } from "../../platform/system-error.ts";
import { readBriefly } from "../../util/brief-read.ts";
import { optionOf, type SubcommandOption, type Words } from "./subcommand.ts";

/** Flags for a client's token. @param what it is, for the help */
export function tokenOptions(what: string): Readonly<Record<string, SubcommandOption>> {
  return {
    token: {
      value: "token",
      text: `${what}; the process list shows it, so prefer MINIVAULT_TOKEN or -token-file`,
      hasVariable: true,
      unless: ["token-file", "auth", "auth-file"],
    },
    "token-file": { value: "file", text: "file that holds the token" },
  };
}

/**
 * The token that a command shows, or the shared key in its place; null: neither was given.
 * @throws UsageError, without the token, for one that no header can carry
 */
export function tokenOf(words: Words): string | null {
  const token = optionOf(words, "token");
  const file = optionOf(words, "token-file");
  if (file === undefined) return token === undefined ? keyOf(words) : sendable("-token", token);
  if (token !== undefined) throw new UsageError("-token and -token-file: give only one of them");
  let text: string;
  try {
    text = readBriefly(file).toString().trim();
  } catch (error) {
    throw new UsageError(`-token-file: ${file}: ${reasonOf(error)}`);
  }
  return sendable(`-token-file: ${file}`, text);
}

function sendable(from: string, token: string): string {
  if (token === "") throw new UsageError(`${from}: it is empty`);
  if (!/^[\x21-\x7e]+$/.test(token))
    throw new UsageError(`${from}: a token is one word of visible ASCII characters`);
  return token;
}

/** The shared key that `-auth` or `-auth-file` give, or null. */
function keyOf({ values, given }: Words): string | null {
  const { auth, "auth-file": authFile } = values;
  const isGiven = (name: string): boolean => given.has(name === "authFile" ? "auth-file" : name);
  return readAuth({ auth, authFile } as AccessOptions, isGiven)?.key ?? null;
}

/** Text of the certificates of `-tls-ca`, or null. */
export function authorityOf({ values }: Words): string | null {
  const tlsCa = values["tls-ca"] as string | undefined;
  return tlsCa === undefined ? null : readTlsCa({ tlsCa });
}

/** How nodes are reached that are named without a scheme: who knows whom to trust wants certificates. */
export function schemeOf({ values }: Words): "http" | "https" {
  return values["tls-ca"] === undefined ? "http" : "https";
}
