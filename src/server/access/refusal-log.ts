/**
 * The log of refused requests: one line a second for each token, so that nobody can fill the disk with what
 * is not let in. Ids come from strangers, who can make up as many as they like: only so many are told apart.
 */
import type { ErrorCode } from "../../util/errors.ts";
import type { FrontLog } from "../http/context.ts";

/** Between two lines about one id. */
const LINE_MS = 1000;
/** Ids that are told apart; the rest share one line. */
const IDS_MAX = 32;
const OTHERS = "others";

interface Account {
  loggedMs: number;
  /** Since that line. */
  unsaid: number;
}

export class RefusalLog {
  private readonly accounts = new Map<string, Account>();
  private readonly log: FrontLog;
  private readonly now: () => number;

  /** @param now milliseconds on a clock that only goes forward */
  constructor(log: FrontLog, now: () => number = () => performance.now()) {
    this.log = log;
    this.now = now;
  }

  /** @param id of the token: its name, or what can be said of it */
  note(code: ErrorCode, id: string, method: string): void {
    const nowMs = this.now();
    const known = this.accountOf(id, nowMs);
    const { account } = known;
    if (nowMs - account.loggedMs < LINE_MS) {
      account.unsaid++;
      return;
    }
    const more = account.unsaid === 0 ? {} : { unsaid: account.unsaid };
    account.loggedMs = nowMs;
    account.unsaid = 0;
    this.log.info({ token: known.id, code, method, ...more }, "a client's request was refused");
  }

  private accountOf(id: string, nowMs: number): { id: string; account: Account } {
    const known = this.accounts.get(id);
    if (known !== undefined) return { id, account: known };
    if (this.accounts.size >= IDS_MAX)
      for (const [name, { loggedMs }] of this.accounts)
        if (nowMs - loggedMs >= LINE_MS) this.accounts.delete(name);
    const name = this.accounts.size < IDS_MAX ? id : OTHERS;
    let account = this.accounts.get(name);
    if (account === undefined) {
      account = { loggedMs: Number.NEGATIVE_INFINITY, unsaid: 0 };
      this.accounts.set(name, account);
    }
    return { id: name, account };
  }
}
