/**
 * What a node (or a master) remembers of the lives of others, durably (lives-place.ts), so that it can tell a
 * store that comes back from an old copy of it. FORMAT.md has the members.
 *
 * Of each URL: the newest life that was admitted, and the marks of the last life that voted.
 *
 * - A life is admitted when its incarnation is above that of the store's last one, or when it comes with
 *   another store. It is on disk before anything of it is answered. Whoever has admitted a life refuses the
 *   earlier ones of that URL: "fenced".
 * - A life is *in doubt* from its admission on when it came with another store than the one before. That
 *   lasts, over restarts, until it votes: then it has synchronised.
 * - Marks are written soon: at the pace of where they are kept while they rise, and when the node goes.
 */
import { reasonOf } from "../../platform/system-error.ts";
import { Recurring } from "../../util/recurring.ts";
import { decodeMarks, encodeMarks, type Life, lacks, type Marks } from "./life.ts";
import { LIVES_FORMAT, LIVES_VERSION, LivesFile, type LivesPlace } from "./lives-place.ts";

/** How the refusal of an earlier life begins, and that of one whose place another store has taken. */
export const FENCED = "fenced:";
export const REPLACED = `${FENCED} another data directory`;
/** URLs and, of each, former stores that are remembered. */
const URLS_MAX = 2048;
const FORMER_MAX = 8;

interface Entry {
  store: string;
  incarnation: number;
  session: string;
  /** It came with another store than the one before, and has not voted since. */
  doubt: boolean;
  /** Whose marks these are, and up to where; null: nothing of the URL has voted. */
  voter: { store: string; incarnation: number; marks: Marks } | null;
  /** By store: the last incarnation under this URL. */
  former: Record<string, number>;
}

/** What is known of a store under a URL, as an answer to its hello. */
export interface Known {
  /** Of the last life with this store, other than the one that asks; 0: none. */
  incarnation: number;
  /** Another store came after it, or it has not voted since it came instead of another. */
  doubt: boolean;
  /** Up to where its log was answered; null: not known. */
  marks: string | null;
  /** Whether who says so may have forgotten: its own store is new, or old. Then only what it knows counts. */
  forgetful: boolean;
}

export const NOTHING_KNOWN: Known = Object.freeze({
  incarnation: 0,
  doubt: false,
  marks: null,
  forgetful: false,
});

/** Reads what another node knows. Throws an Error when it is nothing of the kind. */
export function readKnown(value: unknown): Known {
  const { incarnation, doubt, marks, forgetful } = (value ?? {}) as Record<string, unknown>;
  const areMarks = marks === null || (typeof marks === "string" && decodeMarks(marks) !== null);
  if (!Number.isSafeInteger(incarnation) || typeof doubt !== "boolean" || !areMarks)
    throw new Error("the answer does not say what is known of a store");
  return { incarnation: incarnation as number, doubt, marks, forgetful: forgetful === true };
}

export class Lives {
  private readonly place: LivesPlace;
  private readonly trouble: Recurring;
  private readonly entries = new Map<string, Entry>();
  private readonly timer: NodeJS.Timeout;
  private changed = false;
  private writing: Promise<void> | null = null;
  /** Rises with each new life; a slower write of marks must not replace that. */
  generation = 0;

  /** @param place or the directory of the file */
  constructor(place: LivesPlace | string, warn: (message: string) => void) {
    this.place = typeof place === "string" ? new LivesFile(place) : place;
    const { name, paceMs } = this.place;
    this.trouble = new Recurring((reason) => warn(`${name} could not be written: ${reason}`));
    this.read();
    this.timer = setInterval(() => this.flush(), paceMs);
    this.timer.unref();
  }

  /**
   * Hears of a life. True: it is the newest of its URL, and on disk. False: it is an earlier one.
   * @param isNeeded whether a URL is one of the cluster's: what is known of the others may have to make room
   * @throws Error when it cannot be put on disk; then it is not admitted
   */
  admit(
    { url, store, incarnation, session }: Life,
    isNeeded: (url: string) => boolean = () => true,
  ): boolean {
    const entry = this.entries.get(url);
    if (entry !== undefined && entry.store === store && entry.session === session) return true;
    const last =
      entry === undefined ? 0 : entry.store === store ? entry.incarnation : (entry.former[store] ?? 0);
    if (incarnation <= last) return false;
    if (entry === undefined && this.entries.size >= URLS_MAX) this.makeRoom(isNeeded);
    const isOther = entry !== undefined && entry.store !== store;
    const former = isOther ? withFormer(entry) : (entry?.former ?? {});
    const doubt = isOther || (entry?.doubt ?? false);
    const next = { store, incarnation, session, doubt, voter: entry?.voter ?? null, former };
    this.entries.set(url, next);
    try {
      this.write();
    } catch (error) {
      if (entry === undefined) this.entries.delete(url);
      else this.entries.set(url, entry);
      throw error;
    }
    return true;
  }

