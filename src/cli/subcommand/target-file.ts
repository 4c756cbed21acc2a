/** Where a command saves what it gets. Nothing has the file's name before it is whole. */
import { randomBytes } from "node:crypto";
import fs, { createWriteStream } from "node:fs";
import path from "node:path";
import type { Writable } from "node:stream";
import { Unwritten } from "./part-file.ts";
import type { Terminal } from "./subcommand.ts";

/** Takes a piece; comes back when it has done with it. */
export type TakePiece = (piece: Uint8Array) => Promise<void>;

/** Names of what is open already. */
const OPEN = /^\/(?:dev\/(?:stdin|stdout|stderr|fd\/\d+)|proc\/(?:self|\d+)\/fd\/\d+)$/;

const ENDS = ["SIGINT", "SIGTERM"] as const;

/**
 * The file that a name stands for: where links lead, so that they stay links. Null: what it stands for is no
 * file that another one could take the place of (a device, a pipe), so it is written into as it comes.
 * @throws Error where it is a directory
 */
export function targetFile(name: string): string | null {
  if (OPEN.test(path.resolve(name))) return null;
  const found = fs.statSync(name, { throwIfNoEntry: false });
  if (found === undefined) {
    const isLink = fs.lstatSync(name, { throwIfNoEntry: false })?.isSymbolicLink() === true;
    // What it names is not there yet.
    return isLink ? targetFile(path.resolve(path.dirname(name), fs.readlinkSync(name))) : name;
  }
  if (found.isDirectory()) throw new Error(`${name} is a directory: name a file`);
  return found.isFile() ? fs.realpathSync(name) : null;
}

/** Writes into what is there, which stays what it is. */
function intoStream(name: string): Writable {
  return createWriteStream(name, { flags: "a" });
}

/**
 * Writes what `fill` hands over, as it comes, to standard output ("-") or into what is no file.
 * @throws Unwritten, or what `fill` throws
 */
export async function writeInto<T>(
  file: string,
  terminal: Terminal,
  fill: (take: TakePiece) => Promise<T>,
): Promise<T> {
  const out = file === "-" ? terminal.stdout() : intoStream(file);
  const name = file === "-" ? "to standard output" : file;
  // Each write says by itself that it has failed.
  out.on("error", () => {});
  const take = (piece: Uint8Array): Promise<void> =>
    new Promise((resolve, reject) => {
      out.write(piece, (error) => (error ? reject(new Unwritten(name, error)) : resolve()));
    });
  try {
    const done = await fill(take);
    await new Promise<void>((resolve) => out.end(() => resolve()));
    return done;
  } catch (error) {
    out.destroy();
    throw error;
  }
}

/**
 * Saves what `write` puts into a stream.
 * @throws Error: the file is what it was before
 */
export async function saveFile(name: string, write: (target: Writable) => Promise<void>): Promise<void> {
  const target = targetFile(name);
  if (target === null) return write(intoStream(name));
  // Who may read it stays as it was.
  const mode = fs.statSync(target, { throwIfNoEntry: false })?.mode;
  // Not made of its own name, to which nothing may fit any more.
  const unfinished = path.join(path.dirname(target), `.minivault-${randomBytes(8).toString("hex")}`);
  const stream = createWriteStream(unfinished, { flags: "wx", ...(mode === undefined ? {} : { mode }) });
  const interrupt = (): void => void stream.destroy(new Error("interrupted: nothing is saved"));
  for (const signal of ENDS) process.once(signal, interrupt);
  try {
    await write(stream);
    if (mode !== undefined) fs.chmodSync(unfinished, mode & 0o7777);
    fs.renameSync(unfinished, target);
  } catch (error) {
    // It may be about to be made.
    await new Promise<void>((resolve) =>
      stream.closed ? resolve() : stream.once("close", resolve).destroy(),
    );
    fs.rmSync(unfinished, { force: true });
    throw error;
  } finally {
    for (const signal of ENDS) process.off(signal, interrupt);
  }
}
