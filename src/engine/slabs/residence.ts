/**
 * What one thread knows of which parts of a slab's map are in memory. residency.ts asks and remembers.
 */

/** Size of a region; asking for one of 1 MiB costs about 20 µs, for a page 2 µs. */
export const REGION_SHIFT = 20;
export const PAGE_SHIFT = 12;
export const PAGE_BYTES = 2 ** PAGE_SHIFT;
export const PAGES_OF_REGION = 2 ** (REGION_SHIFT - PAGE_SHIFT);

/** What is known of the parts of a slab's map. */
export interface Residence {
  /** Of each region the beat at which it was all in memory, or minus the one at which it was not. */
  readonly regions: Int32Array;
  /** Of the regions that were not, the beat at which each page was in memory; 0: nobody has seen it there. */
  readonly pages: (Int32Array | undefined)[];
}

/** Nothing is known yet. */
export function unknownResidence(slabBytes: number): Residence {
  const count = Math.ceil(slabBytes / 2 ** REGION_SHIFT);
  return { regions: new Int32Array(count), pages: new Array(count) };
}
