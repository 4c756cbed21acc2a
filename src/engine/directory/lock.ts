/**
 * The lock of a data directory: two processes never share one. Node has no flock, so two means stand in for
 * it.
 *
 * - An abstract Unix socket named after the directory's device and inode (Linux). The kernel holds it and
 *   frees it with the process, so a restart after kill -9 need not wait. It decides alone among processes
 *   that see the same sockets: one kernel, one network namespace.
 * - The file LOCK: who holds the directory, its time of change refreshed every LOCK_TOUCH_MS. An owner that
 *   stops leaves it as LOCK.free, so that the next one needs no inode of a disk that has none. It is for
 *   owners that the socket cannot show: a container with a network of its own on the same volume, another
 *   machine on the same network file system, systems without abstract sockets. A new starter watches the
 *   time: while it moves, the owner lives and the lock is refused; once it has stood still for LOCK_STALE_MS,
 *   the lock is taken over.
 *
 * Left out on purpose: an owner that was frozen for longer than STALE_MS (a suspended virtual machine) and
 * wakes after another one took over can only notice it at its next touch; `onLost` is then called, and its
 * caller has to end the process.
 */
import { statSync } from "node:fs";
import type { Server } from "node:net";
import { HAS_NAMED_SOCKETS, holdSocket } from "../../platform/named-socket.ts";
import { isReadOnly, reasonOf } from "../../platform/system-error.ts";
import { isDiskFull } from "../slabs/io.ts";
import { LockFile, type PresentLock } from "./lock-file.ts";

/** How often the owner refreshes LOCK. */
export const LOCK_TOUCH_MS = 2000;

export interface DirectoryLock {
  /** Gives the directory back. Calling it twice is harmless. */
  release(): Promise<void>;
}

export interface LockOptions {
  /**
   * Another process has taken the directory over, because this one was frozen for a while: stop writing at
   * once. Without it, the error is thrown where nothing catches it, which ends the process.
   */
  onLost?: (error: Error) => void;
  /**
   * The directory is only read, and stays as it is: no LOCK file is written. Nodes that see the same sockets
   * are kept out all the same; others (see above) are noticed when they run already, but are not kept from
   * starting.
   */
  readOnly?: boolean;
  /** Something an operator should know. */
  warn?: (message: string) => void;
  /** Whether abstract sockets can be used; the default is to use them on Linux. */
  sockets?: boolean;
}

/**
 * Locks a directory that exists, until `release` or the end of the process. Takes up to LOCK_STALE_MS where
 * only a LOCK file of another namespace can tell whether its owner is alive, otherwise milliseconds.
 * @throws Error with one line for a person: the directory, its owner as far as known, and what to do
 */
export async function lockDirectory(directory: string, options: LockOptions = {}): Promise<DirectoryLock> {
  const { sockets = HAS_NAMED_SOCKETS, readOnly = false } = options;
  const file = new LockFile(directory);
  let socket: Server | null = null;
  if (sockets) {
    const { dev, ino } = statSync(directory, { bigint: true });
    socket = await holdSocket(`minivault-${dev}-${ino}`).catch((error: Error) => {
      throw new Error(`cannot lock ${directory}: ${reasonOf(error)}`);
    });
    if (socket === null) throw file.inUse();
  }
  try {
    const present = file.read();
    // Without a socket name of ours in its way, an owner that would share our sockets is dead.
    const isDead = socket !== null && file.seesOurSockets(present);
    if (present !== null && !isDead && (await file.isAlive(present))) throw file.inUse(present.owner);
    if (readOnly) return { release: () => closeServer(socket) };
    const tolerated = await take(file, present, options);
    return keep(file, socket, tolerated, options.onLost);
  } catch (error) {
    await closeServer(socket);
    throw error;
  }
}

/**
 * Puts our LOCK in place of `present`, whose owner is dead.
 * @returns the token of the owner whose LOCK stays where it is, as it cannot be written; "" otherwise
 */
async function take(file: LockFile, present: PresentLock | null, { warn }: LockOptions): Promise<string> {
  const staleToken = present?.owner?.token ?? "";
  try {
    await file.take(present === null ? null : staleToken);
    return "";
  } catch (error) {
    if (!isReadOnly(error) && !isDiskFull(error)) throw error;
    // Without it, nodes that do not see our socket are noticed when they write theirs.
    warn?.(
      `${file.name} cannot be written, ${reasonOf(error)}: a node on another machine or in another container would not see that ${file.directory} is in use`,
    );
    return staleToken;
  }
}

/** Refreshes LOCK until it is released. `tolerated`: token of an owner that is dead. */
function keep(
  file: LockFile,
  socket: Server | null,
  tolerated: string,
  onLost: LockOptions["onLost"],
): DirectoryLock {
  const timer = setInterval(() => {
    if (file.touch(tolerated)) return;
    clearInterval(timer);
    const error = file.inUse();
    error.message = `lost the lock: ${error.message}`;
    if (onLost === undefined) throw error;
    onLost(error);
  }, LOCK_TOUCH_MS);
  timer.unref();
  let released: Promise<void> | null = null;
  return {
    release() {
      released ??= (async () => {
        clearInterval(timer);
        // The file first: the socket covers its removal.
        file.giveBack();
        await closeServer(socket);
      })();
      return released;
    },
  };
}

function closeServer(server: Server | null): Promise<void> {
  return new Promise((resolve) => (server === null ? resolve() : server.close(() => resolve())));
}
