/**
 * Code of the threads that the bundle starts, each as one text: a thread reads and compiles what it runs, and
 * not the whole program. From source there is none; the build puts a table in this module's place
 * (esbuild.config.mjs).
 */
export const THREAD_CODE: { pool: string; hash: string } | null = null;
