/**
 * What POST /layout asks a master for: one change of the layout as JSON, checked before the steward hears of
 * it.
 */
import { nodeUrl } from "../config/values.ts";
import type { Orders } from "./steward/orders.ts";

/** The body is no command; the message is a sentence for a person. */
export class BadCommand extends Error {}

/** A command; it throws ChangeError when the layout cannot be changed like that. */
export type Command = (orders: Orders, nowMs: number) => void;

const FORM =
  '{"drain":URL}, {"remove":URL}, {"replace":OLD,"with":NEW}, {"abandon":EPOCH}, {"recover":EPOCH,"without":[URL]} or {"upgrade":EPOCH}';

const PARSERS: Readonly<Record<string, (body: Record<string, unknown>) => Command>> = {
  drain: (body) => {
    const url = urlOf(body.drain);
    return (orders, nowMs) => orders.drain(nowMs, url);
  },
  remove: (body) => {
    const url = urlOf(body.remove);
    return (orders, nowMs) => orders.remove(nowMs, url);
  },
  replace: (body) => {
    const [url, by] = [urlOf(body.replace), urlOf(body.with)];
    return (orders, nowMs) => orders.replace(nowMs, url, by);
  },
  abandon: (body) => {
    const epoch = epochOf(body.abandon);
    return (orders, nowMs) => orders.abandon(nowMs, epoch);
  },
  upgrade: (body) => {
    const epoch = epochOf(body.upgrade);
    return (orders, nowMs) => orders.upgrade(nowMs, epoch);
  },
  recover: (body) => {
    const epoch = epochOf(body.recover);
    if (!Array.isArray(body.without)) throw new BadCommand(`the body is not ${FORM}`);
    const missing = body.without.map(urlOf);
    return (orders, nowMs) => orders.recover(nowMs, epoch, missing);
  },
};

/** Reads what POST /layout asks for. Throws BadCommand. */
export function parseCommand(text: string): Command {
  let body: Record<string, unknown>;
  try {
    body = JSON.parse(text);
  } catch {
    throw new BadCommand(`the body is not ${FORM}`);
  }
  const isObject = typeof body === "object" && body !== null && !Array.isArray(body);
  const verbs = isObject ? Object.keys(PARSERS).filter((verb) => Object.hasOwn(body, verb)) : [];
  if (verbs.length !== 1) throw new BadCommand(`the body is not ${FORM}`);
  return PARSERS[verbs[0]](body);
}

function urlOf(value: unknown): string {
  if (typeof value !== "string") throw new BadCommand(`the body is not ${FORM}`);
  try {
    return nodeUrl(value);
  } catch (error) {
    throw new BadCommand((error as Error).message);
  }
}

function epochOf(value: unknown): number {
  if (!Number.isSafeInteger(value)) throw new BadCommand(`the body is not ${FORM}`);
  return value as number;
}