  /** Forgets the URL that came first of those that nobody needs: nodes come and go for years. */
  private makeRoom(isNeeded: (url: string) => boolean): void {
    for (const url of this.entries.keys())
      if (!isNeeded(url)) {
        this.entries.delete(url);
        return;
      }
    throw new Error("too many nodes have been here");
  }

  /** Whether a life is an earlier one of its URL, or of a store that another one has replaced. */
  isFenced({ url, store, incarnation, session }: Life): boolean {
    const entry = this.entries.get(url);
    if (entry === undefined || (entry.store === store && entry.session === session)) return false;
    return incarnation <= (entry.store === store ? entry.incarnation : (entry.former[store] ?? 0));
  }

  /**
   * Why a life that was not admitted is refused.
   * @param where the place of the later one is known
   */
  refusalOf({ url, store }: Life, where: string): string {
    return this.entries.get(url)?.store === store
      ? `${FENCED} a later start of ${url} is known ${where}`
      : `${REPLACED} has served as ${url} since, as is known ${where}`;
  }

  /** An admitted life says how far its log was answered. What does not vote is not measured. */
  hear({ url, store, incarnation, session, votes }: Life, marks: Marks): void {
    const entry = this.entries.get(url);
    if (entry === undefined || entry.store !== store || entry.session !== session || !votes) return;
    const { voter, doubt } = entry;
    const isSame = voter !== null && voter.store === store && voter.incarnation === incarnation;
    if (isSame && !doubt && !lacks(marks, voter.marks) && !lacks(voter.marks, marks)) return;
    // Within one life they only grow, whatever order they come in.
    const highest =
      isSame && marks.length === voter.marks.length
        ? marks.map((mark, shard) => Math.max(mark, voter.marks[shard]))
        : marks;
    entry.voter = { store, incarnation, marks: highest };
    entry.doubt = false;
    this.changed = true;
  }

  /** What is known of the life's store apart from this very life. */
  knownOf({ url, store, session }: Life): Known {
    const entry = this.entries.get(url);
    if (entry === undefined) return NOTHING_KNOWN;
    const { voter } = entry;
    const isSelf = entry.store === store && entry.session === session;
    const incarnation = isSelf ? 0 : entry.store === store ? entry.incarnation : (entry.former[store] ?? 0);
    return {
      incarnation,
      doubt: entry.doubt || entry.store !== store || (voter !== null && voter.store !== store),
      marks: voter === null || voter.store !== store ? null : encodeMarks(voter.marks),
      forgetful: false,
    };
  }

  /** Writes what has changed, soon. */
  flush(): void {
    if (!this.changed || this.writing !== null) return;
    this.changed = false;
    const { generation } = this;
    this.writing = this.place
      .writeSoon(this.document(), () => generation === this.generation)
      .then((isThere) => {
        if (!isThere) this.changed = true;
        this.trouble.passed();
      })
      .catch((error: unknown) => {
        this.changed = true;
        this.trouble.failed(reasonOf(error));
      })
      .finally(() => {
        this.writing = null;
      });
  }

  /** Writes what is left. */
  async close(): Promise<void> {
    clearInterval(this.timer);
    await this.writing;
    this.flush();
    await this.writing;
  }

  private write(): void {
    this.generation++;
    this.place.write(this.document());
  }

  private document(): { format: string; version: number } {
    const urls = [...this.entries].map(([url, { voter, ...entry }]) => ({
      url,
      ...entry,
      voter: voter === null ? null : { ...voter, marks: encodeMarks(voter.marks) },
    }));
    return { format: LIVES_FORMAT, version: LIVES_VERSION, ...{ urls } };
  }

  private read(): void {
    const members = this.place.read();
    if (members === null) return;
    if (!Array.isArray(members.urls)) throw new Error(`${this.place.name}: urls is no list`);
    for (const { url, voter, ...entry } of members.urls)
      this.entries.set(url, {
        ...entry,
        voter: voter === null ? null : { ...voter, marks: decodeMarks(voter.marks) ?? [] },
      });
  }
}

function withFormer({ store, incarnation, former }: Entry): Record<string, number> {
  const { [store]: _, ...others } = former;
  const kept = Object.entries(others).slice(1 - FORMER_MAX);
  return { ...Object.fromEntries(kept), [store]: incarnation };
}
