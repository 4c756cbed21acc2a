/**
 * The console's page (src/console), which the build puts in this module's place (esbuild.config.mjs). From
 * source there is none.
 */
export interface ConsolePage {
  html: string;
  /** Its Content-Security-Policy: the page's own style and program, and nothing else, run. */
  policy: string;
}

export const CONSOLE_PAGE: ConsolePage | null = null;
