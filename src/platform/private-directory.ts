/**
 * Directories that nobody but this user may write to. The data directory is one: native addons are loaded
 * from it, so who can write there can run programs as this user; and who can write to a slab can change
 * values.
 *
 * Folders above it are not looked at: in a shared one (such as /tmp) others can neither rename nor remove
 * what is ours, where it has the sticky bit; and addons are loaded from the very file that was checked
 * (addon.ts), whatever becomes of its path.
 */
import fs from "node:fs";
import path from "node:path";
import { reasonOf, sentenceOf } from "./system-error.ts";

const WRITABLE_BY_OTHERS = 0o022;
const OPEN_TO_OTHERS = 0o077;
const ROOT = 0;

/**
 * What a node keeps in its data directory, besides `shard-000` and so on; all else there is somebody else's.
 */
const OWN_FILES = /^(STORE|LOCK|CLUSTER|MASTER|DROPPED|CEILING|LIVES|RUN|FEED|REGISTRY|BACKUP)(\..*)?$/;
const OWN_FOLDERS = /^(shard-\d{3}|keys|hints|master)$/;
/** And in these folders; what ends in .new is removed, or takes the place of another. */
const FILES_WITHIN =
  /^(\d{10}\.(slab|keys)|slabs\.(list|copy)|index\.snapshot|(CATALOG|MASTER|LIVES|LOCK)(\..*)?|[0-9a-f]{8}|.*\.new)$/;

/**
 * Why programs must not be loaded from a folder; null: they may. Always null where the system knows no users.
 */
export function trustProblem(folder: string): { problem: string; remedy: string } | null {
  if (process.geteuid === undefined) return null;
  const own = process.geteuid();
  const { uid, mode } = fs.statSync(folder);
  const link = fs.lstatSync(folder);
  if (link.isSymbolicLink() && link.uid !== own && link.uid !== ROOT)
    return {
      problem: `it is a symbolic link that belongs to another user, ${link.uid}`,
      remedy: "name the directory itself",
    };
  if (uid !== own)
    return {
      problem: `it belongs to another user, ${uid}, and this process is user ${own}`,
      remedy: `start it as user ${uid}, or give it the directory: chown -R ${own} ${folder}`,
    };
  if ((mode & WRITABLE_BY_OTHERS) !== 0)
    return {
      problem: `other users may write to it (its mode is ${(mode & 0o7777).toString(8).padStart(4, "0")})`,
      remedy: `chmod go-w ${folder}`,
    };
  return null;
}

/**
 * Makes the data directory, or checks that the one that is there is fit to be one. What older releases left
 * readable for others in it is closed to them.
 * @throws Error with a sentence that says what to do
 */
export function openDataDirectory(directory: string, warn: (message: string) => void): void {
  try {
    makeDirectory(directory);
    if (!fs.statSync(directory).isDirectory()) throw new Error(`${directory} is no directory`);
  } catch (error) {
    throw new Error(
      `the data directory cannot be used: ${sentenceOf(error as Error)}; choose another one with -data`,
    );
  }
  demandTrust(directory, directory);
  demandForms(directory);
  const open: string[] = [];
  try {
    for (const entry of fs.readdirSync(directory)) {
      const place = path.join(directory, entry);
      if (OWN_FILES.test(entry)) closeToOthers(place, open);
      else if (OWN_FOLDERS.test(entry)) {
        demandTrust(place, directory);
        for (const name of fs.readdirSync(place)) closeToOthers(path.join(place, name), open);
      }
    }
  } catch (error) {
    throw new Error(sentenceOf(error as Error));
  }
  if (open.length > 0)
    warn(
      `${open.length} file(s) could be read by other users, and this process cannot change that: chmod -R go-rwx ${directory}; the first: ${open[0]}`,
    );
}

/**
 * Checks that files are where the node's files have to be, and folders where its folders have to be: what
 * reads or writes them would meet a directory with an error of its own, and wait for ever at a named pipe.
 * Symbolic links to such are good.
 * @throws Error with a sentence that says what to do
 */
export function demandForms(directory: string): void {
  if (!fs.statSync(directory, { throwIfNoEntry: false })?.isDirectory()) return;
  try {
    for (const entry of fs.readdirSync(directory)) {
      const place = path.join(directory, entry);
      if (OWN_FILES.test(entry)) demandForm(place, "file");
      if (!OWN_FOLDERS.test(entry)) continue;
      demandForm(place, "directory");
      for (const name of fs.readdirSync(place))
        if (FILES_WITHIN.test(name)) demandForm(path.join(place, name), "file");
    }
  } catch (error) {
    throw new Error(sentenceOf(error as Error));
  }
}

function demandForm(place: string, form: "file" | "directory"): void {
  const status = fs.statSync(place, { throwIfNoEntry: false });
  if (form === "file" ? status?.isFile() : status?.isDirectory()) return;
  // It has gone since its folder was read.
  if (status === undefined && fs.lstatSync(place, { throwIfNoEntry: false }) === undefined) return;
  const found =
    status === undefined
      ? "is a symbolic link to what is not there"
      : status.isDirectory()
        ? "is a directory"
        : status.isFile()
          ? "is a file"
          : "is neither a file nor a directory";
  throw new Error(
    `${place} ${found}, and a ${form} of the node has to be there: move it away, and put the ${form} back from a copy if there was one`,
  );
}

/** Node.js' own recursive form reports a read-only file system as a missing file. */
function makeDirectory(directory: string): void {
  try {
    fs.mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") return;
    if (code !== "ENOENT" || path.dirname(directory) === directory) throw error;
    makeDirectory(path.dirname(directory));
    fs.mkdirSync(directory, { mode: 0o700 });
  }
}

function demandTrust(folder: string, directory: string): void {
  const found = trustProblem(folder);
  if (found === null) return;
  const elsewhere =
    folder === directory
      ? `, or choose a directory of its own with -data, such as ${directory}/minivault`
      : "";
  throw new Error(
    `the data directory ${folder} cannot be used, since native code and values are read from it: ${found.problem}; ${found.remedy}${elsewhere}`,
  );
}

/** Closes a file to others; adds it to `open` where that cannot be done. */
function closeToOthers(file: string, open: string[]): void {
  const status = fs.lstatSync(file, { throwIfNoEntry: false });
  if (status === undefined || !status.isFile() || process.geteuid === undefined) return;
  const own = process.geteuid();
  if (status.uid !== own)
    throw new Error(
      `${file} belongs to another user, ${status.uid}, and this process is user ${own}: start it as the directory's owner, or: chown ${own} ${file}`,
    );
  if ((status.mode & OPEN_TO_OTHERS) === 0) return;
  try {
    fs.chmodSync(file, 0o600);
  } catch {
    open.push(file);
  }
}

/** Why nothing can be written to a directory; null: it can, as far as rights go. */
export function writeProblem(directory: string): string | null {
  try {
    fs.accessSync(directory, fs.constants.W_OK | fs.constants.X_OK);
    return null;
  } catch (error) {
    return `${directory}: ${reasonOf(error)}`;
  }
}
