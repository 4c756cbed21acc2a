/**
 * The protocol with one rule left out. The checker must notice each of them, or its silence about the whole protocol means nothing.
 */

import { compareOptionalBallots } from "../../src/format/version.ts";
import { ALREADY, judgeAccept, YES } from "../../src/rules/register.ts";
import type { Mutation, Weather } from "./cluster.ts";
import type { Fault } from "./history.ts";

export interface Mutant {
  name: string;
  mutation: Mutation;
  /** Faults without which the rule does not matter. */
  faults: readonly Fault[];
  /** Weather in which it matters sooner. */
  weather?: Partial<Weather>;
  /** Histories within which it must be caught. */
  histories: number;
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: "plain last-writer-wins for PUT and DELETE: promises do not bind them, and an older one is ignored, but yes",
    mutation: {
      judgeAccept: (world, state, floor, proposal) => {
        if (!world.blind.has(proposal.operationLow)) return judgeAccept(state, floor, proposal.ballot);
        return compareOptionalBallots(proposal.ballot, state?.ballot ?? null) > 0 ? YES : ALREADY;
      },
    },
    faults: [],
    histories: 2000,
  },
  {
    name: "a negative answer is not confirmed",
    mutation: { rules: { confirmRefusals: false } },
    faults: [],
    histories: 2000,
  },
  {
    name: "a conditional write builds on what is not decided",
    mutation: { rules: { confirmFoundations: false } },
    faults: [],
    weather: { hasOlder: false },
    histories: 20_000,
  },
  {
    name: "an ambiguous accept is tried again with a new ballot",
    mutation: { rules: { resolveAmbiguous: false } },
    faults: [],
    histories: 2000,
  },
  {
    name: "every conditional write is marked as the first of its key",
    mutation: { rules: { markFirstOnly: false } },
    faults: [],
    histories: 20_000,
  },
  {
    name: "a read returns the highest record it saw, unconfirmed",
    mutation: { rules: { confirmReads: false } },
    faults: [],
    histories: 2000,
  },
  {
    name: "promises are not persisted",
    mutation: { promisesNotPersisted: true },
    faults: ["crashes"],
    histories: 20_000,
  },
  {
    name: "tombstones are collected when two of three confirm",
    mutation: { collectAtMajority: true },
    faults: ["collect"],
    histories: 5000,
  },
  { name: "no floor", mutation: { noFloor: true }, faults: ["collect"], histories: 5000 },
  {
    name: "one majority, of the new set, during a move",
    mutation: { oneMajorityDuringMove: true },
    faults: ["move"],
    histories: 5000,
  },
  {
    name: "a majority of those that are left is enough while the cluster recovers",
    mutation: { recoversByMajority: true },
    faults: ["recovery"],
    weather: { loss: 0.2 },
    histories: 20_000,
  },
  {
    name: "a write is taken for never done although one of an older program may have built on it",
    mutation: { forgetsWhoWasShown: true },
    faults: [],
    weather: { hasOlder: true },
    histories: 20_000,
  },
  {
    name: "a replica that has restarted says that it never took a write",
    mutation: { recallsAlways: true },
    faults: ["crashes", "loss"],
    weather: { fragile: 0.25, loss: 0.2, detectsCrashes: true, slow: 0, latencyMs: 2 },
    histories: 20_000,
  },
  {
    name: "a key from a time when clocks were wrong gets one more than its highest ballot, not one of the second clock",
    mutation: { oneMoreThanHighest: true },
    faults: ["clocks"],
    weather: { startsAhead: true },
    histories: 100_000,
  },
  {
    name: "a replica that lost its data votes again without waiting",
    mutation: { rejoinAtOnce: true },
    faults: ["wipe", "slow"],
    weather: { slow: 0.3, slowMs: 900, fragile: 0.2, loss: 0, detectsCrashes: true },
    histories: 20_000,
  },
  {
    name: "that a value has ended is told by the clock of the node that was asked",
    mutation: { endsByOwnClock: true },
    faults: ["ends"],
    histories: 5000,
  },
  {
    name: "an end is marked by a tombstone with a higher ballot",
    mutation: { endsAtHigherBallot: true },
    faults: ["ends"],
    histories: 20_000,
  },
  {
    name: "a refusal that rests on an end is not confirmed",
    mutation: { rules: { confirmEndedRefusals: false } },
    faults: ["ends"],
    histories: 20_000,
  },
  {
    name: "a value and the mark that it has ended rank the same",
    mutation: { rules: { ranksEnds: false } },
    faults: ["ends"],
    histories: 20_000,
  },
  {
    name: "an end is marked under a higher promise",
    mutation: { marksUnderPromises: true },
    faults: ["ends"],
    histories: 30_000,
  },
  {
    name: "a write in doubt writes its value again although that has ended",
    mutation: { rules: { keepOwnMark: false, keepOwnTombstone: false } },
    faults: ["ends", "pauses"],
    weather: { ownClocks: true, farClocks: true, loss: 0.2 },
    histories: 30_000,
  },
  {
    name: "a write in doubt knows the mark that its value has ended, but not the tombstone of a refusal",
    mutation: { rules: { keepOwnTombstone: false } },
    faults: ["ends", "pauses"],
    weather: { ownClocks: true, farClocks: true, loss: 0.2 },
    histories: 30_000,
  },
  {
    name: "a node takes its own clock for the time before it has heard the others",
    mutation: { marksAtOnce: true },
    faults: ["ends", "crashes"],
    weather: { ownClocks: false, farClocks: true },
    histories: 20_000,
  },
  {
    name: "a write is remembered before a majority refuses those who have not asked",
    mutation: { rules: { guardsOnce: false } },
    faults: ["once"],
    histories: 20_000,
  },
  {
    name: "a replica takes the record of who has not asked in place of one that remembers",
    mutation: { takesUnprepared: true },
    faults: ["once"],
    histories: 20_000,
  },
];
