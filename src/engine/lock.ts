/**
 * The lock of a data directory: two processes never share one. Node has no flock, so two means stand in for it.
 *
 * - An abstract Unix socket named after the directory's device and inode: held by the kernel, gone with the process, so that
 *   a restart after kill -9 need not wait. It only reaches as far as the network namespace.
 * - The LOCK file: who holds the directory, touched every two seconds. A fresh one from another namespace or host (a
 *   container on the same volume) is respected; a stale one is taken over.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import { hostname } from "node:os";
import path from "node:path";

const TOUCH_MS = 2000;
const STALE_MS = 6000;

interface Owner {
  pid: number;
  host: string;
  /** Network namespace, where the system has them. */
  namespace: string;
  token: string;
}

export interface DirectoryLock {
  release(): Promise<void>;
}

function namespaceOf(): string {
  try {
    return fs.readlinkSync("/proc/self/ns/net");
  } catch {
    return "";
  }
}

/** Listens on the abstract socket; null when another process has it. */
function holdSocket(name: string): Promise<net.Server | null> {
  return new Promise((resolve, reject) => {
    const server = net.createServer((socket) => socket.destroy());
    server.once("error", (error: NodeJS.ErrnoException) =>
      error.code === "EADDRINUSE" ? resolve(null) : reject(error),
    );
    server.listen({ path: name, exclusive: true }, () => {
      server.unref();
      resolve(server);
    });
  });
}

function readOwner(file: string): { owner: Owner | null; ageMs: number } | null {
  try {
    const ageMs = Date.now() - fs.statSync(file).mtimeMs;
    let owner: Owner | null = null;
    try {
      owner = JSON.parse(fs.readFileSync(file, "utf8"));
    } catch {
      // Cut short by a crash: only its age counts.
    }
    return { owner, ageMs };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

/**
 * Locks a directory that exists, until `release` or the end of the process.
 * @throws Error with one line for a person when another process has it
 */
export async function lockDirectory(directory: string): Promise<DirectoryLock> {
  const file = path.join(directory, "LOCK");
  const namespace = namespaceOf();
  const inUse = (by: Owner | null): Error => {
    const who = by === null ? "another process" : `process ${by.pid} on ${by.host}`;
    return new Error(`${directory} is in use by ${who}: stop it, or use another -data directory`);
  };
  let socket: net.Server | null = null;
  if (process.platform === "linux") {
    const { dev, ino } = fs.statSync(directory);
    socket = await holdSocket(`\0minivault-${dev}-${ino}`);
    if (socket === null) throw inUse(readOwner(file)?.owner ?? null);
  }
  const present = readOwner(file);
  const elsewhere =
    present !== null && (present.owner?.namespace !== namespace || process.platform !== "linux");
  if (present !== null && elsewhere && present.ageMs < STALE_MS) {
    socket?.close();
    throw inUse(present.owner);
  }
  const token = randomBytes(8).toString("hex");
  const own: Owner = { pid: process.pid, host: hostname(), namespace, token };
  fs.writeFileSync(`${file}.${token}`, JSON.stringify(own), { mode: 0o600 });
  fs.renameSync(`${file}.${token}`, file);
  const timer = setInterval(() => {
    const now = new Date();
    // If the file is gone or cannot be touched, the socket still holds; there is nobody to tell here.
    fs.utimes(file, now, now, () => {});
  }, TOUCH_MS);
  timer.unref();
  return {
    async release() {
      clearInterval(timer);
      if (readOwner(file)?.owner?.token === token) fs.rmSync(file, { force: true });
      await new Promise<void>((resolve) => (socket === null ? resolve() : socket.close(() => resolve())));
    },
  };
}
