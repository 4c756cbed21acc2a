/**
 * A small file that is replaced as a whole: one line of JSON, then a line with the xxh32 (seed 0, eight hex digits) of the first line's
 * bytes. It is written to NAME.new, synced, renamed, and the directory is synced, so a reader sees the old content or the new one.
 * `loadHash` must have finished.
 */
import fs from "node:fs";
import path from "node:path";
import { hash32 } from "./hash.ts";

/** Replaces the file. When it returns, the content survives power loss. */
export function writeSealed(file: string, document: { format: string; version: number }): void {
  const line = JSON.stringify(document);
  const fresh = `${file}.new`;
  fs.rmSync(fresh, { force: true });
  const fd = fs.openSync(fresh, "wx", 0o644);
  try {
    fs.writeFileSync(fd, `${line}\n${checksumOf(line)}\n`);
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
  fs.renameSync(fresh, file);
  syncDirectory(path.dirname(file));
}

/**
 * Reads the file. Null: there is none.
 * @throws Error with a sentence for a person when it is damaged, foreign, or of another version
 */
export function readSealed(file: string, format: string, version: number): Record<string, unknown> | null {
  let content: string;
  try {
    content = fs.readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
  const [line, sum, rest] = content.split("\n");
  let document: unknown;
  try {
    if (sum !== checksumOf(line) || rest !== "") throw new Error("the checksum does not hold");
    document = JSON.parse(line);
    if (typeof document !== "object" || document === null || Array.isArray(document))
      throw new Error("it is not a JSON object");
  } catch (error) {
    throw new Error(`${file} is damaged, or no file of minivault: ${(error as Error).message}`);
  }
  const members = document as Record<string, unknown>;
  if (members.format !== format) throw new Error(`${file} is no ${format} file`);
  if (members.version !== version)
    throw new Error(
      `${file} has version ${members.version}; this program reads ${version}. Use the release that wrote it`,
    );
  return members;
}

function checksumOf(line: string): string {
  return (hash32(Buffer.from(line), 0) >>> 0).toString(16).padStart(8, "0");
}

function syncDirectory(directory: string): void {
  const fd = fs.openSync(directory, "r");
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}
