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
import { randomBytes } from "node:crypto";
import {
  existsSync,
  lstatSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { link, rename, utimes } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { hostname } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isReadOnly, reasonOf } from "../../platform/system-error.ts";
import { isDiskFull } from "../slabs/io.ts";

/** How often the owner refreshes LOCK. */
export const LOCK_TOUCH_MS = 2000;
/** An unrefreshed LOCK is taken over after this long: more than two missed touches. */
export const LOCK_STALE_MS = 6000;
/** How often LOCK is looked at while it may be alive. */
const WATCH_MS = 250;

const LOCK_NAME = "LOCK";
/**
 * What is added to the name of a LOCK that was given back: the next one is written into it, so that it needs
 * no block and no inode of a full disk.
 */
const FREE = ".free";

/** The content of LOCK. */
interface Owner {
  pid: number;
  host: string;
  /**
   * The kernel's boot id and the network namespace; processes that share both see each other's abstract
   * sockets.
   */
  boot: string;
  namespace: string;
  /** When the lock was taken, ISO 8601. */
  started: string;
  /** Tells this taking of the lock from every other. */
  token: string;
}

interface LockFile {
  /** Null: unreadable, cut short by a crash of the system. */
  owner: Owner | null;
  modifiedMs: number;
}

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
  const { sockets = process.platform === "linux", readOnly = false } = options;
  const file = path.join(directory, LOCK_NAME);
  const own: Owner = {
    pid: process.pid,
    host: hostname(),
    boot: readOr("", () => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()),
    namespace: readOr("", () => readlinkSync("/proc/self/ns/net")),
    started: new Date().toISOString(),
    token: randomBytes(8).toString("hex"),
  };

  /** Of a dead owner, whose LOCK stays where it is. */
  let tolerated = "";
  let socket: Server | null = null;
  if (sockets) {
    const { dev, ino } = statSync(directory, { bigint: true });
    socket = await holdSocket(`\0minivault-${dev}-${ino}`, directory);
    if (socket === null) throw inUse(directory, readLock(file)?.owner ?? null);
  }
  try {
    const present = readLock(file);
    // Without a socket name of ours in its way, an owner that would share our sockets is dead.
    const seesOurSocket =
      socket !== null &&
      own.boot !== "" &&
      present?.owner?.boot === own.boot &&
      present.owner.namespace === own.namespace;
    if (present !== null && !seesOurSocket && (await isAlive(file, present))) {
      throw inUse(directory, present.owner);
    }
    if (!readOnly) {
      const staleToken = present?.owner?.token ?? "";
      await takeFile(file, own, directory, staleToken).catch((error) => {
        if (!isReadOnly(error) && !isDiskFull(error)) throw error;
        tolerated = staleToken;
        // Without it, nodes that do not see our socket are noticed when they write theirs.
        options.warn?.(
          `${file} cannot be written, ${reasonOf(error)}: a node on another machine or in another container would not see that ${directory} is in use`,
        );
      });
    }
  } catch (error) {
    await closeServer(socket);
    throw error;
  }

  if (readOnly) return { release: () => closeServer(socket) };

  const lost = (): void => {
    clearInterval(timer);
    const error = inUse(directory, readLock(file)?.owner ?? null);
    error.message = `lost the lock: ${error.message}`;
    if (options.onLost === undefined) throw error;
    options.onLost(error);
  };
  const touch = (): void => {
    let present: LockFile | null = null;
    try {
      present = readLock(file);
      // Removed by hand, or there was no room: put it back, for the sake of others.
      if (present === null) writeFileSync(file, JSON.stringify(own), { mode: 0o600, flag: "wx" });
    } catch {
      // The disk has a problem; the socket still holds, and the store has its own ways to report such a disk.
      return;
    }
    if (present?.owner && present.owner.token !== own.token && present.owner.token !== tolerated) {
      lost();
      return;
    }
    const now = new Date();
    utimes(file, now, now).catch(() => {});
  };
  const timer = setInterval(touch, LOCK_TOUCH_MS);
  timer.unref();

  let released: Promise<void> | null = null;
  return {
    release() {
      released ??= (async () => {
        clearInterval(timer);
        // The file first: the socket covers its removal.
        if (readOr(null, () => readLock(file))?.owner?.token === own.token) giveBack(file);
        await closeServer(socket);
      })();
      return released;
    },
  };
}

