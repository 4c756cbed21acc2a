/**
 * The folder that a backup goes into, or a restored store: new or empty, this user's own, and apart from what
 * it is a copy of.
 */
import fs from "node:fs";
import path from "node:path";
import { trustProblem } from "../../platform/private-directory.ts";
import { isOutOfDescriptors, reasonOf } from "../../platform/system-error.ts";
import { VaultError } from "../../util/errors.ts";
import { beginBackupFile, type FilledBy, UNFINISHED_BACKUP, unfinishedBy } from "../directory/backup-file.ts";
import { type DirectoryLock, lockDirectory } from "../directory/lock.ts";
import { DirectoryInUse } from "../directory/lock-file.ts";
import { syncFolder } from "./file-copy.ts";

/** Longest path that Linux takes. */
const PATH_BYTES_MAX = 4096;
const LOCKS = /^LOCK/;
/** What a backup or a restore puts into its folder, as long as that is no copy, or no store, yet. */
const OF_UNFINISHED = /^(?:LOCK.*|BACKUP\.new|STORE\.new|shard-\d+)$/;

/** A folder that can be filled. */
export interface Place {
  /** As it was named: not every path can be told without its links (those of /proc cannot). */
  directory: string;
  /** It was not there before. */
  made: boolean;
  /** One of the same kind that was ended has left it. */
  isLeft: boolean;
}

/** One that is being filled, and that nobody else takes. */
export interface Target extends Place {
  lock: DirectoryLock;
  /** Another process has taken it over, because this one was frozen for a while: it is not to be touched. */
  isLost: boolean;
}

/**
 * Makes the folder, or finds it empty, or as one of the same kind has left it that was ended.
 * @param source what is copied
 * @throws VaultError with a sentence for a person: bad_request for a path that cannot be used, conflict for a
 * folder that is not empty, overloaded where no descriptor is free
 */
export function findPlace(directory: string, source: string, by: FilledBy): Place {
  if (!path.isAbsolute(directory))
    throw new VaultError("bad_request", `give the folder by an absolute path; "${directory}" is none`);
  if (directory.includes("\0") || Buffer.byteLength(directory) > PATH_BYTES_MAX)
    throw new VaultError("bad_request", "the path of the folder is none that a system takes");
  demandApart(directory, source);
  try {
    const made = makeFolder(directory);
    try {
      demandOwn(directory);
      const isLeft = unfinishedBy(directory) === by;
      demandEmpty(directory, isLeft ? OF_UNFINISHED : LOCKS);
      return { directory: path.resolve(directory), made, isLeft };
    } catch (error) {
      if (made) fs.rmdirSync(directory);
      throw error;
    }
  } catch (error) {
    if (error instanceof VaultError) throw error;
    const code = isOutOfDescriptors(error) ? "overloaded" : "bad_request";
    throw new VaultError(code, `${directory} cannot be used: ${reasonOf(error)}`);
  }
}

/**
 * Takes a folder for oneself: nobody else fills it until `leaveTarget`, and no node starts on it. What one of
 * the same kind has left there is removed.
 * @throws VaultError as `findPlace`, and conflict where another process has it
 */
export async function takeTarget(directory: string, source: string, by: FilledBy): Promise<Target> {
  const place = findPlace(directory, source, by);
  const onLost = (): void => {
    target.isLost = true;
  };
  const lock = await lockDirectory(place.directory, { onLost }).catch((error: Error) => {
    if (!(error instanceof DirectoryInUse)) throw error;
    const text = `${place.directory} is in use by ${error.who}: wait for it, or name another folder`;
    throw new VaultError("conflict", text);
  });
  const target: Target = { ...place, lock, isLost: false };
  try {
    if (place.isLeft) await clearLeft(place.directory, by);
    else {
      // Another one may have come and gone before the lock was ours.
      demandEmpty(place.directory, LOCKS);
      beginBackupFile(place.directory, by);
    }
    await syncFolder(place.directory);
    return target;
  } catch (error) {
    // Of a folder that was empty a moment ago nothing else can be ours.
    if (place.made && !(error instanceof VaultError)) await clearTarget(target).catch(() => {});
    await leaveTarget(target, by);
    throw error;
  }
}

/** Removes what an ended one has put into a folder; that it has not finished stays said. */
async function clearLeft(directory: string, by: FilledBy): Promise<void> {
  if (unfinishedBy(directory) !== by)
    throw new VaultError("conflict", `${directory} was being filled just now: look at it first`);
  demandEmpty(directory, OF_UNFINISHED);
  await removeAll(directory, (name) => name !== UNFINISHED_BACKUP && !LOCKS.test(name));
}

async function removeAll(directory: string, isMeant: (name: string) => boolean): Promise<void> {
  const names = fs.readdirSync(directory).filter(isMeant);
  await Promise.all(
    names.map((name) => fs.promises.rm(path.join(directory, name), { recursive: true, force: true })),
  );
}

/** True: it was not there. A missing folder above it may be a disk that is not mounted. */
function makeFolder(directory: string): boolean {
  try {
    fs.mkdirSync(directory, { mode: 0o700 });
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT")
      throw new VaultError(
        "bad_request",
        `the folder that ${directory} is to be made in is not there: make it, or mount its disk`,
      );
    if (code !== "EEXIST") throw error;
    return false;
  }
}

function demandOwn(directory: string): void {
  if (!fs.statSync(directory).isDirectory()) throw new VaultError("bad_request", `${directory} is no folder`);
  const found = trustProblem(directory);
  if (found !== null)
    throw new VaultError("bad_request", `${directory} cannot be used: ${found.problem}; ${found.remedy}`);
}

/** @throws VaultError naming what is in the folder */
function demandEmpty(directory: string, passedOver: RegExp): void {
  const names = fs.readdirSync(directory);
  if (names.includes("BACKUP"))
    throw new VaultError(
      "conflict",
      `${directory} is not empty: it is a whole backup already; name another folder`,
    );
  const first = names.find((name) => !passedOver.test(name));
  if (first !== undefined)
    throw new VaultError(
      "conflict",
      `${directory} is not empty (it has ${first}): name a folder that is new or empty`,
    );
}

/** Neither lies in the other, by whatever names. */
function demandApart(directory: string, source: string): void {
  const from = path.join(fs.realpathSync(source), path.sep);
  const to = path.join(realPath(path.resolve(directory)), path.sep);
  if (to.startsWith(from) || from.startsWith(to))
    throw new VaultError("bad_request", `${directory} and ${source} must not lie in each other`);
}

/** Of a path whose end may not be there yet. */
function realPath(file: string): string {
  try {
    return fs.realpathSync(file);
  } catch {
    const above = path.dirname(file);
    return above === file ? file : path.join(realPath(above), path.basename(file));
  }
}

/** Removes what was put into the folder, and the folder if it was made for it. */
export async function clearTarget({ directory, made, isLost }: Target): Promise<void> {
  if (isLost) return;
  // Who is ended here leaves what says that it is not finished.
  await removeAll(directory, (name) => name !== UNFINISHED_BACKUP && !LOCKS.test(name));
  await removeAll(directory, () => true);
  if (made) fs.rmdirSync(directory);
}

/** Lets others have the folder. A copy has no file of a lock in it; a store may. */
export async function leaveTarget({ directory, lock }: Target, by: FilledBy): Promise<void> {
  await lock.release();
  if (by === "backup") fs.rmSync(path.join(directory, "LOCK.free"), { force: true });
}
