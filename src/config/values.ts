/**
 * Parsers of single flag values. Each throws an Error whose message completes "-flag: …".
 */
import { isIP } from "node:net";
import { isPartitionCount, PARTITIONS_MAX, PARTITIONS_MIN } from "../util/hash-prefix.ts";
import { VALUE_BYTES_MAX } from "../util/limits.ts";

/** A mistake of the caller; the message is one line. */
export class UsageError extends Error {}

const UNITS: Record<string, number> = {
  "": 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  k: 2 ** 10,
  m: 2 ** 20,
  g: 2 ** 30,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
};

/** A whole number within bounds, both included. */
export function integer(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most)
      throw new Error(`"${text}" is not a whole number from ${least} to ${most}`);
    return value;
  };
}

/** Partitions of a cluster. */
export function partitionCount(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !isPartitionCount(value))
    throw new Error(`"${text}" is not a power of two from ${PARTITIONS_MIN} to ${PARTITIONS_MAX}`);
  return value;
}

/** A size such as 1GiB, 512MiB, 100MB or 4096, in bytes. */
export function size(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text);
  const unit = match === null ? undefined : UNITS[match[2].toLowerCase()];
  if (match === null || unit === undefined)
    throw new Error(`"${text}" is not a size such as 1GiB, 512MiB or 100MB`);
  const bytes = Math.floor(Number(match[1]) * unit);
  if (bytes < 1 || bytes > VALUE_BYTES_MAX) throw new Error(`"${text}" is not from 1 byte to 64GiB`);
  return bytes;
}

const TIME_UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** A time such as 30s, 10m or 2h, or 0; in milliseconds. */
export function duration(text: string): number {
  const match = /^(\d{1,9})(ms|s|m|h)$/.exec(text);
  if (text === "0") return 0;
  if (match === null) throw new Error(`"${text}" is not a time such as 30s, 10m or 2h`);
  return Number(match[1]) * TIME_UNITS[match[2]];
}

/** One of a few words. */
export function oneOf<Choice extends string>(...choices: Choice[]): (text: string) => Choice {
  return (text) => {
    if (!(choices as string[]).includes(text))
      throw new Error(`"${text}" is not ${choices.map((choice) => `"${choice}"`).join(" or ")}`);
    return text as Choice;
  };
}

/** The value of a switch. */
export function yesOrNo(text: string): boolean {
  return oneOf("true", "false")(text) === "true";
}

/** Names of hosts have at most 253; to read a very long one takes milliseconds. */
const URL_CHARACTERS_MAX = 512;

/**
 * An http or https URL of a node, or host:port; answers it without a trailing slash.
 * @param scheme of one that is given without
 */
export function nodeUrl(text: string, scheme: "http" | "https" = "http"): string {
  let url: URL;
  if (text.length > URL_CHARACTERS_MAX) throw new Error(`a URL has at most ${URL_CHARACTERS_MAX} characters`);
  try {
    url = new URL(text.includes("://") ? text : `${scheme}://${text}`);
  } catch {
    throw new Error(`"${text}" is not a URL such as http://10.0.0.1:3000`);
  }
  if (url.protocol !== "http:" && url.protocol !== "https:")
    throw new Error(`"${text}" is not an http or https URL`);
  const extra = url.search + url.hash + url.username + url.password;
  if (url.pathname !== "/" || extra !== "") throw new Error(`"${text}" has more than scheme, host and port`);
  return url.origin;
}

/**
 * A node's URL as it was typed: which scheme it has when it names none is only known with the other flags.
 */
export function nodeAddress(text: string): string {
  nodeUrl(text);
  return text;
}

/** The same for several, comma-separated. */
export function nodeAddresses(text: string): string[] {
  const parts = text.split(",").map((part) => part.trim());
  const addresses = parts.filter((part) => part !== "").map(nodeAddress);
  if (addresses.length === 0) throw new Error("it names no URL");
  return addresses;
}

/** A region's name: it goes into URLs, files and metrics as it is. */
export function region(text: string): string {
  if (!/^[a-z0-9][a-z0-9._-]{0,62}$/i.test(text))
    throw new Error(`"${text}" is not a name of up to 63 letters, digits, ".", "_" or "-"`);
  return text;
}

/**
 * An address or name to listen on. IPv6 may stand in brackets, as in URLs, and is answered without: that is
 * what the system takes. A zone stays on ("fe80::1%eth0").
 */
export function listenHost(text: string): string {
  const trimmed = text.trim();
  const inBrackets = /^\[(.*)\]$/.exec(trimmed);
  const host = inBrackets === null ? trimmed : inBrackets[1];
  if (host === "") throw new Error("it is empty");
  if (inBrackets !== null && isIP(host) !== 6)
    throw new Error(`"${text}": only an IPv6 address stands in brackets`);
  if (/[\s/[\]]/.test(host) || (host.includes(":") && isIP(host) !== 6))
    throw new Error(`"${text}" is not an address or a name; a port is given by -port`);
  return host;
}

/** Origins of web pages, comma-separated, as browsers send them: without a slash at the end; or "*" alone. */
export function origins(text: string): string[] {
  const all = text.split(",").map((part) => part.trim().toLowerCase());
  if (all.length === 1 && all[0] === "*") return all;
  return all.map((part) => {
    if (part === "*") throw new Error('"*" stands alone');
    // Not only http: apps have schemes of their own, such as capacitor://localhost.
    if (!/^[a-z][a-z0-9+.-]*:\/\/[^/?#\s@,]+$/.test(part) || !URL.canParse(part))
      throw new Error(`"${part}" is not an origin such as https://app.example or http://localhost:5173`);
    const { origin } = new URL(part);
    return origin === "null" ? part : origin;
  });
}

/** Any text that is not blank. */
export function nonEmpty(text: string): string {
  if (text.trim() === "") throw new Error("it is empty");
  return text;
}

/** Shortest and longest shared key, in bytes. A shorter one can be guessed from what it signs. */
export const AUTH_KEY_BYTES_MIN = 16;
const AUTH_KEY_BYTES_MAX = 1024;
/** To try something with, where nobody else reaches the port. */
const LOCAL_AUTH_KEY_BYTES_MIN = 8;

/** What is wrong with a key of fewer than AUTH_KEY_BYTES_MIN bytes. */
export const SHORT_KEY = `the key has fewer than ${AUTH_KEY_BYTES_MIN} characters, and could be guessed: openssl rand -hex 32 makes one`;

/** A shared key, as a header can carry it. Its text never appears in an error. */
export function authKey(text: string, bytesMin = AUTH_KEY_BYTES_MIN): string {
  if (text === "") throw new Error("the key is empty");
  if (!/^[\x21-\x7e]+$/.test(text))
    throw new Error("the key has other characters than visible ASCII without blanks");
  if (text.length < bytesMin) throw new Error(SHORT_KEY);
  if (text.length > AUTH_KEY_BYTES_MAX) throw new Error(`the key is longer than ${AUTH_KEY_BYTES_MAX} bytes`);
  return text;
}

/** A key that is typed: who judges the whole configuration refuses short ones where others reach the port. */
export function typedAuthKey(text: string): string {
  return authKey(text, LOCAL_AUTH_KEY_BYTES_MIN);
}
