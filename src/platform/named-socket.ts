/**
 * Abstract Unix sockets (Linux) as locks: the kernel holds one and frees it with the process. They are seen
 * within one kernel and one network namespace.
 */
import { createServer, type Server } from "node:net";

/** Whether there are such sockets here. */
export const HAS_NAMED_SOCKETS = process.platform === "linux";

/**
 * Takes a name, until the server is closed or the process ends; null when another process has it.
 * @throws Error of the system
 */
export function holdSocket(name: string): Promise<Server | null> {
  return new Promise((resolve, reject) => {
    const server = createServer((connection) => connection.destroy());
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EADDRINUSE") resolve(null);
      else reject(error);
    });
    // exclusive: never handed over by a cluster module's primary process.
    server.listen({ path: `\0${name}`, exclusive: true }, () => {
      server.unref();
      resolve(server);
    });
  });
}
