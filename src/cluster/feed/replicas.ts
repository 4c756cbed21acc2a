/**
 * Following the replicas of a cluster: each node is asked for what has changed there, again and again, from a
 * place on. What they say is only what one replica holds; decisions.ts makes more of it.
 */
import { VaultError } from "../../util/errors.ts";
import { hasMajority, type Placement } from "../layout/groups.ts";
import { hasVote } from "../wire/list-wire.ts";
import {
  type ChangesRequest,
  decodeChanges,
  encodeChangesRequest,
  type ReplicaChanges,
} from "./feed-wire.ts";
import type { ReplicaFeed } from "./replica-feed.ts";

/** How long an answer may take beyond what the request waits. */
const ANSWER_MS_MAX = 5000;

/** By node, the place up to which its changes are known. */
export type Places = Readonly<Record<string, string>>;

export interface ReplicasSetup {
  self: string;
  replica: ReplicaFeed;
  send: (node: string, frame: Uint8Array, timeoutMs: number) => Promise<Uint8Array>;
  newerLayout: (epoch: number) => void;
}

/** Why a node says nothing. */
export class ReplicaSilence extends Error {
  /** Its place is too old. */
  readonly isTooOld: boolean;

  constructor(message: string) {
    super(message);
    this.isTooOld = message.startsWith("place_too_old");
  }
}

export class Replicas {
  private readonly setup: ReplicasSetup;

  constructor(setup: ReplicasSetup) {
    this.setup = setup;
  }

  /**
   * Asks one. Rejects with ReplicaSilence.
   * @param partitions of the layout of the request's epoch
   */
  async ask(node: string, partitions: number, request: ChangesRequest): Promise<ReplicaChanges> {
    const { self, replica, send, newerLayout } = this.setup;
    let bytes: Uint8Array;
    try {
      bytes =
        node === self
          ? await replica.answer(request)
          : await send(node, encodeChangesRequest(request), request.waitMs + ANSWER_MS_MAX);
    } catch (error) {
      throw new ReplicaSilence((error as Error).message);
    }
    const told = decodeChanges(bytes, partitions);
    if (told === null) throw new ReplicaSilence("it does not know feeds of changes");
    if ("changes" in told) return told;
    if (told.epoch > request.epoch) newerLayout(told.epoch);
    throw new ReplicaSilence(told.text);
  }

  /**
   * Asks all of a layout; who says nothing is left out.
   * @throws VaultError("place_too_old") where that is so of the place of one
   */
  async askAll(
    placement: Placement,
    requestFor: (node: string) => ChangesRequest,
  ): Promise<Map<string, ReplicaChanges>> {
    const answers = new Map<string, ReplicaChanges>();
    await Promise.all(
      nodesOf(placement).map(async (node) => {
        try {
          answers.set(node, await this.ask(node, placement.layout.partitions, requestFor(node)));
        } catch (error) {
          if (error instanceof ReplicaSilence && error.isTooOld) throw new VaultError("place_too_old");
        }
      }),
    );
    return answers;
  }
}

export function nodesOf({ layout }: Placement): string[] {
  return [...new Set([...layout.nodes, ...(layout.previous?.nodes ?? [])].map(({ url }) => url))];
}

/**
 * Makes sure that of each partition a majority of replicas that vote has answered.
 * @throws VaultError("no_quorum")
 */
export function demandVoters({ groups }: Placement, answers: ReadonlyMap<string, ReplicaChanges>): void {
  for (const group of groups) {
    let voters = 0;
    for (let index = 0; index < group.nodes.length; index++) {
      const answer = answers.get(group.nodes[index]);
      if (answer !== undefined && hasVote(answer.votes, group.partition)) voters |= 1 << index;
    }
    if (!hasMajority(group, voters))
      throw new VaultError(
        "no_quorum",
        "too few replicas tell what has changed, so changes might be missed; try again",
      );
  }
}