/** Watches a LOCK of an owner that no socket can show: alive when its time of change is fresh, or moves. */
async function isAlive(file: string, first: LockFile): Promise<boolean> {
  // A time in the future (another machine's clock) says nothing: watch for the whole while.
  const silentMs = Math.max(0, Date.now() - first.modifiedMs);
  const until = performance.now() + LOCK_STALE_MS - silentMs;
  while (performance.now() < until) {
    await sleep(Math.min(WATCH_MS, Math.max(1, until - performance.now())));
    const present = readLock(file);
    // Removed: its owner has just stopped in order.
    if (present === null) return false;
    if (present.modifiedMs !== first.modifiedMs || present.owner?.token !== first.owner?.token) return true;
  }
  return false;
}

/**
 * Puts our LOCK in place. Of several that find no file, or the same stale one, only one gets through: link
 * fails where a file is, and a stale file is first renamed away, which is checked to have hit that very one.
 */
async function takeFile(file: string, own: Owner, directory: string, staleToken: string): Promise<void> {
  const mine = `${file}.${own.token}`;
  const aside = `${mine}.stale`;
  const reused = await rename(`${file}${FREE}`, mine).then(
    () => true,
    () => false,
  );
  const written = writeOwner(mine, own, reused ? "r+" : "w");
  try {
    const moved = await rename(file, aside).then(
      () => true,
      (error) => (isMissing(error) ? false : Promise.reject(error)),
    );
    if (moved && (readLock(aside)?.owner?.token ?? "") !== staleToken) {
      // Somebody else was quicker: give the file back.
      await rename(aside, file);
      throw inUse(directory, readLock(file)?.owner ?? null);
    }
    // The stale file has a block of its own, which a full disk has not.
    const fresh = !written && moved && writeOwner(aside, own, "r+") ? aside : mine;
    if (!existsSync(fresh)) throw Object.assign(new Error("no inode for LOCK"), { code: "ENOSPC" });
    await link(fresh, file).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "EEXIST") throw inUse(directory, readLock(file)?.owner ?? null);
      // File systems without hard links (FAT, some network ones); on tmpfs each takes an inode.
      const hasNoLinks = error.code === "EPERM" || error.code === "ENOTSUP" || error.code === "ENOSYS";
      if (!hasNoLinks && !isDiskFull(error)) throw error;
      return rename(fresh, file);
    });
  } finally {
    rmSync(mine, { force: true });
    rmSync(aside, { force: true });
  }
}

/** Takes the lock away, and keeps its file for the next one. */
function giveBack(file: string): void {
  try {
    renameSync(file, `${file}${FREE}`);
  } catch {
    rmSync(file, { force: true });
  }
}

/**
 * False: the disk is full, and the file empty, or not there. Its time of change alone then says that its
 * owner lives.
 */
function writeOwner(file: string, own: Owner, flag: "w" | "r+"): boolean {
  const bytes = Buffer.from(JSON.stringify(own));
  try {
    writeFileSync(file, bytes, { mode: 0o600, flag });
  } catch (error) {
    if (isDiskFull(error)) return false;
    throw error;
  }
  truncateSync(file, bytes.length);
  return true;
}

/** Listens on an abstract socket; null when another process has it. */
function holdSocket(name: string, directory: string): Promise<Server | null> {
  return new Promise((resolve, reject) => {
    const server = createServer((connection) => connection.destroy());
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EADDRINUSE") resolve(null);
      else reject(new Error(`cannot lock ${directory}: ${error.message}`));
    });
    // exclusive: never handed over by a cluster module's primary process.
    server.listen({ path: name, exclusive: true }, () => {
      server.unref();
      resolve(server);
    });
  });
}

function closeServer(server: Server | null): Promise<void> {
  return new Promise((resolve) => (server === null ? resolve() : server.close(() => resolve())));
}

/** Null when there is no LOCK. Anything but a regular file is an error: it is not ours to remove. */
function readLock(file: string): LockFile | null {
  try {
    const status = lstatSync(file);
    if (!status.isFile()) throw new Error(`${file} is not a file: it is no lock of minivault; move it away`);
    return { owner: parseOwner(readFileSync(file, "utf8")), modifiedMs: status.mtimeMs };
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

function parseOwner(text: string): Owner | null {
  const owner = readOr(null, () => JSON.parse(text)) as Partial<Owner> | null;
  const isOwner =
    typeof owner?.pid === "number" && typeof owner.host === "string" && typeof owner.token === "string";
  return isOwner ? (owner as Owner) : null;
}

function inUse(directory: string, owner: Owner | null): Error {
  const who = owner === null ? "another process" : `process ${owner.pid} on ${owner.host}`;
  return new Error(
    `${directory} is in use by ${who}: stop that one first, or choose another directory with -data`,
  );
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === "ENOENT";
}

function readOr<Result>(otherwise: Result, read: () => Result): Result {
  try {
    return read();
  } catch {
    return otherwise;
  }
}
