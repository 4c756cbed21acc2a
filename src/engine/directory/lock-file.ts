/** The file LOCK of a data directory, as one process sees it (lock.ts has what it is for). */
import { randomBytes } from "node:crypto";
import {
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { link, rename, utimes } from "node:fs/promises";
import { hostname } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isDiskFull } from "../slabs/io.ts";

/** An unrefreshed LOCK is taken over after this long: more than two missed touches. */
export const LOCK_STALE_MS = 6000;
/** How often LOCK is looked at while it may be alive. */
const WATCH_MS = 250;
/** How often it is looked whether others who want it are done. */
const SETTLE_MS = 10;

const LOCK_NAME = "LOCK";
const OWNER_BYTES_MAX = 64 * 1024;
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

/** A LOCK that is there. */
export interface PresentLock {
  /** Null: unreadable, cut short by a crash of the system. */
  owner: Owner | null;
  modifiedMs: number;
}

/** Another process has the directory. */
export class DirectoryInUse extends Error {
  /** That process, for a person. */
  readonly who: string;

  constructor(directory: string, who: string) {
    super(`${directory} is in use by ${who}: stop that one first, or choose another directory with -data`);
    this.who = who;
  }
}

export class LockFile {
  readonly directory: string;
  readonly name: string;
  /** This process. */
  private readonly own: Owner;

  constructor(directory: string) {
    this.directory = directory;
    this.name = path.join(directory, LOCK_NAME);
    this.own = {
      pid: process.pid,
      host: hostname(),
      boot: readOr("", () => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()),
      namespace: readOr("", () => readlinkSync("/proc/self/ns/net")),
      started: new Date().toISOString(),
      token: randomBytes(8).toString("hex"),
    };
  }

  /** Null when there is no LOCK. Anything but a regular file is an error: it is not ours to remove. */
  read(): PresentLock | null {
    return readLock(this.name);
  }

  /** What to tell who wants the directory. `owner`: null, as far as known; left out: as the file has it. */
  inUse(owner: Owner | null = this.read()?.owner ?? null): DirectoryInUse {
    const who = owner === null ? "another process" : `process ${owner.pid} on ${owner.host}`;
    return new DirectoryInUse(this.directory, who);
  }

  /** Whether the owner of a LOCK sees the same abstract sockets as this process. */
  seesOurSockets(present: PresentLock | null): boolean {
    const { boot, namespace } = this.own;
    return boot !== "" && present?.owner?.boot === boot && present.owner.namespace === namespace;
  }

  /** Watches a LOCK of an owner that no socket can show: alive when its time of change is fresh, or moves. */
  async isAlive(first: PresentLock): Promise<boolean> {
    // A time in the future (another machine's clock) says nothing: watch for the whole while.
    const silentMs = Math.max(0, Date.now() - first.modifiedMs);
    const until = performance.now() + LOCK_STALE_MS - silentMs;
    while (performance.now() < until) {
      await sleep(Math.min(WATCH_MS, Math.max(1, until - performance.now())));
      const present = this.read();
      // Removed: its owner has just stopped in order.
      if (present === null) return false;
      if (present.modifiedMs !== first.modifiedMs || present.owner?.token !== first.owner?.token) return true;
    }
    return false;
  }

  /**
   * Puts our LOCK in place. Of several that find no file, or the same stale one, only one gets through: link
   * fails where a file is, and a stale file is first renamed away, which is checked to have hit that very
   * one. It may have hit the fresh one of somebody quicker, and another one's link the gap that this leaves:
   * who has linked beside others waits for them, and looks whether it is still there.
   * @param staleToken what the LOCK has that is there; "": unreadable; null: none is there
   * @throws what the disk says, or that the directory is in use
   */
  async take(staleToken: string | null): Promise<void> {
    const { name, own } = this;
    const mine = `${name}.${own.token}`;
    const aside = `${mine}.stale`;
    const reused = await rename(`${name}${FREE}`, mine).then(
      () => true,
      () => false,
    );
    const written = writeOwner(mine, own, reused ? "r+" : "w");
    try {
      const moved =
        staleToken !== null &&
        (await rename(name, aside).then(
          () => true,
          (error) => (isMissing(error) ? false : Promise.reject(error)),
        ));
      if (moved && (readLock(aside)?.owner?.token ?? "") !== staleToken) {
        // Somebody else was quicker: give the file back.
        await rename(aside, name);
        throw this.inUse();
      }
      // The stale file has a block of its own, which a full disk has not.
      const fresh = !written && moved && writeOwner(aside, own, "r+") ? aside : mine;
      if (!existsSync(fresh)) throw Object.assign(new Error("no inode for LOCK"), { code: "ENOSPC" });
      await link(fresh, name).catch((error: NodeJS.ErrnoException) => {
        if (error.code === "EEXIST") throw this.inUse();
        // File systems without hard links (FAT, some network ones); on tmpfs each takes an inode.
        const hasNoLinks = error.code === "EPERM" || error.code === "ENOTSUP" || error.code === "ENOSYS";
        if (!hasNoLinks && !isDiskFull(error)) throw error;
        return rename(fresh, name);
      });
      if (written && !(await this.isStillOurs())) throw this.inUse();
    } finally {
      rmSync(mine, { force: true });
      rmSync(aside, { force: true });
    }
  }

  /** Waits for others who want to take it, unless they have died over it. */
  private async isStillOurs(): Promise<boolean> {
    const { token } = this.own;
    const isAnothers = (name: string): boolean =>
      name.startsWith(`${LOCK_NAME}.`) && name !== `${LOCK_NAME}${FREE}` && !name.includes(token);
    const isAlone = (): boolean => !readdirSync(this.directory).some(isAnothers);
    if (isAlone()) return true;
    const until = performance.now() + WATCH_MS;
    do await sleep(SETTLE_MS);
    while (!isAlone() && performance.now() < until);
    return this.read()?.owner?.token === token;
  }

  /**
   * Refreshes it. `tolerated`: token of a dead owner, whose LOCK cannot be replaced.
   * @returns false: it is another process's now
   */
  touch(tolerated: string): boolean {
    let present: PresentLock | null = null;
    try {
      present = this.read();
      // Removed by hand, or there was no room: put it back, for the sake of others.
      if (present === null) writeFileSync(this.name, JSON.stringify(this.own), { mode: 0o600, flag: "wx" });
    } catch {
      // The disk has a problem; the socket still holds, and the store has its own ways to report such a disk.
      return true;
    }
    const token = present?.owner?.token ?? this.own.token;
    if (token !== this.own.token && token !== tolerated) return false;
    const now = new Date();
    utimes(this.name, now, now).catch(() => {});
    return true;
  }

  /** Takes our LOCK away, and keeps its file for the next one. */
  giveBack(): void {
    if (readOr(null, () => this.read())?.owner?.token !== this.own.token) return;
    try {
      renameSync(this.name, `${this.name}${FREE}`);
    } catch {
      rmSync(this.name, { force: true });
    }
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

function readLock(file: string): PresentLock | null {
  try {
    const status = lstatSync(file);
    if (!status.isFile()) throw new Error(`${file} is not a file: it is no lock of minivault; move it away`);
    // A larger one is none that any process wrote.
    const text = status.size > OWNER_BYTES_MAX ? "" : readFileSync(file, "utf8");
    return { owner: parseOwner(text), modifiedMs: status.mtimeMs };
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
