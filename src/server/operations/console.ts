/** The console. */
import type { Operation } from "../describe/operation.ts";
import { TEXT } from "../describe/shapes.ts";

export const CONSOLE_OPERATIONS: readonly Operation[] = [
  {
    ...{ id: "console", group: "Node", methods: ["GET", "HEAD"], paths: ["/_ui/", "/_ui"], needs: ["none"] },
    summary: "The console, a page for browsers",
    answers: {
      200: {
        text: "The page.",
        headers: [
          ...(["Cache-Control", "X-Content-Type-Options", "Referrer-Policy"] as const),
          ...(["Cross-Origin-Opener-Policy", "Content-Security-Policy"] as const),
        ],
        content: { "text/html": TEXT },
      },
    },
    errors: [],
  },
];
