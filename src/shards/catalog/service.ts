/** Keeps the catalog up with the logs, and answers the fronts' questions once it is. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Catalog } from "../../engine/catalog/catalog.ts";
import type { CatalogState } from "../../engine/catalog/figures.ts";
import { RunDamage } from "../../engine/catalog/runs/run.ts";
import { Slices } from "../../engine/catalog/slices.ts";
import type { StoreIdentity } from "../../engine/directory/store-file.ts";
import { stackOf } from "../../platform/system-error.ts";
import type { SteadyClock } from "../../util/clock.ts";
import { VaultError } from "../../util/errors.ts";
import { Recurring } from "../../util/recurring.ts";
import { CatalogAnswers } from "./answers.ts";
import { Entries } from "./entries.ts";
import { CATALOG_FIGURE, type CatalogAnswer, type CatalogQuestion } from "./messages.ts";

/** How often the logs are looked at when nobody asks. */
const FOLLOW_MS = 100;
/** How long a question waits until the catalog has followed the logs; then it is "building". */
const CATCH_UP_MS_MAX = 5000;

const STATES: readonly CatalogState[] = ["building", "ready", "blind"];

export class CatalogService {
  private readonly catalog: Catalog;
  private readonly answers: CatalogAnswers;
  private readonly figures: Float64Array;
  private readonly trouble: Recurring;
  private readonly timer: NodeJS.Timeout;
  private following: Promise<void> | null = null;
  private closed = false;

  constructor(
    catalog: Catalog,
    store: StoreIdentity,
    figures: Float64Array,
    clock: SteadyClock,
    warn: (message: string) => void,
  ) {
    this.catalog = catalog;
    const entries = new Entries(catalog.logs.lookups, store, clock);
    this.answers = new CatalogAnswers(catalog, entries, this.slices, () => this.requireWhole());
    this.figures = figures;
    this.trouble = new Recurring((reason) => warn(`the catalog of keys: ${reason}`));
    this.timer = setInterval(() => this.tend(), FOLLOW_MS);
    this.timer.unref();
    this.tend();
  }

  /** Follows the logs, and has written what is due. */
  private tend(): void {
    void this.follow().then(() => {
      this.trouble.passed();
      this.catalog.logs.release();
      this.show();
      if (this.catalog.isDue) void this.catalog.work();
    }, this.failed);
  }

  private readonly slices = (): Slices => new Slices(() => this.closed);

  private readonly failed = (error: Error): void =>
    this.trouble.failed(error instanceof VaultError ? error.message : stackOf(error));

  /** Takes in all that is published now; ends early where damage is in the way. */
  private follow(): Promise<void> {
    this.following ??= this.followOn().finally(() => {
      this.following = null;
    });
    return this.following;
  }

  private async followOn(): Promise<void> {
    const slices = this.slices();
    while (!this.catalog.absorb(slices)) {
      this.show();
      // A first build is long: what it has goes to the disk meanwhile, so that it needs little memory, and a
      // stop in the middle loses little.
      if (this.catalog.isDue) void this.catalog.work();
      if (this.catalog.isBehind) await this.catalog.work();
      if (this.catalog.state === "blind" || !(await slices.turn())) return;
    }
  }

  private show(): void {
    const figures = this.catalog.figures();
    const { figures: shown } = this;
    for (const [name, value] of Object.entries(figures))
      if (name !== "state") shown[CATALOG_FIGURE[name as keyof typeof CATALOG_FIGURE]] = Number(value);
    shown[CATALOG_FIGURE.state] = STATES.indexOf(figures.state);
  }

  async answer(question: CatalogQuestion): Promise<CatalogAnswer> {
    try {
      await this.catchUp();
      return await this.answers.of(question);
    } catch (error) {
      return this.refusal(error as Error);
    }
  }

  private refusal(error: Error): CatalogAnswer {
    if (error instanceof RunDamage) {
      this.catalog.damaged(error);
      this.tend();
      return { kind: "refused", code: "building", detail: "" };
    }
    if (error instanceof VaultError) return { kind: "refused", code: error.code, detail: error.message };
    this.failed(error);
    return { kind: "refused", code: "internal", detail: "" };
  }

  /** All that was published before this was called is in the catalog when it returns. */
  private async catchUp(): Promise<void> {
    const slices = this.slices();
    if (this.catalog.absorb(slices)) return this.requireWhole();
    this.requireWhole();
    let isOver = false;
    const until = sleep(CATCH_UP_MS_MAX, undefined, { ref: false }).then(() => {
      isOver = true;
    });
    // Who follows already may have looked at the ends before.
    for (let rounds = 0; rounds < 2 && !isOver; rounds++) await Promise.race([this.follow(), until]);
    if (isOver) throw this.building();
    this.requireWhole();
  }

  private requireWhole(): void {
    const { state } = this.catalog;
    if (this.closed) throw new VaultError("stopping");
    if (state === "building") throw this.building();
    if (state === "blind")
      throw new VaultError(
        "corrupt",
        "records are damaged whose keys nobody knows, so no list would be whole; run minivault verify",
      );
  }

  private building(): VaultError {
    const percent = Math.floor(this.catalog.figures().progress * 100);
    return new VaultError(
      "building",
      `the list of all keys is being built, ${percent} % of the slabs are read; try again`,
    );
  }

  /** The shards must be closed already. */
  async close(): Promise<void> {
    clearInterval(this.timer);
    this.closed = true;
    await this.following;
    await this.catalog.close();
  }
}
