/**
 * Which runs to merge. Runs of about one size make a tier; a full tier becomes one run of the next, so a key
 * is written once for each tier (the tiers of O'Neil et al., "The log-structured merge-tree", with several
 * runs a tier). Pure.
 */

/** Runs of one tier that are merged. */
export const TIER_RUNS = 4;

/** The tier of a run: 0 up to `smallest` keys, then one more for each factor of TIER_RUNS. */
export function tierOf(keys: number, smallest: number): number {
  let tier = 0;
  for (let most = smallest; keys > most; most *= TIER_RUNS) tier++;
  return tier;
}

/**
 * The runs that should be one, by number: a tier that is full, the lowest first. All, where so many of their
 * keys can be dead, or doubles, that it is worth it. Null: none.
 * @param keys of each run
 * @param entries that the index has, which is what the runs need to have
 */
export function chooseMerge(keys: readonly number[], smallest: number, entries: number): number[] | null {
  const tiers: number[][] = [];
  for (const [run, count] of keys.entries()) {
    const tier = tierOf(count, smallest);
    const runs = tiers[tier] ?? [];
    tiers[tier] = runs;
    runs.push(run);
  }
  for (const runs of tiers) if (runs !== undefined && runs.length >= TIER_RUNS) return runs;
  const held = keys.reduce((sum, count) => sum + count, 0);
  return held > 2 * entries + smallest ? [...keys.keys()] : null;
}
