/**
 * The native addons that the bundle carries. From source there are none; the build puts a table in this
 * module's place (esbuild.config.mjs).
 */
export interface EmbeddedAddon {
  /** sha256 of the file, hexadecimal. */
  hash: string;
  /**
   * The file, by brotli, in base64. A function, so that a thread which does not need the text does not hold
   * it.
   */
  data: () => string;
}

export const EMBEDDED: { uws: EmbeddedAddon; mmap: EmbeddedAddon; guard: EmbeddedAddon } | null = null;
