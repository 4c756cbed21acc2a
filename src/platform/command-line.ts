/**
 * The command line as bytes. Node.js makes text of it, in which what is no UTF-8 has become U+FFFD: a name
 * of another file, or of another key, than was meant, and the same one for many.
 */
import { isUtf8 } from "node:buffer";
import { readFileSync } from "node:fs";

const REPLACED = "\ufffd";
const PREFIX = "MINIVAULT_";

/**
 * What is not UTF-8 of the words and of the variables that mean something here, as a sentence; null: nothing.
 * @param folder where the system shows them as they came; where there is none, nothing is found
 */
export function unreadableWord(
  words: readonly string[],
  env: NodeJS.ProcessEnv,
  folder = "/proc/self",
): string | null {
  const word = words.find((text) => text.includes(REPLACED));
  const name = Object.keys(env).find((key) => key.startsWith(PREFIX) && env[key]?.includes(REPLACED));
  if (word !== undefined && !isUtf8(bytesOf(`${folder}/cmdline`)))
    return `"${word}" is not UTF-8: where it names a file, rename it; keys are UTF-8`;
  if (name === undefined) return null;
  const [start, environ] = [`${name}=`, bytesOf(`${folder}/environ`).toString("latin1")];
  const entry = environ.split("\0").find((text) => text.startsWith(start)) ?? "";
  return isUtf8(Buffer.from(entry, "latin1"))
    ? null
    : `${name} is not UTF-8: where it names a file, rename it`;
}

function bytesOf(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch {
    return Buffer.alloc(0);
  }
}
