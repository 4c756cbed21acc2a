/** Values that name themselves: the first line of one says which it is, and all its bytes follow from that. */
import { content } from "../rest/client.ts";

export type Form = "json" | "bytes";

export interface Value {
  readonly name: string;
  readonly form: Form;
  readonly type: string;
  /** As it is sent, and comes back. */
  readonly body: Buffer;
}

/** @param name without blanks: form, size and number */
export function valueNamed(name: string): Value {
  const [form, bytes, number] = name.split("-");
  if (form === "json") {
    const body = Buffer.from(JSON.stringify({ value: name }));
    return { name, form, type: "application/json", body };
  }
  const rest = content(Number(number), Number(bytes));
  return { name, form: "bytes", type: "text/plain", body: Buffer.concat([Buffer.from(`${name}\n`), rest]) };
}

/** The name of what was read; `torn` where the bytes are not those of it. */
export function nameOf(body: Buffer): string {
  const head = body.subarray(0, 80).toString("latin1");
  const name = /^\{"value":"(json-\d+-\d+)"\}$/.exec(head)?.[1] ?? /^(bytes-\d+-\d+)\n/.exec(head)?.[1];
  if (name === undefined) return `${body.length} bytes that nobody wrote (${JSON.stringify(head)})`;
  return valueNamed(name).body.equals(body) ? name : `${name}, torn`;
}
