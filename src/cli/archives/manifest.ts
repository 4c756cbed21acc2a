/** What a backup of a cluster consists of: a folder with a copy of each node, and a file that names them. */
import fs from "node:fs";
import path from "node:path";

export const MANIFEST = "manifest.json";

/**
 * The copies in a folder: the folder itself, or those that its manifest names.
 * @throws Error with a sentence for a person
 */
export function copiesIn(directory: string): string[] {
  const file = path.join(directory, MANIFEST);
  if (!fs.existsSync(file)) return [directory];
  let nodes: unknown;
  try {
    ({ nodes } = JSON.parse(fs.readFileSync(file, "utf8")) as { nodes: unknown });
  } catch (error) {
    throw new Error(`${file} cannot be read: ${(error as Error).message}`);
  }
  if (!Array.isArray(nodes)) throw new Error(`${file} names no copies`);
  const folders = nodes
    .map((node: { folder?: unknown }) => node?.folder)
    .filter((folder) => folder !== undefined);
  // They are where the manifest is, wherever that was copied to.
  if (
    !folders.every(
      (folder): folder is string => typeof folder === "string" && path.basename(folder) === folder,
    )
  )
    throw new Error(`${file} names what cannot be a folder beside it`);
  return folders.map((folder) => path.join(directory, folder));
}
