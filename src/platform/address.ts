/** An address and a port as they are written together: IPv6 in brackets. */
export function addressText(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** How a node is reached from its own machine. */
export function localUrl(isTls: boolean, port: number): string {
  return `${isTls ? "https" : "http"}://localhost:${port}`;
}
