/**
 * Asking all nodes what they hold in a range, and whether those that have answered are enough: a majority of
 * the replicas of every partition.
 */
import type { KeyRange } from "../../engine/catalog/runs/listing.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { hasMajority, type Placement } from "../layout/groups.ts";
import { decodeListed, encodeListRequest, hasVote, LIST_KEYS_MAX, type Listed } from "../wire/list-wire.ts";
import type { ReplicaList } from "./replica-list.ts";

/** A node that answers later counts as one that does not. */
export const ANSWER_MS_MAX = 5000;
/** Each node is asked for so many keys at least. */
const ASKED_KEYS_MIN = 16;

export interface AskingSetup {
  self: string;
  replica: ReplicaList;
  send: (node: string, frame: Uint8Array) => Promise<Uint8Array>;
  newerLayout: (epoch: number) => void;
}

/** By node. */
export type Answers = ReadonlyMap<string, Listed>;

/** Why there is no list. */
export class ListFailure extends Error {
  readonly code: ErrorCode;
  constructor(code: ErrorCode, detail: string) {
    super(detail);
    this.code = code;
  }
}

/**
 * Keys that each node is asked for where so many are wanted in all, and each is held by some of the nodes:
 * the mean share and what a binomial spread adds to the largest of them (Ceph's gateway asks its shards of a
 * bucket so). Who has told of too few decides how far a round gets.
 */
export function shareOf(keys: number, nodes: number, replicas: number): number {
  const parts = nodes / replicas;
  if (parts <= 1) return keys;
  const mean = keys / parts;
  return Math.ceil(mean + Math.sqrt(2 * mean * Math.log(parts)));
}

/**
 * Asks all nodes.
 * @param wanted keys, in all
 * @returns what has come in time, and from the others why not
 */
export async function askAll(
  { self, replica, send, newerLayout }: AskingSetup,
  { layout }: Placement,
  range: KeyRange,
  wanted: number,
): Promise<{ answers: Answers; refusals: string[] }> {
  const nodes = new Set([...layout.nodes, ...(layout.previous?.nodes ?? [])].map(({ url }) => url));
  // A prefix can be told by each node.
  const share = range.delimiter === null ? shareOf(wanted, nodes.size, layout.replicas) : wanted;
  const limit = Math.min(LIST_KEYS_MAX, Math.max(ASKED_KEYS_MIN, share));
  const request = { epoch: layout.epoch, limit, range };
  const frame = encodeListRequest(request);
  const answers = new Map<string, Listed>();
  const refusals: string[] = [];
  const ask = async (node: string): Promise<void> => {
    try {
      const answer = await inTime(node === self ? replica.answer(request) : send(node, frame));
      const listed = decodeListed(answer, layout.partitions);
      if (listed === null) refusals.push(`${node} does not know lists`);
      else if (!("keys" in listed)) {
        if (listed.epoch > layout.epoch) newerLayout(listed.epoch);
        refusals.push(`${node}: ${listed.text}`);
      } else if (listed.keys.isInOrder(range.reverse)) answers.set(node, listed);
      else refusals.push(`${node} tells keys out of their order`);
    } catch (error) {
      refusals.push(`${node}: ${(error as Error).message}`);
    }
  };
  await Promise.all([...nodes].map(ask));
  return { answers, refusals };
}

/**
 * Checks that enough replicas of every partition have answered for it.
 * @param one one replica is enough
 * @throws ListFailure
 */
export function requireMajorities(
  { groups }: Placement,
  answers: Answers,
  refusals: readonly string[],
  one: boolean,
): void {
  for (const group of groups) {
    let voters = 0;
    for (let index = 0; index < group.nodes.length; index++) {
      const listed = answers.get(group.nodes[index]);
      if (listed !== undefined && hasVote(listed.votes, group.partition)) voters |= 1 << index;
    }
    if (one ? voters !== 0 : hasMajority(group, voters)) continue;
    const building = refusals.every((text) => / building /.test(text)) && refusals.length > 0;
    const why = refusals.length === 0 ? "" : `: ${refusals.slice(0, 3).join("; ")}`;
    throw new ListFailure(
      building ? "building" : "no_quorum",
      `too few replicas tell of partition ${group.partition}, so a list would not be whole${why}`,
    );
  }
}

async function inTime<Result>(answer: Promise<Result>): Promise<Result> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("no answer in time")), ANSWER_MS_MAX);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
