/** What a backup of a cluster consists of: a folder with a copy of each node, and a file that names them. */
import fs from "node:fs";
import path from "node:path";

export const MANIFEST = "manifest.json";
/** What to do without one. */
const BY_HAND = "; name the copies in it instead, the folders with a file BACKUP";

/** Writes a manifest where there is none yet, whole or not at all. */
export function writeManifest(directory: string, manifest: object): void {
  const file = path.join(directory, MANIFEST);
  const fresh = `${file}.new`;
  fs.writeFileSync(fresh, `${JSON.stringify(manifest, null, 2)}\n`, { mode: 0o600, flush: true });
  fs.renameSync(fresh, file);
}

/** What a folder holds. */
export interface CopiesFound {
  folders: string[];
  /** False: so many nodes are missing that writes which were acknowledged may be in none of the copies. */
  isEnough: boolean;
}

/**
 * The copies in a folder: the folder itself, or those that its manifest names.
 * @throws Error with a sentence for a person
 */
export function copiesIn(directory: string): CopiesFound {
  const file = path.join(directory, MANIFEST);
  const status = fs.statSync(file, { throwIfNoEntry: false });
  if (status === undefined) return { folders: [directory], isEnough: true };
  // A pipe would be waited for.
  if (!status.isFile()) throw new Error(`${file} is no file${BY_HAND}`);
  let nodes: unknown;
  let isEnough: unknown;
  try {
    ({ nodes, isEnough } = JSON.parse(fs.readFileSync(file, "utf8")) as Record<string, unknown>);
  } catch (error) {
    throw new Error(`${file} cannot be read: ${(error as Error).message}${BY_HAND}`);
  }
  if (!Array.isArray(nodes)) throw new Error(`${file} names no copies${BY_HAND}`);
  const folders = nodes
    .map((node: { folder?: unknown }) => node?.folder)
    .filter((folder) => folder !== undefined);
  // They are where the manifest is, wherever that was copied to.
  if (
    !folders.every(
      (folder): folder is string =>
        typeof folder === "string" && path.basename(folder) === folder && !/^\.{0,2}$/.test(folder),
    )
  )
    throw new Error(`${file} names what cannot be a folder beside it${BY_HAND}`);
  const found = folders.map((folder) => path.join(directory, folder));
  if (found.length === 0) throw new Error(`${file} names no copies${BY_HAND}`);
  return { folders: found, isEnough: isEnough !== false };
}
