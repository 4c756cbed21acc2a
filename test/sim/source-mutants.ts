/**
 * One-line mutations of the shipped files that decide who votes, what counts and what is told, and the part of the suite that must notice
 * each. test/storm/mutants.test.ts applies them.
 */

export interface SourceMutant {
  /** Below src/. */
  file: string;
  /** Text that stands exactly once in the file. */
  from: string;
  to: string;
  /** The test file, below test/, and the tests in it; left out: all. */
  test: string;
  name?: string;
  /** What else that test is told. */
  env?: Readonly<Record<string, string>>;
}

const HISTORIES = { test: "sim/protocol.test.ts", name: "histories are linearizable" };
const HANDED_WRITES = { test: "cluster/handed-writes.test.ts" };
const COORDINATOR = { test: "cluster/coordinator.test.ts" };
const QUEUE = { test: "cluster/write-queue.test.ts" };
const CLOCK = { test: "cluster/cluster-time.test.ts" };
const REGISTER = { test: "rules/register.test.ts" };
const LAYOUT = { test: "cluster/layout.test.ts" };
const REPAIR_RULES = { test: "cluster/repair-rules.test.ts" };
const CHANGES = { test: "cluster/changes.test.ts" };
const STEWARD = { test: "master/steward.test.ts" };
const REPLICATION = { test: "engine/replication.test.ts" };
const SERVED = { test: "cluster/service.test.ts" };
const INVITATIONS = { test: "cluster/invitations.test.ts" };
const ACCEPT_LOG = { test: "cluster/accept-log.test.ts" };
const HANDED = { test: "server/patch/changes.test.ts" };
const HOT = { test: "cluster/hot-keys.test.ts" };
const FRAME_QUEUE = { test: "cluster/frame-queue.test.ts" };
const UPLOADS = { test: "cluster/cluster-upload.test.ts" };

/** Histories of whole nodes that have these faults at least. */
const nodesWith = (faults: string, histories = 8) => ({
  test: "sim/node.test.ts",
  name: "what clients are told is true",
  env: { NODE_FAULTS: faults, NODE_HISTORIES: String(histories), SEED: "5000" },
});

const SIGNATURES = { test: "auth/signature.test.ts" };
const FORGED = { test: "cluster/forged-answers.test.ts" };
const IDENTITY = { test: "cluster/identity.test.ts" };
const MEMBERSHIP = { test: "cluster/membership.test.ts" };

const SIGNATURE = "auth/signature.ts";
const LINK = "cluster/link/node-http.ts";
const STANDING = "cluster/identity/standing.ts";
const WHOLENESS = "cluster/layout/wholeness.ts";
const MEMBER_STATE = "cluster/membership/member-state.ts";
const WRITE = "cluster/coordinator/write.ts";
const READ = "cluster/coordinator/read.ts";
const DOUBT = "cluster/coordinator/doubt/doubt.ts";
const WRITES = "cluster/node/writes.ts";
const BOUND = "cluster/register/bound.ts";
const REPLACEMENT = "cluster/coordinator/doubt/replacement.ts";
const WRITE_QUEUE = "cluster/coordinator/write-queue.ts";
const ROUND = "cluster/register/round.ts";
const TALLY = "cluster/register/tally.ts";
const TOMBSTONES = "cluster/register/tombstones.ts";
const BALLOTS = "cluster/clock/ballots.ts";
const CLUSTER_TIME = "cluster/clock/cluster-time.ts";
const RULES = "rules/register.ts";
const GROUPS = "cluster/layout/groups.ts";
const STEPS = "cluster/layout/steps.ts";
const PLAN = "cluster/layout/changes.ts";
const REJOIN = "cluster/sync/rejoin.ts";
const RECOVERY = "cluster/layout/recovery.ts";
const SERVICE = "cluster/service/service.ts";
const MEMBER_ROUTES = "cluster/membership/member-routes.ts";
const REPLICA = "engine/shard/replica.ts";
const CANDIDATES = "engine/state/candidates.ts";
const DECISIONS = "master/layout/decisions.ts";
const WAITING = "master/steward/waiting.ts";
const ABSENCE = "master/presence/absence.ts";
const ADMISSION = "master/presence/admission.ts";
const SETTINGS = "master/steward/settings.ts";
const ACCEPTS = "cluster/replica/accept-log.ts";
const HOT_KEYS = "cluster/node/hot-keys.ts";
const CHANGE = "server/patch/change.ts";
const HANDING = "server/patch/handed.ts";
const FRAMES = "cluster/peers/frame-queue.ts";
const NEWEST = "master/steward/newest.ts";
const ONCE = "cluster/coordinator/once.ts";

