/** What -registry names: where the masters of a cluster keep their state together. */

export interface RegistryAddress {
  /** etcd's members that are asked, as URLs without a trailing slash. */
  endpoints: string[];
  /** All keys begin with it and a slash. */
  prefix: string;
  /** Whom etcd is to let in; null: it asks for nobody. */
  user: { name: string; password: string } | null;
}

const FORM = "etcd://host:port[,host:port]/prefix, with TLS etcds://";
/** Where etcd listens to clients. */
const PORT_DEFAULT = 2379;
const ENDPOINTS_MAX = 16;
const PREFIX_CHARACTERS_MAX = 255;

/**
 * Reads `etcd://[user:password@]host[:port][,host[:port]…]/prefix`. `etcds://` speaks TLS.
 * @throws Error whose message completes "-registry: …", without the password
 */
export function registryAddress(text: string): RegistryAddress {
  const match = /^([a-z0-9+]+):\/\/(?:([^@/]*)@)?([^@/]*)(?:\/(.*))?$/is.exec(text);
  if (match === null) throw new Error(`this is no ${FORM}`);
  const [, scheme, user, hosts, prefix = ""] = match;
  const kind = scheme.toLowerCase();
  if (kind !== "etcd" && kind !== "etcds")
    throw new Error(`"${scheme}://" is no registry that is known; what is known is ${FORM}`);
  return {
    endpoints: endpointsOf(kind === "etcds" ? "https" : "http", hosts),
    prefix: checkedPrefix(prefix.replace(/^\/+|\/+$/g, "")),
    user: user === undefined ? null : userOf(user),
  };
}

/** The address as it may be shown. */
export function registryText({ endpoints, prefix }: RegistryAddress): string {
  const scheme = endpoints[0].startsWith("https:") ? "etcds" : "etcd";
  return `${scheme}://${endpoints.map((url) => new URL(url).host).join(",")}/${prefix}`;
}

function endpointsOf(scheme: "http" | "https", hosts: string): string[] {
  const endpoints = hosts.split(",").map((host) => endpointOf(scheme, host.trim()));
  if (endpoints.length > ENDPOINTS_MAX)
    throw new Error(`${endpoints.length} members of etcd are named, and ${ENDPOINTS_MAX} are the most`);
  return [...new Set(endpoints)];
}

function endpointOf(scheme: "http" | "https", host: string): string {
  let url: URL;
  try {
    // Another scheme has no port of its own that would be left out.
    url = new URL(`etcd://${host}`);
  } catch {
    throw new Error(`"${host}" is not a host:port of etcd`);
  }
  if (host === "" || url.hostname === "" || url.pathname !== "" || url.search + url.hash !== "")
    throw new Error(`"${host}" is not a host:port of etcd`);
  return new URL(`${scheme}://${url.hostname}:${url.port === "" ? PORT_DEFAULT : url.port}`).origin;
}

function checkedPrefix(prefix: string): string {
  if (prefix === "")
    throw new Error("the prefix is missing: etcd://host:port/prefix, one of its own for each cluster");
  if (!/^[\w.-]+(\/[\w.-]+)*$/.test(prefix) || prefix.length > PREFIX_CHARACTERS_MAX)
    throw new Error(
      `the prefix "${prefix}" is not letters, digits, ".", "_" and "-", in parts with "/" between them, of ${PREFIX_CHARACTERS_MAX} characters at most`,
    );
  return prefix;
}

function userOf(text: string): { name: string; password: string } {
  const colon = text.indexOf(":");
  if (colon < 1) throw new Error("before the @ stands user:password");
  try {
    return {
      name: decodeURIComponent(text.slice(0, colon)),
      password: decodeURIComponent(text.slice(colon + 1)),
    };
  } catch {
    throw new Error("user:password before the @ is not percent-encoded as it should be");
  }
}
