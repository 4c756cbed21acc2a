/**
 * The feature level of a cluster: what all of its members can do, so that none of them silently drops what
 * another has promised. It stands in the layout and only rises, by an operator's word
 * (`minivault upgrade-cluster`) and once every member knows it: then older programs take no part any more.
 * Every operation between nodes names the epoch of its layout, and so the level that its form is of.
 *
 *   1  values
 *   2  values with fields: headers that are kept (format 2 of a record)
 *   3  values that end (format 4 of a directory)
 *   4  keys that remember recent operations, for Idempotency-Key (FORMAT.md)
 *   5  layouts of more than 1,024 partitions
 *   6  changes in place that are handed on, and writes that draw several versions
 *   7  conditional writes that build on nothing undecided, and bounds of writes that are handed on
 */
import { PARTITIONS_MIN } from "../../util/hash-prefix.ts";

/** The highest level that this program knows. */
export const FEATURES = 7;
/** From this level on values may have fields. */
export const FEATURE_FIELDS = 2;
/** From this level on values may end. */
export const FEATURE_ENDS = 3;
/** From this level on keys may remember operations. */
export const FEATURE_RECENT = 4;
/** From this level on a layout may have more than PARTITIONS_MIN partitions, if it was born so. */
export const FEATURE_PARTITIONS = 5;
/** From this level on a write may draw several versions, and changes in place may be handed on. */
export const FEATURE_VERSIONS = 6;
/**
 * From this level on no write that is not decided has become what another one rests on, and who gets one that
 * is handed on keeps to its bound.
 */
export const FEATURE_DECIDED = 7;

/** What this program can do with a data directory, which may have no place for fields, or for ends. */
export function featuresWith(directory: { keepsFields: boolean; keepsEnds: boolean }): number {
  if (!directory.keepsFields) return FEATURE_FIELDS - 1;
  return directory.keepsEnds ? FEATURES : FEATURE_ENDS - 1;
}

/** The level of a cluster. */
export function featuresOf(layout: { features?: number } | null): number {
  return layout?.features ?? 1;
}

/**
 * The level as a member of a layout. Of the first one nothing is written: programs from before there were
 * levels compare layouts by their text.
 */
export function withFeatures(features: number): { features?: number } {
  return features > 1 ? { features } : {};
}

/**
 * The level in a layout from outside.
 * @throws Error with a sentence for a person
 */
export function checkedFeatures(value: unknown): { features?: number } {
  if (value === undefined) return {};
  if (!Number.isSafeInteger(value) || (value as number) < 2)
    throw new Error("a layout's feature level is a number from 2 on");
  if ((value as number) > FEATURES)
    throw new Error(
      `the cluster has feature level ${value}; this program knows ${FEATURES}: use the release that the others have`,
    );
  return { features: value as number };
}

/** Why a cluster of these nodes cannot be born with so many partitions, in a sentence; null: it can. */
export function lackPartitions(
  partitions: number | null,
  nodes: readonly { url: string; features?: number }[],
): string | null {
  const unable = nodes.filter(({ features = 1 }) => features < FEATURE_PARTITIONS).map(({ url }) => url);
  if (partitions === null || partitions === PARTITIONS_MIN || unable.length === 0) return null;
  return `-partitions ${partitions} needs workers of feature level ${FEATURE_PARTITIONS}, which ${unable.join(", ")} cannot do: start them with this release, after minivault upgrade on their data directories`;
}

/** The highest level that all of these can do; what says nothing is of the first. */
export function commonFeatures(nodes: readonly { features?: number }[]): number {
  return Math.min(FEATURES, ...nodes.map(({ features }) => features ?? 1));
}
