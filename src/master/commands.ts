/**
 * What POST /layout asks a master for: one change of the layout as JSON, checked before the steward hears of
 * it.
 */
import { nodeUrl } from "../config/values.ts";
import type { Steward } from "./steward/steward.ts";

/** The body is no command; the message is a sentence for a person. */
export class BadCommand extends Error {}

/** A command; it throws ChangeError when the layout cannot be changed like that. */
export type Command = (steward: Steward, nowMs: number) => void;

const FORM =
  '{"drain":URL}, {"remove":URL}, {"replace":OLD,"with":NEW}, {"abandon":EPOCH}, {"recover":EPOCH,"without":[URL]} or {"upgrade":EPOCH}';

const PARSERS: Readonly<Record<string, (body: Record<string, unknown>) => Command>> = {
  drain: (body) => {
    const url = urlOf(body.drain);
    return (steward, nowMs) => steward.drain(nowMs, url);
  },
  remove: (body) => {
    const url = urlOf(body.remove);
    return (steward, nowMs) => steward.remove(nowMs, url);
  },
  replace: (body) => {
    const [url, by] = [urlOf(body.replace), urlOf(body.with)];
    return (steward, nowMs) => steward.replace(nowMs, url, by);
  },
  abandon: (body) => {
    const epoch = epochOf(body.abandon);
    return (steward, nowMs) => steward.abandon(nowMs, epoch);
  },
  upgrade: (body) => {
    const epoch = epochOf(body.upgrade);
    return (steward, nowMs) => steward.upgrade(nowMs, epoch);
  },
  recover: (body) => {
    const epoch = epochOf(body.recover);
    if (!Array.isArray(body.without)) throw new BadCommand(`the body is not ${FORM}`);
    const missing = body.without.map(urlOf);
    return (steward, nowMs) => steward.recover(nowMs, epoch, missing);
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
