/** What the console asks of the node that it comes from. The token lives as long as the browser's tab. */

const TOKEN_PLACE = "minivault-token";

export function token(): string {
  return sessionStorage.getItem(TOKEN_PLACE) ?? "";
}

export function setToken(text: string): void {
  if (text === "") sessionStorage.removeItem(TOKEN_PLACE);
  else sessionStorage.setItem(TOKEN_PLACE, text);
}

/** An answer that is no success, as a sentence. */
export class Refused extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** One request; nothing of what it says is kept by the browser. */
export function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (token() !== "") headers.set("Authorization", `Bearer ${token()}`);
  return fetch(path, { ...init, headers, cache: "no-store", credentials: "omit" });
}

export async function refusalOf(answer: Response): Promise<Refused> {
  let text = `status ${answer.status}`;
  try {
    text = (await answer.json()).error ?? text;
  } catch {
    // An answer to HEAD, or not ours.
  }
  return new Refused(answer.status, text);
}

/** A document. Throws Refused. */
// biome-ignore lint/suspicious/noExplicitAny: documents of several forms
export async function askDocument(path: string): Promise<any> {
  const answer = await ask(path);
  // /health says why with a 503.
  if (!answer.ok && answer.status !== 503) throw await refusalOf(answer);
  return answer.json();
}

export async function askText(path: string): Promise<string> {
  const answer = await ask(path);
  if (!answer.ok) throw await refusalOf(answer);
  return answer.text();
}

/** The path of a key, whatever it is. */
export function pathOf(key: string): string {
  return `/_kv/${key.split("/").map(encodeURIComponent).join("/")}`;
}

export function bytesText(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let value = bytes;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
