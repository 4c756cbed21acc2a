/**
 * What a worker was started with that is not in force, in sentences for its log: the layout has its region
 * and the numbers of copies and partitions, and its data directory the masters.
 */
import type { Layout } from "./layout.ts";

export interface StartedWith {
  url: string;
  region: string;
  /** null: none were asked for. */
  wantedReplicas: number | null;
  partitions: number | null;
  masters: readonly string[];
  volumes: readonly string[];
}

/** What of it the layout has otherwise. */
export function notInForce(
  { url, region, wantedReplicas, partitions, volumes }: StartedWith,
  masters: readonly string[],
  layout: Layout,
): string[] {
  const hasMaster = masters.length > 0;
  const own = layout.nodes.find((node) => node.url === url);
  const sentences: string[] = [];
  const why = hasMaster ? "" : ", and without a master that does not change";
  if (own !== undefined && own.region !== region)
    sentences.push(
      `-region ${region} is not in force${hasMaster ? " yet" : ""}: the layout has the region ${own.region} for this node${hasMaster ? "; the master changes that by a move" : why}`,
    );
  if (wantedReplicas !== null && wantedReplicas !== layout.replicas)
    sentences.push(
      `-replicas ${wantedReplicas} is not in force here: the layout has ${layout.replicas} copies of each key${hasMaster ? "; give it to the master" : why}`,
    );
  const otherPartitions = partitionsNotInForce(partitions, layout);
  if (otherPartitions !== null) sentences.push(otherPartitions);
  const listed = [...new Set([...volumes, url])].sort().join(", ");
  const members = layout.nodes.map((node) => node.url).sort();
  if (!hasMaster && volumes.length > 0 && listed !== members.join(", "))
    sentences.push(`-volumes has changed, to ${listed}: the layout has ${members.join(", ")}${why}`);
  return sentences;
}

/** That the layout has another number of partitions than was asked for; null: it has not, or none was. */
export function partitionsNotInForce(
  wanted: number | null,
  { partitions }: Pick<Layout, "partitions">,
): string | null {
  if (wanted === null || wanted === partitions) return null;
  return `-partitions ${wanted} is not in force: the cluster was born with ${partitions} partitions, for good; another number needs a new cluster, and a copy of its keys`;
}

/** What of it is not what the data directory has. */
export function changedMasters(
  { masters, volumes }: StartedWith,
  kept: readonly string[] | null,
): string | null {
  if (kept === null || kept.length === 0) return null;
  const before = kept.join(", ");
  if (masters.length > 0)
    return masters.join(", ") === before
      ? null
      : `-master has changed: from now on ${masters.join(", ")}, before ${before}`;
  return volumes.length === 0
    ? null
    : `-volumes is not used: the data directory names masters, ${before}; give -master, or empty the directory`;
}
