/** What the commands ask a master for, over HTTP, and its answers. */

import { setTimeout as sleep } from "node:timers/promises";
import { nodeUrl } from "../../config/values.ts";
import { isNotConnected, reasonOf } from "../../platform/system-error.ts";
import { authorityOf, schemeOf, tokenOf, tokenOptions } from "../subcommand/access.ts";
import { askText, type TextAnswer } from "../subcommand/ask.ts";
import type { Words } from "../subcommand/subcommand.ts";

const MASTER_DEFAULT = "http://localhost:3000";
const ASK_MS = 10_000;
/** Where masters share a registry, another one leads after so long. */
const HANDOVER_MS_MAX = 15_000;
const HANDOVER_PAUSE_MS = 500;

/** Flags of all commands about a cluster: which master is asked, and as whom. */
export const MASTER_FLAGS = {
  flags: ["master", "auth", "auth-file", "tls-ca"],
  options: tokenOptions("a token that allows admin"),
} as const;
export const STATUSES =
  "Exit status: 0 done; 1 refused, failed, or the master cannot be reached; 2 used wrongly.";

export interface Node {
  url: string;
  /** As the layout has it. */
  region: string;
  /** Which other one the worker was started with. */
  wantedRegion?: string;
  state: string;
  silentMs: number | null;
  member: string | null;
  copies: number;
  epoch: number;
  voting: boolean;
  load: { keys?: number; bytes?: number } | null;
  refused?: string;
}

export interface NodesAnswer {
  epoch: number;
  /** null: there is no layout yet; absent: an older master. */
  replicas: number | null;
  partitions?: number | null;
  nodes: Node[];
}

export interface LayoutAnswer {
  epoch: number;
  layout: {
    nodes: { url: string; state: string }[];
    replicas: number;
    partitions: number;
    previous: unknown;
    epoch: number;
    features?: number;
  } | null;
  move: {
    epoch: number;
    total: number;
    done: number;
    workers: { url: string; total: number; done: number }[];
  } | null;
  /** Members that are not there or do not vote, and what that means (master/presence/absence.ts). */
  absence: {
    missing: string[];
    /** Absent: an older master. */
    unheard?: string[];
    idle: string[];
    losses: { gone: number; doubtful: number };
    stuck: number;
  };
  waiting: { kind: string; url?: string; nodes?: { url: string }[]; node?: { url: string } }[];
  /** Why nothing of it begins; null: it does; absent: an older master. */
  hindrance?: string | null;
}

export interface Master {
  /** Of the URL of a worker that is named without one: the nodes of a cluster are alike. */
  scheme: "http" | "https";
  ask<Answer>(method: "GET" | "POST", path: string, body?: object): Promise<Answer>;
}

/** The masters that were named, of which the first that can be reached answers. */
export function masterOf(words: Words): Master {
  const ca = authorityOf(words);
  const given = (words.values.master ?? []) as string[];
  const urls = (given.length === 0 ? [MASTER_DEFAULT] : given).map((text) => nodeUrl(text, schemeOf(words)));
  const key = tokenOf(words);
  const about = {
    headers: key === null ? {} : { Authorization: `Bearer ${key}` },
    ...(ca === null ? {} : { ca }),
  };
  return {
    scheme: urls[0].startsWith("https:") ? "https" : "http",
    async ask<Answer>(method: "GET" | "POST", path: string, body?: object): Promise<Answer> {
      const startedMs = performance.now();
      const text = body === undefined ? undefined : JSON.stringify(body);
      for (;;) {
        const failures: string[] = [];
        let mayLeadSoon = false;
        for (const url of urls) {
          try {
            return readAnswer(url, await askText(`${url}${path}`, ASK_MS, { method, ...about }, text));
          } catch (error) {
            if (error instanceof Refused) throw error;
            mayLeadSoon ||= error instanceof StandsBy;
            failures.push(
              error instanceof StandsBy
                ? `${url}: ${error.message}`
                : `the master ${url} cannot be reached: ${reasonOf(error)}`,
            );
            // What may have been done there is not asked for again elsewhere.
            if (method === "POST" && !(error instanceof StandsBy) && !isNotConnected(error)) {
              mayLeadSoon = false;
              break;
            }
          }
        }
        if (!mayLeadSoon || performance.now() - startedMs > HANDOVER_MS_MAX)
          throw new Error(`${failures.join("; ")}; -master names another`);
        await sleep(HANDOVER_PAUSE_MS);
      }
    },
  };
}

/** A master has answered that it does not lead, so that nothing was done. */
class StandsBy extends Error {}

/** A master has answered, and not as was hoped. */
class Refused extends Error {}

/** The document of an answer. Throws Refused, or StandsBy. */
function readAnswer<Answer>(url: string, { status, text }: TextAnswer): Answer {
  let document: { success?: boolean; error?: string; code?: string };
  try {
    document = JSON.parse(text);
  } catch {
    throw new Refused(`${url} is no master of minivault`);
  }
  if (status === 401)
    throw new Refused(
      `${url} wants the cluster's key (MINIVAULT_AUTH, -auth-file or -auth), or, where it has -tokens, one that allows admin (MINIVAULT_TOKEN or -token-file)`,
    );
  // A worker takes the path for a key; an older master says what it lacks.
  if (document.code === "not_found" && document.error?.startsWith("this is a master") !== true)
    throw new Refused(`${url} is no master of minivault`);
  if (document.code === "not_leading") throw new StandsBy(document.error);
  if (document.success !== true) throw new Refused(document.error ?? `${url} answers with status ${status}`);
  return document as Answer;
}
