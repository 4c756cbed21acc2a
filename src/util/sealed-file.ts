/**
 * A small file that is replaced as a whole: one line of JSON, then a line with the xxh32 (seed 0, eight hex
 * digits) of the first line's bytes. It is written to NAME.new, synced, renamed, and the directory is synced,
 * so a reader sees the old content or the new one. `loadHash` must have finished.
 */
import fs from "node:fs";
import path from "node:path";
import { readBounded, SEALED_BYTES_MAX } from "./bounded-file.ts";
import { hash32 } from "./hash.ts";

/** The content of such a file. */
export function sealed(document: object): string {
  const line = JSON.stringify(document);
  return `${line}\n${checksumLine(line)}\n`;
}

/**
 * What a file holds.
 * @throws Error that says what is wrong with its content
 */
export function unsealed(content: string): Record<string, unknown> {
  const [line, sum, rest] = content.split("\n");
  if (sum !== checksumLine(line) || rest !== "") throw new Error("the checksum does not hold");
  const document: unknown = JSON.parse(line);
  if (typeof document !== "object" || document === null || Array.isArray(document))
    throw new Error("it is not a JSON object");
  return document as Record<string, unknown>;
}

/** The second line, for the first. */
export function checksumLine(line: string): string {
  return (hash32(Buffer.from(line), 0) >>> 0).toString(16).padStart(8, "0");
}

/**
 * The content of a file; null: there is none.
 * @throws what the system says, or Error with a sentence when it is too large to be one of these
 */
export function readIfAny(file: string): string | null {
  try {
    return readBounded(file, SEALED_BYTES_MAX).toString();
  } catch (error) {
    // Also where its directory is a file: whoever opens that says so.
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw error;
  }
}

/**
 * Replaces the file. When it returns, the content survives power loss.
 * @param inPlace a NAME.new that is there is filled, and never gone before it has the name
 */
export function writeSealed(
  file: string,
  document: { format: string; version: number },
  inPlace = false,
): void {
  const fresh = `${file}.new`;
  if (!inPlace) fs.rmSync(fresh, { force: true });
  const fd = fs.openSync(fresh, inPlace ? "w" : "wx", 0o600);
  try {
    fs.writeFileSync(fd, sealed(document));
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
  const content = readIfAny(file);
  if (content === null) return null;
  let members: Record<string, unknown>;
  try {
    members = unsealed(content);
  } catch (error) {
    throw new Error(`${file} is damaged, or no file of minivault: ${(error as Error).message}`);
  }
  if (members.format !== format) throw new Error(`${file} is no ${format} file`);
  if (members.version !== version)
    throw new Error(
      `${file} has version ${members.version}; this program reads ${version}. Use the release that wrote it`,
    );
  return members;
}

/** What was made, renamed or removed in a directory stays so. */
export function syncDirectory(directory: string): void {
  const fd = fs.openSync(directory, "r");
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}