export const SOURCE_MUTANTS: readonly SourceMutant[] = [
  // The own write is never found again.
  {
    file: WRITE,
    from: "else if (isSameOperation(highest, this.write)) {",
    to: "else if (this.answered) {",
    ...COORDINATOR,
  },
  // A refusal rests on what a minority has.
  {
    file: WRITE,
    from: "(isHeld && !this.doubt.exists && !byClock)",
    to: "!byClock",
    ...HISTORIES,
  },
  // What may have had an effect is tried again.
  { file: WRITE, from: "if (round.rules.resolveAmbiguous) this.beginDoubt();", to: "", ...HISTORIES },
  // What is newer on top is taken for older.
  {
    file: DOUBT,
    from: "compareOptionalBallots(ballot, this.since) >= 0 &&",
    to: "compareOptionalBallots(ballot, this.since) >= 2 &&",
    ...COORDINATOR,
  },
  // A write is remembered though nobody refuses those who have not asked.
  {
    file: "cluster/coordinator/once.ts",
    from: "return hasMajority(group, guarded);",
    to: "return true;",
    test: "sim/protocol.test.ts",
    name: "sent again, by their Idempotency-Key, are linearizable",
  },
  // Every conditional write is the first.
  {
    file: WRITE,
    from: "(isFirst || !round.rules.markFirstOnly) && !write.staged",
    to: "!write.staged",
    ...COORDINATOR,
  },
  // Whether there was a value is told from what is undecided.
  { file: WRITE, from: "this.certain = this.isConditional;", to: "this.certain = true;", ...HISTORIES },
  {
    file: WRITE,
    from: "this.certain = this.replaced.isCertain(round.group) && !this.doubt.exists;",
    to: "this.certain = true;",
    ...COORDINATOR,
  },
  // Who does not remember has not taken it.
  { file: DOUBT, from: "const others = this.open | silent;", to: "const others = this.open;", ...HISTORIES },
  // Who was shown a write does not matter, or not what others may have been shown.
  { file: DOUBT, from: "(silent !== 0 || this.wasShown)", to: "silent !== 0", ...COORDINATOR },
  { file: DOUBT, from: "(silent !== 0 || this.wasShown)", to: "this.wasShown", ...COORDINATOR },
  // A conditional write builds on what is not decided.
  {
    file: WRITE,
    from: "(isHeld || !this.isConditional ||",
    to: "(isHeld || this.isConditional ||",
    ...HISTORIES,
  },
  { file: ONCE, from: "|| !this.isFounded()", to: "", ...COORDINATOR },
  // What is handed on keeps to no bound, or who lost it does not go beyond that, or takes any layout for its own.
  {
    file: BOUND,
    from: "if (bound == null || lost === true) return false;",
    to: "return false;",
    ...COORDINATOR,
  },
  { file: BOUND, from: "epoch !== bound.epoch || ", to: "", ...COORDINATOR },
  {
    file: WRITE,
    from: "this.round.meet(write.bound?.below ?? null)",
    to: "this.round.meet(null)",
    ...COORDINATOR,
  },
  {
    file: ONCE,
    from: "this.round.meet(write.bound?.below ?? null)",
    to: "this.round.meet(null)",
    ...COORDINATOR,
  },
  { file: DOUBT, from: "if (group.epoch !== this.epoch) return false;", to: "", ...COORDINATOR },
  // What is lost is looked for before its bound is behind, or who is handed a write has none.
  { file: WRITES, from: "Math.min(BOUND_MS, aheadMs)", to: "0", ...HANDED_WRITES },
  {
    file: WRITES,
    from: "epoch === 0 ? null : { epoch, below: ballot, sinceMs: performance.now() }",
    to: "null",
    ...HANDED_WRITES,
  },
  // Where a write was taken does not matter.
  {
    file: DOUBT,
    from: "return !setsOf(this.answers, others)",
    to: "return others >= 0 || !setsOf(this.answers, others)",
    ...HISTORIES,
  },
  // What one replica has taken has had its effect.
  {
    file: DOUBT,
    from: "if (hasMajority(group, set) &&",
    to: "if (set !== 0 &&",
    ...HISTORIES,
  },
  // Also what a replica may not have taken.
  { file: DOUBT, from: "if (certain) this.held", to: "this.held", ...COORDINATOR },
  // A replica that has started since the write began says that it knows of none.
  { file: DOUBT, from: "ageMs + RECALL_MS_MAX", to: "ageMs", ...COORDINATOR },
  { file: DOUBT, from: "Math.max(round.ageMs, nowMs - this.handedMs)", to: "round.ageMs", ...COORDINATOR },
  { file: DOUBT, from: "known && tookMs <= RECALL_MS_MAX", to: "known", ...COORDINATOR },
  // A refusal gives the value another version without waiting for the third replica.
  { file: WRITE, from: "|| !this.awaitsRest(JUDGE_WAIT_MS)", to: "|| true", ...COORDINATOR },
  // Who takes little at a time is left behind, or who takes nothing never is; a large value is given up as soon as a small one.
  {
    file: "cluster/upload/upload-branches.ts",
    from: "before?.movedBytes === movedBytes",
    to: "before !== undefined",
    ...UPLOADS,
  },
  {
    file: "cluster/upload/upload-branches.ts",
    from: "idleLooks >= looksMax",
    to: "idleLooks < 0",
    ...UPLOADS,
  },
  { file: "cluster/register/own-replica.ts", from: "? PATIENCE_MS : 0", to: "? 0 : 0", ...COORDINATOR },
  // A large value is not asked for before it is sent, or every one that is asked for it is told of.
  {
    file: "cluster/register/own-replica.ts",
    from: "condition !== null || staged === true",
    to: "condition !== null",
    ...COORDINATOR,
  },
  // A read answers what it saw.
  {
    file: READ,
    from: "this.isDecided || !round.rules.confirmReads",
    to: "tally.won",
    ...COORDINATOR,
  },
  // A read that could not be confirmed is answered.
  {
    file: READ,
    from: "else if (this.confirming) this.prepare();",
    to: "else if (this.confirming) this.answer();",
    ...HISTORIES,
  },
  // Everybody counts as a holder.
  {
    file: READ,
    from: "confirming && !round.highest.lapsed ? round.highest.holders : 0",
    to: "confirming && !round.highest.lapsed ? round.all : 0",
    ...COORDINATOR,
  },
  // The next ballot may be below the last one.
  { file: ROUND, from: "this.ballot = this.met = ballot;", to: "this.ballot = ballot;", ...COORDINATOR },
  // Answers after the deadline count.
  {
    file: ROUND,
    from: "if (this.setup.now() > this.deadline) {",
    to: "if (this.attempts < 0) {",
    ...COORDINATOR,
  },
  // Answers of an earlier round count.
  {
    file: ROUND,
    from: 'if (number !== this.number || this.phase === "over") return false;',
    to: 'if (this.phase === "over") return false;',
    ...HISTORIES,
  },
  // What was in the way is forgotten.
  { file: ROUND, from: "this.met = higherBallot(this.met, ballot);", to: "", ...COORDINATOR },
  // A refusal for now counts as one for ever.
  {
    file: TALLY,
    from: 'return reason !== "not_voting" && reason !== "behind_epoch" && reason !== "ahead";',
    to: "return reason !== null;",
    ...COORDINATOR,
  },
  // A majority can always still come.
  {
    file: TALLY,
    from: "return hasMajority(this.group, this.yes | this.pending);",
    to: "return this.group !== null;",
    ...COORDINATOR,
  },
  // Conditions of those that came later are judged by what is older.
  { file: WRITE_QUEUE, from: "index < before && ", to: "", ...QUEUE },
  // Merged writes get versions that may not rise.
  {
    file: WRITE_QUEUE,
    from: "result.certain && compareOptionalBallots(result.previous, lowest) < 0",
    to: "result.certain",
    ...QUEUE,
  },
  // Conditional writes are merged, too.
  { file: WRITE_QUEUE, from: "condition === null && ", to: "condition !== undefined && ", ...QUEUE },
  // Who waited too long goes on.
  { file: WRITE_QUEUE, from: "sinceMs < late", to: "sinceMs < late - late - 1", ...QUEUE },
  // A clock that is far ahead is followed.
  { file: BALLOTS, from: "if (!this.follows(above)) {", to: "if (above === undefined) {", ...CLOCK },
  { file: BALLOTS, from: "if (this.follows(ballot)) this.clock", to: "this.clock", ...CLOCK },
  // Two clocks of one start share a number.
  { file: BALLOTS, from: "this.clockNumber++;", to: "", ...CLOCK },
  // The higher one of two clocks.
  {
    file: CLUSTER_TIME,
    from: "offsets[(offsets.length - 1) >> 1]",
    to: "offsets[offsets.length >> 1]",
    ...CLOCK,
  },
  // A clock that was heard long ago.
  { file: CLUSTER_TIME, from: "if (steadyMs - atMs <= CLOCK_HEARD_MS_MAX) offsets", to: "offsets", ...CLOCK },
  // A minority's clocks.
  { file: CLUSTER_TIME, from: "offsets.length > this.setup.nodes() / 2", to: "offsets.length > 0", ...CLOCK },
  // Majorities.
  {
    file: GROUPS,
    from: "return 2 * countOf(set & whole) > countOf(whole);",
    to: "return 2 * countOf(set & whole) >= countOf(whole);",
    ...LAYOUT,
  },
  {
    file: GROUPS,
    from: "isMajorityOf(group.current, set) && hasPreviousMajority(group, set)",
    to: "isMajorityOf(group.current, set)",
    ...LAYOUT,
  },
  // A smaller set need not read what the larger one decided.
  {
    file: GROUPS,
    from: "return countOf(group.previous) > countOf(group.current);",
    to: "return false;",
    ...LAYOUT,
  },
  // A move ends before all have synchronised.
  {
    file: STEPS,
    from: "placement.awaited().every((node) => synchronised.has(node))",
    to: "synchronised.size >= 0",
    ...LAYOUT,
  },
  { file: PLAN, from: "if (!canFinishMove(placement, synchronised)) return null;", to: "", ...CHANGES },
  {
    file: PLAN,
    from: "epoch: layout.epoch + 1, previous: null",
    to: "epoch: layout.epoch, previous: null",
    ...CHANGES,
  },
  // Who rejoins counts itself, does not wait, or does not settle.
  {
    file: REJOIN,
    from: "return hasMajority(group, sources & ~self);",
    to: "return hasMajority(group, sources);",
    ...REPAIR_RULES,
  },
  { file: REJOIN, from: "nowMs - startedMs >= REJOIN_WAIT_MS", to: "nowMs >= startedMs", ...REPAIR_RULES },
  {
    file: REJOIN,
    from: 'if (!same && compareOptionalBallots(promised, highest.ballot) > 0) return { kind: "settle" };',
    to: "",
    ...REPAIR_RULES,
  },
  {
    file: REJOIN,
    from: "return floors.reduce(higherBallot, null);",
    to: "return floors[0] ?? null;",
    ...REPAIR_RULES,
  },
  // Tombstones.
  {
    file: TOMBSTONES,
    from: "confirmed === group.nodes.length",
    to: "2 * confirmed > group.nodes.length",
    ...REPAIR_RULES,
  },
  {
    file: TOMBSTONES,
    from: "Math.max(ballotMillis(ballot), end) + ageMs <= nowMillis",
    to: "Math.max(ballotMillis(ballot), end) <= nowMillis",
    ...REPAIR_RULES,
  },
  // The rules of a replica.
  {
    file: RULES,
    from: "if (order === 0 && (!ended || state.tombstone)) return ALREADY;",
    to: "",
    ...REGISTER,
  },
  // Ends of life.
  {
    file: RULES,
    from: "if (order === 0 && (!ended || state.tombstone)) return ALREADY;",
    to: "if (order === 0) return ALREADY;",
    ...REGISTER,
  },
  { file: RULES, from: "Number(a.ended) - Number(b.ended)", to: "0", ...REGISTER },
  { file: RULES, from: "state.ended === ended &&", to: "", ...REGISTER },
  {
    file: TOMBSTONES,
    from: "Math.max(ballotMillis(ballot), end)",
    to: "ballotMillis(ballot)",
    ...REPAIR_RULES,
  },
  { file: ROUND, from: "return !highest.lapsed || setup.knowsTime();", to: "return true;", ...COORDINATOR },
  {
    file: ROUND,
    from: 'how === "confirm" && (highest.ended || highest.lapsed)',
    to: "false",
    ...COORDINATOR,
  },
  {
    file: READ,
    from: "hasMajority(group, highest.holders) && !highest.lapsed",
    to: "hasMajority(group, highest.holders)",
    ...COORDINATOR,
  },
  {
    file: READ,
    from: "confirming && !round.highest.lapsed ? round.highest.holders : 0",
    to: "confirming ? round.highest.holders : 0",
    ...COORDINATOR,
  },
  { file: WRITE, from: "&& !byClock) ||", to: ") ||", ...COORDINATOR },
  {
    file: WRITE,
    from: "if (isGone) this.propose(TOMBSTONE);",
    to: "if (this.answered) this.propose(TOMBSTONE);",
    ...COORDINATOR,
  },
  {
    file: WRITE,
    from: "round.highest.exists ? round.highest.end : 0",
    to: "round.highest.end",
    ...COORDINATOR,
  },
  { file: REPLACEMENT, from: "|| Number(this.existed) - Number(existed)", to: "", ...COORDINATOR },
  { file: WRITE_QUEUE, from: "&& !this.hasEnded(result)", to: "", ...QUEUE },
  { file: WRITE_QUEUE, from: "!tombstone && end === 0", to: "!tombstone", ...QUEUE },
  { file: RULES, from: "if (order < 0) return NO;", to: "", ...REGISTER },
  {
    file: RULES,
    from: "compareBallots(b, floor) <= 0) return NO;",
    to: "compareBallots(b, floor) < 0) return NO;",
    ...REGISTER,
  },
  {
    file: RULES,
    from: "compareBallots(p, obstacle) > 0 ? YES : NO",
    to: "compareBallots(p, obstacle) >= 0 ? YES : NO",
    ...REGISTER,
  },
  {
    file: RULES,
    from: "return higherBallot(floor, higherBallot(state.ballot, state.promised));",
    to: "return higherBallot(floor, state.ballot);",
    ...REGISTER,
  },
  {
    file: RULES,
    from: "> known + BALLOT_AHEAD_MS_MAX && !isFromSecondClock(ballot)",
    to: "> known + BALLOT_AHEAD_MS_MAX",
    ...REGISTER,
  },
  // What a replica remembers.
  { file: ACCEPTS, from: "this.completeSinceMs = now();", to: "this.completeSinceMs = 0;", ...ACCEPT_LOG },
  { file: ACCEPTS, from: "else this.completeSinceMs = oldestMs;", to: "", ...ACCEPT_LOG },
  {
    file: ACCEPTS,
    from: "shown ||= words[at + 4] >>> 0 !== node >>> 0;",
    to: "shown ||= false;",
    ...ACCEPT_LOG,
  },

  {
    file: ACCEPTS,
    from: "certain &&= words[at + 7] === (epoch | 0);",
    to: "certain &&= true;",
    ...ACCEPT_LOG,
  },
  // An accept that came when the layout had changed was taken for certain.
  {
    file: "cluster/replica/verdicts.ts",
    from: '"kind" in answer ? null : epoch',
    to: "epoch",
    ...ACCEPT_LOG,
  },
  {
    file: "cluster/wire/recall.ts",
    from: "(certain ? CERTAIN_FLAG : 0)",
    to: "CERTAIN_FLAG",
    ...ACCEPT_LOG,
  },

  // ---- keys that several nodes write ---------------------------------------------------------------------------------------------

  // A master that was put back from a copy goes on at once, counts those who follow another layout, does again what waited, or takes over
  // what only some follow.
  { file: NEWEST, from: "return isMost(layout, this.followers) &&", to: "return", ...STEWARD },
  { file: NEWEST, from: "other === this.digestOf(layout);", to: "other !== null;", ...STEWARD },
  { file: NEWEST, from: "2 * holders.filter", to: "3 * holders.filter", ...STEWARD },
  // A master that learns the first layout takes those who have not heard of it for others.
  { file: DECISIONS, from: "? { layout, birth: this.known.stores } :", to: "? { layout } :", ...STEWARD },
  {
    file: "master/steward/steward.ts",
    from: "...(layout.epoch === 1 ? document.birth : {}),",
    to: "",
    ...STEWARD,
  },
  {
    file: "master/layout/decisions.ts",
    from: "filter((change) => !this.waitedBefore.has(change))",
    to: "filter(() => true)",
    ...STEWARD,
  },
  // It is said of a write that another node may have done that it had no effect.
  {
    file: "cluster/register/requests.ts",
    from: 'lost === true ? "unknown_outcome" : outcome',
    to: "outcome",
    ...QUEUE,
  },
  {
    file: ONCE,
    from: "this.mayBeDone = write.lost === true;",
    to: "this.mayBeDone = false;",
    ...COORDINATOR,
  },
  {
    file: ONCE,
    from: 'lost === true && bound == null && answer.outcome !== "done"',
    to: "false",
    ...COORDINATOR,
  },
  {
    file: HANDING,
    from: "NOTHING_CHANGED.has(ending.error) ? LOST : ending",
    to: "false ? LOST : ending",
    ...HANDED,
  },
  // What was handed on is in the way of what it needs, or has no more room than that.
  {
    file: "cluster/peers/peer-client.ts",
    from: "this.sendBy(this.handed, frame)",
    to: "this.sendBy(this.frames, frame)",
    test: "cluster/peer-client.test.ts",
    name: "a window of its own",
  },
  {
    file: "cluster/peers/peer-client.ts",
    from: "windowMin: HANDED_WINDOW_MIN",
    to: "windowMin: WINDOW_MIN",
    test: "cluster/peer-client.test.ts",
    name: "a window of its own",
  },
  // The window does not follow the link, or what was sent is given up as soon as what was not.
  { file: FRAMES, from: "Math.ceil(linkMs / PACE_MS)", to: "0", ...FRAME_QUEUE },
  { file: FRAMES, from: "if (linkMs === 0) return WINDOW_FIRST;", to: "", ...FRAME_QUEUE },
  {
    file: FRAMES,
    from: '"down" ? operationMs : answerMs',
    to: '"down" ? operationMs : operationMs',
    ...FRAME_QUEUE,
  },
  // Writes go to a node that is away; nobody tells that others write, too.
  {
    file: HOT_KEYS,
    from: "this.distance(node) !== Number.POSITIVE_INFINITY",
    to: 'node !== ""',
    ...HOT,
  },
  { file: HOT_KEYS, from: "known.last !== writer", to: "writer === 0", ...HOT },
  // A change may be made twice, or is handed on for ever.
  {
    file: HANDING,
    from: 'error.outcome === "not_sent" ? NOT_MADE : LOST',
    to: "error.code.length > 0 ? NOT_MADE : LOST",
    ...HANDED,
  },
  { file: HANDING, from: "&& patch.once !== null", to: "", ...HANDED },
  { file: HANDING, from: "change(handed, end, true);", to: "change(handed, end);", ...HANDED },
  // Changes of one write have one version, or draw no more than one, or forget who has a condition.
  { file: CHANGE, from: "lowerEtag(etag, steps.length - 1 - index)", to: "lowerEtag(etag, 0)", ...HANDED },
  { file: CHANGE, from: "versions: steps.length,", to: "versions: 1,", ...HANDED },
  { file: CHANGE, from: "return once === null && asked.ifMatch", to: "return asked.ifMatch", ...HANDED },
  { file: CHANGE, from: '&& asked.ifNoneMatch === "";', to: ";", ...HANDED },
  // A write that stands for several draws one version.
  {
    file: "cluster/wire/hand-on.ts",
    from: "frame.readUInt16LE(6) + 1",
    to: "1",
    test: "cluster/wire.test.ts",
  },

  // ---- between nodes -------------------------------------------------------------------------------------------------------------

  // What was signed for an earlier run is taken.
  { file: SIGNATURE, from: "if (session !== this.session)", to: 'if (session === "")', ...SIGNATURES },
  // However old.
  {
    file: SIGNATURE,
    from: "if (Math.abs(aheadMs) > SIGNATURE_AGE_MS)",
    to: "if (aheadMs < -Infinity)",
    ...SIGNATURES,
  },
  // A replay's refusal is signed.
  {
    file: SIGNATURE,
    from: 'return stranger("the request was seen before");',
    to: 'return { genuine, problem: "the request was seen before" };',
    ...FORGED,
  },
  // Another node's requests are taken.
  { file: SIGNATURE, from: "problem: this.audience(audience)", to: "problem: null", ...SIGNATURES },
  // An answer needs no signature.
  { file: LINK, from: 'return "forged";', to: 'return "genuine";', ...FORGED },
  // What a later run refuses was not done.
  { file: LINK, from: 'return isStale ? "stale" : "genuine";', to: 'return "genuine";', ...FORGED },
  // What an earlier run may have done is done again.
  { file: LINK, from: '(verdict === "stale" && mayRepeat)', to: 'verdict === "stale"', ...FORGED },
  // A failed answer means that nothing was sent.
  {
    file: LINK,
    from: "else handler.failed(new Error(refusal(verdict, status, answer)), true);",
    to: "else handler.failed(new Error(refusal(verdict, status, answer)), false);",
    ...FORGED,
  },
  // A value that breaks off is whole.
  { file: "cluster/link/value-stream.ts", from: "if (!verifier.complete)", to: "if (false)", ...FORGED },
  // The second key is not accepted.
  {
    file: "auth/keys.ts",
    from: "this.keys.find((key)",
    to: "this.keys.slice(0, 1).find((key)",
    ...SIGNATURES,
  },
  // Clients say what workers say.
  {
    file: "master/routes.ts",
    from: "mayReport: verifier === null && isPerson",
    to: "mayReport: isPerson",
    test: "master/master.test.ts",
    name: "with a key",
  },
  // Anybody may invite.
  {
    file: "cluster/membership/member-routes.ts",
    from: "if (known === null && !invitable)",
    to: "if (false)",
    test: "cluster/invitations.test.ts",
  },
  // What the last run may have lost does not matter.
  {
    file: STANDING,
    from: "if ((doubt === null || this.isOld) && isEnough(",
    to: "if (isEnough(",
    ...IDENTITY,
  },
  // Or is taken over from too few.
  {
    file: STANDING,
    from: "if (doubt !== null && canTakeOver(",
    to: "if (doubt !== null || canTakeOver(",
    ...IDENTITY,
  },
  // It votes before that is noted.
  { file: STANDING, from: "      settle();\n", to: "", ...IDENTITY },
  // What a later state of its disk had finished counts as this one's.
  {
    file: WHOLENESS,
    from: "if (before === undefined) return false;",
    to: "if (before === undefined) return true;",
    ...MEMBERSHIP,
  },
  {
    file: WHOLENESS,
    from: "if (stays && (hasFinished || !awaited.has(group.partition))) return true;",
    to: "if (hasFinished || !awaited.has(group.partition)) return true;",
    ...MEMBERSHIP,
  },
  {
    file: WHOLENESS,
    from: "if (stays && (hasFinished || !awaited.has(group.partition))) return true;",
    to: "if (stays) return true;",
    ...MEMBERSHIP,
  },
  {
    file: WHOLENESS,
    from: "if (stays && (hasFinished || !awaited.has(group.partition))) return true;",
    to: "if (stays && hasFinished) return true;",
    ...MEMBERSHIP,
  },
  {
    file: WHOLENESS,
    from: "if (stays && (hasFinished || !awaited.has(group.partition))) return true;",
    to: "if (stays && !awaited.has(group.partition)) return true;",
    ...MEMBERSHIP,
  },
  {
    file: WHOLENESS,
    from: "return namesOf(group) === namesOf(before);",
    to: "return false;",
    ...MEMBERSHIP,
  },
  {
    file: WHOLENESS,
    from: "return namesOf(group) === namesOf(before);",
    to: "return true;",
    ...MEMBERSHIP,
  },
  {
    file: "cluster/identity/senders.ts",
    from: "if (!isNamedIn(layout(), url)) return;",
    to: "",
    test: "cluster/senders.test.ts",
  },
  {
    file: "cluster/node/cluster-node.ts",
    from: "return placement !== null && isProven && isNamedIn(placement.layout, this.home);",
    to: "return placement !== null && isProven;",
    test: "cluster/twins.test.ts",
  },
  {
    file: "master/presence/applicants.ts",
    from: "if (member !== null && member !== url) return member;",
    to: "",
    ...STEWARD,
  },
  {
    file: "cluster/membership/membership.ts",
    from: "if (done >= total) this.state.setFinished(epoch);",
    to: "if (done > total) this.state.setFinished(epoch);",
    ...MEMBERSHIP,
  },
  {
    file: MEMBER_STATE,
    from: "const isKept = this.state.voting && this.isWholeBy(placement);",
    to: "const isKept = this.state.voting;",
    ...MEMBERSHIP,
  },
  {
    file: MEMBER_STATE,
    from: "const isWhole = isBirth || this.isWholeBy(placement);",
    to: "const isWhole = true;",
    ...MEMBERSHIP,
  },
  {
    file: "cluster/identity/own-life.ts",
    from: "if (isNamedIn(store.layout, store.url) || known.incarnation < store.incarnation) return;",
    to: "if (known.incarnation < store.incarnation) return;",
    test: "cluster/own-life.test.ts",
  },
  {
    file: MEMBER_STATE,
    from: "if (isBirth) this.born();",
    to: "",
    ...MEMBERSHIP,
  },
  // Every boot is the same.
  {
    file: "cluster/identity/run-file.ts",
    from: 'this.boot !== "" && members.boot === this.boot',
    to: "true",
    ...IDENTITY,
  },
  // Where a cluster recovers, a majority of those that are left is enough.
  {
    file: GROUPS,
    from: "if (group.recovers === true) return (set & group.previous) === group.previous;",
    to: "",
    ...LAYOUT,
  },
  { file: GROUPS, from: "if (group.recovers === true || (", to: "if ((", ...LAYOUT },
  // Who is given up still counts.
  { file: GROUPS, from: "before.filter((name) => !lost.includes(name))", to: "[...before]", ...LAYOUT },
  {
    file: STEPS,
    from: "const { lost: _, ...finished } = layout;",
    to: "const finished = layout;",
    ...LAYOUT,
  },
  // The lost nodes made no layout that nobody has heard of.
  { file: RECOVERY, from: "layout.epoch + EPOCH_LEAP", to: "layout.epoch + 1", ...LAYOUT },
  // A second recovery takes back who was given up.
  {
    file: RECOVERY,
    from: "missing.has(id) || layout.lost?.includes(id));",
    to: "missing.has(id));",
    ...LAYOUT,
  },
  // Half is a majority.
  { file: RECOVERY, from: "2 * left <= countOf(", to: "2 * left < countOf(", ...STEWARD },
  // A recovery is given up like a move.
  { file: PLAN, from: "if (layout.lost !== undefined)", to: "if (layout.epoch < 0)", ...STEWARD },
  // A move is given up though it is the master that is cut off, or though nobody waits for who died.
  {
    file: ABSENCE,
    from: "if (2 * before.filter(({ url }) => isUp(url)).length <= before.length) return null;",
    to: "",
    ...STEWARD,
  },
  { file: ABSENCE, from: "!synchronised.has(url) && !isUp(url)", to: "!isUp(url)", ...STEWARD },
  // Who joined by a move that was given up has left.
  {
    file: DECISIONS,
    from: "(mayReturn.has(url) ? returning : left)[url]",
    to: "left[url]",
    ...STEWARD,
  },
  // Changes begin that cannot end.
  {
    file: WAITING,
    from: "if (absence(nowMs).shaky > 0) return this.unableText();",
    to: "",
    ...STEWARD,
  },
  // Nobody, or anybody, need have reached who joins.
  {
    file: ADMISSION,
    from: "return isAny && !this.lacks(url, store, MASTER);",
    to: "return isAny;",
    ...STEWARD,
  },
  {
    file: ADMISSION,
    from: "wanted.length === 0 || wanted.some(",
    to: "wanted.length >= 0 || wanted.some(",
    ...STEWARD,
  },
  {
    file: ADMISSION,
    from: "if (candidate?.store !== store) {",
    to: "if (candidate === undefined) {",
    ...STEWARD,
  },
  // Each restart with another region is a move of its own.
  { file: SETTINGS, from: "if (nowMs - sinceMs < settleMs) isSettled = false;", to: "", ...STEWARD },
  // Promises that are young, stand beside a record, or are in no floor yet are forgotten.
  { file: RULES, from: "+ PROMISE_FOLD_MS < nowMillis", to: "< nowMillis", ...REGISTER },
  {
    file: REPLICA,
    from: 'const isLone = batch.currentOf(ref).state === "absent";',
    to: "const isLone = true;",
    ...REPLICATION,
  },
  {
    file: REPLICA,
    from: "if (compareOptionalBallots(floor, batch.floorOf(partition, outcome)) > 0) {",
    to: "if (partition < 0) {",
    ...REPLICATION,
  },
  {
    file: CANDIDATES,
    from: "floor !== null && compareBallots(promise, floor) <= 0",
    to: "floor !== null",
    ...REPLICATION,
  },
  // Health: one replica is enough, and a moment too much.
  {
    file: SERVICE,
    from: "if (!hasMajority(group, set)) partitions++;",
    to: "if (set === 0) partitions++;",
    ...SERVED,
  },
  { file: SERVICE, from: "nowMs - this.lacking.sinceMs >= UNABLE_MS", to: "nowMs >= 0", ...SERVED },
  {
    file: SERVICE,
    from: 'if (outcome !== "no_quorum") this.failing[kind] = null;',
    to: "if (latest === null) return;",
    ...SERVED,
  },
  // A disk that was lost votes. Whole nodes do not tell: the others are asked, too, and say that it is in doubt.
  {
    file: "cluster/membership/member-state.ts",
    from: "store === this.state.member",
    to: 'store !== ""',
    ...MEMBERSHIP,
  },
  // Whole nodes: a replica that is not whole votes.
  {
    file: "cluster/node/cluster-node.ts",
    from: "return view.voting && group.nodes",
    to: "return group.nodes",
    ...nodesWith("wipe"),
  },
  // What the master says is not heard.
  {
    file: "cluster/membership/master-link.ts",
    from: "this.setup.heard(readAnswer(body.toString()), heartbeat);",
    to: "",
    ...nodesWith("crash"),
  },
  // A replica that is down hurries a prepare past those that are far away.
  {
    file: ROUND,
    from: "else if (tally.outvoted !== 0) this.later",
    to: "else if (tally.no !== 0) this.later",
    ...COORDINATOR,
  },
  // Moves begin that those who would be left cannot end; who is dead keeps one from ending.
  {
    file: WAITING,
    from: "shakyAfter(nowMs, layout, change, next) === 0",
    to: "shakyAfter(nowMs, layout, change, next) >= 0",
    ...STEWARD,
  },
  {
    file: "master/steward/orders.ts",
    from: "const free = this.waitsFor(url) ? abandon(plan) : plan;",
    to: "const free = plan;",
    ...STEWARD,
  },
  // Any master's invitation is good.
  {
    file: MEMBER_ROUTES,
    from: "if (isForeign(known.layout?.cluster, invitation.cluster))",
    to: "if (known.url === undefined)",
    ...INVITATIONS,
  },
];
