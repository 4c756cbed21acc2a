/**
 * The folder that a backup goes into, or a restored store: new or empty, this user's own, and apart from what
 * it is a copy of.
 */
import fs from "node:fs";
import path from "node:path";
import { trustProblem } from "../../platform/private-directory.ts";
import { reasonOf } from "../../platform/system-error.ts";
import { VaultError } from "../../util/errors.ts";
import { beginBackupFile } from "../directory/backup-file.ts";

/** Longest path that Linux takes. */
const PATH_BYTES_MAX = 4096;

export interface Target {
  /** As it was named: not every path can be told without its links (those of /proc cannot). */
  directory: string;
  /** It was not there before. */
  made: boolean;
}

/**
 * Makes the folder, or finds it empty.
 * @param source what is copied
 * @param passedOver names of what may be in it all the same
 * @throws VaultError with a sentence for a person: bad_request for a path that cannot be used, conflict for a
 * folder that is not empty
 */
export function prepareTarget(directory: string, source: string, passedOver: RegExp | null = null): Target {
  if (!path.isAbsolute(directory))
    throw new VaultError("bad_request", `give the folder by an absolute path; "${directory}" is none`);
  if (directory.includes("\0") || Buffer.byteLength(directory) > PATH_BYTES_MAX)
    throw new VaultError("bad_request", "the path of the folder is none that a system takes");
  demandApart(directory, source);
  try {
    const made = makeFolder(directory);
    try {
      demandOwn(directory);
      demandEmpty(directory, passedOver);
    } catch (error) {
      if (made) fs.rmdirSync(directory);
      throw error;
    }
    return { directory: path.resolve(directory), made };
  } catch (error) {
    if (error instanceof VaultError) throw error;
    throw new VaultError("bad_request", `${directory} cannot be used: ${reasonOf(error)}`);
  }
}

/**
 * Takes a folder for oneself: of two who have found it empty one fills it.
 * @throws VaultError: another one does; nothing of it is to be touched
 */
export function claimTarget({ directory }: Target, by: "backup" | "restore"): void {
  try {
    beginBackupFile(directory, by);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    throw new VaultError("conflict", `${directory} is being filled by another command: name another folder`);
  }
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
export function demandEmpty(directory: string, passedOver: RegExp | null): void {
  const first = fs.readdirSync(directory).find((name) => passedOver?.test(name) !== true);
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
export async function clearTarget({ directory, made }: Target): Promise<void> {
  const all = fs.readdirSync(directory);
  await Promise.all(
    all.map((name) => fs.promises.rm(path.join(directory, name), { recursive: true, force: true })),
  );
  if (made) fs.rmdirSync(directory);
}
