/** A place in the feed of a cluster, as clients get it: the layout's epoch, and a place of each node. */
import type { Places } from "./replicas.ts";

const MARK = "c";
const CHARACTERS_MAX = 8192;

export interface ClusterPlace {
  cluster: string;
  epoch: number;
  places: Places;
}

export function encodeClusterPlace({ cluster, epoch, places }: ClusterPlace): string {
  return MARK + Buffer.from(JSON.stringify([cluster, epoch, places])).toString("base64url");
}

/** Null: the text is none. */
export function decodeClusterPlace(text: string): ClusterPlace | null {
  if (!/^c[\w-]+$/.test(text) || text.length > CHARACTERS_MAX) return null;
  try {
    const read: unknown = JSON.parse(Buffer.from(text.slice(MARK.length), "base64url").toString());
    if (!Array.isArray(read) || read.length !== 3) return null;
    const [cluster, epoch, places] = read as [unknown, unknown, unknown];
    if (typeof cluster !== "string" || !Number.isSafeInteger(epoch)) return null;
    if (typeof places !== "object" || places === null || Array.isArray(places)) return null;
    if (!Object.values(places).every((place) => typeof place === "string")) return null;
    return { cluster, epoch: epoch as number, places: places as Places };
  } catch {
    return null;
  }
}
