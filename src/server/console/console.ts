/** The console at /_ui/, on workers and masters: one page, and browsers that ask for "/" are sent there. */
import { CONSOLE_PAGE } from "../../platform/console-page.ts";
import type { Req, Res } from "../http/http.ts";
import { endHead, statusLine } from "../http/reply.ts";

export const CONSOLE_PATH = "/_ui/";

const ACCEPT = new TextEncoder().encode("accept").buffer as ArrayBuffer;

const LINES = [
  "Content-Type: text/html; charset=utf-8",
  "Cache-Control: no-cache",
  "X-Content-Type-Options: nosniff",
  "Referrer-Policy: no-referrer",
  "Cross-Origin-Opener-Policy: same-origin",
];

/** Whether there is one: not where the program runs from its source. */
export const hasConsole = CONSOLE_PAGE !== null;

/** Whether a request for "/" comes from a browser that shows a page. */
export function wantsPage(req: Req): boolean {
  return hasConsole && /\btext\/html\b/i.test(req.getHeader(ACCEPT));
}

/** Sends a browser to the console. Answers the status. */
export function sendToConsole(res: Res, head: boolean): number {
  res.writeStatus(
    `${statusLine(302)}\r\nLocation: ${CONSOLE_PATH}\r\nVary: Accept\r\nCache-Control: no-cache`,
  );
  if (head) endHead(res, 0);
  else res.end("");
  return 302;
}

/** Sends the page. Answers the status. */
export function sendConsole(res: Res, head: boolean): number {
  if (CONSOLE_PAGE === null) throw new Error("there is no console in this program");
  const { html, policy } = CONSOLE_PAGE;
  const body = Buffer.from(html, "utf8");
  res.writeStatus([statusLine(200), ...LINES, `Content-Security-Policy: ${policy}`].join("\r\n"));
  if (head) endHead(res, body.length);
  else res.end(body);
  return 200;
}
