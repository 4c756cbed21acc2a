/**
 * A layout that comes from outside is checked as a whole before anybody keeps it: one that no node can use,
 * once kept and handed on, would stop all of them, and for good.
 */
import { isPartitionCount, PARTITIONS_MAX, PARTITIONS_MIN } from "../../util/hash-prefix.ts";
import { EPOCH_MAX, REPLICAS_MAX } from "../../util/limits.ts";
import { checkedFeatures, FEATURE_PARTITIONS, featuresOf } from "./features.ts";
import type { Layout, LayoutNode } from "./layout.ts";
import { NODES_MAX } from "./placement.ts";

/** Longest URL, region or name of a machine. */
const NAME_CHARACTERS_MAX = 512;

/**
 * Checks a layout that came from outside as parsed JSON; the result has its known members only.
 * @throws Error with a sentence for a person
 */
export function checked(value: unknown, isPrevious = false): Layout {
  const { cluster = null, epoch, partitions, replicas, nodes, ...more } = members(value, "a layout");
  const { previous, lost, features } = more;
  if (cluster !== null && !(typeof cluster === "string" && ID_SYNTAX.test(cluster)))
    throw new Error("a layout's cluster is 32 hex digits");
  if (!isWhole(epoch, 1, EPOCH_MAX)) throw new Error(`a layout's epoch is a number from 1 to ${EPOCH_MAX}`);
  if (!isPartitionCount(partitions))
    throw new Error(
      `a layout's partitions are a power of two from ${PARTITIONS_MIN} to ${PARTITIONS_MAX}, not ${partitions}`,
    );
  if (!isWhole(replicas, 1, REPLICAS_MAX))
    throw new Error(`a layout's replicas are a number from 1 to ${REPLICAS_MAX}`);
  if (!Array.isArray(nodes) || nodes.length > NODES_MAX)
    throw new Error(`a layout's nodes are a list of at most ${NODES_MAX}`);
  const list = nodes.map(checkedNode);
  if (new Set(list.map((node) => node.id)).size !== list.length)
    throw new Error("a layout names a node twice");
  if (!list.some((node) => node.state === "active"))
    throw new Error("a layout needs at least one active node");
  let before: Layout | null = null;
  if (previous !== null && previous !== undefined) {
    if (isPrevious) throw new Error("a layout's previous layout has no previous one");
    before = checked(previous, true);
    if (before.epoch >= epoch) throw new Error("a layout's previous layout has a lower epoch");
    if (before.cluster !== cluster) throw new Error("a layout's previous layout is of the same cluster");
    if (before.partitions !== partitions)
      throw new Error("a layout has as many partitions as its previous layout: their number never changes");
  }
  const level = checkedFeatures(features);
  if (partitions > PARTITIONS_MIN && featuresOf(level) < FEATURE_PARTITIONS)
    throw new Error(
      `a layout of more than ${PARTITIONS_MIN} partitions has feature level ${FEATURE_PARTITIONS} at least`,
    );
  const layout = { cluster: cluster as string | null, epoch, partitions, replicas, nodes: list };
  return {
    ...{ ...layout, previous: before },
    ...(lost === undefined ? {} : { lost: checkedLost(lost, before, list) }),
    ...level,
  };
}

function checkedLost(value: unknown, before: Layout | null, nodes: readonly LayoutNode[]): string[] {
  const isLost = (id: unknown) =>
    before?.nodes.some((node) => node.id === id) === true && !nodes.some((node) => node.id === id);
  if (!Array.isArray(value) || new Set(value).size !== value.length || !value.every(isLost))
    throw new Error("a layout's lost nodes are nodes of its previous layout that it has no more");
  return value as string[];
}

const ID_SYNTAX = /^[0-9a-f]{32}$/;

function checkedNode(value: unknown): LayoutNode {
  const { id, url, region, host, state } = members(value, "a layout's node");
  for (const text of [id, url, region, host])
    if (typeof text !== "string" || text === "" || text.length > NAME_CHARACTERS_MAX)
      throw new Error(`a node has id, url, region and host, each of 1 to ${NAME_CHARACTERS_MAX} characters`);
  if (id !== url) throw new Error(`a node's id is its URL, not ${id} beside ${url}`);
  if (!isNodeUrl(url)) throw new Error(`${url} is no URL that a node can have`);
  if (state !== "active" && state !== "draining") throw new Error("a node's state is active or draining");
  return { id, url, region, host, state } as LayoutNode;
}

/** Whether it is a URL, written as `nodeUrl` (config) writes it, so that one node has one name. */
export function isNodeUrl(text: unknown): text is string {
  if (typeof text !== "string" || !URL.canParse(text)) return false;
  const { protocol, origin, host } = new URL(text);
  return (protocol === "http:" || protocol === "https:") && host !== "" && origin === text;
}

function members(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new Error(`${what} is a JSON object`);
  return value as Record<string, unknown>;
}

function isWhole(value: unknown, least: number, most: number): value is number {
  return Number.isInteger(value) && (value as number) >= least && (value as number) <= most;
}

/** What is kept of stores is kept as it is. Throws an Error with a sentence for a person. */
export function checkStores(birth: unknown): void {
  const stores = typeof birth === "object" && birth !== null ? Object.values(birth) : [null];
  if (!stores.every((id) => typeof id === "string" && ID_SYNTAX.test(id)))
    throw new Error("the answer names stores that are none");
}
