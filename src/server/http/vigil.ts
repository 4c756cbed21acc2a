/**
 * Looking for the next request before sleeping for it (see patience.ts): a client that sends one request
 * after the other has its next one here sooner than a sleeping thread would wake up. Only while nothing is
 * under way, since the answer to that is waited for by other means, and few clients are there: with more,
 * requests come together, and there is always one.
 */
import { Patience } from "../../shards/arena/patience.ts";
import type { InFlight } from "./context.ts";

/** How long to look, once in each turn of the event loop. */
const LOOK_MS_MAX = 0.1;
/** More requests than this in one turn: the front is busy. */
const FEW_REQUESTS = 4;

export class Vigil {
  private readonly inFlight: InFlight;
  private readonly patience: Patience;
  /** Calls back once per turn of the event loop, after what came in. */
  private readonly onTurn: (turn: () => void) => void;
  /** In this turn of the event loop. */
  private requests = 0;
  /** The next request is waited for. */
  private waiting = false;
  private turning = false;

  constructor(
    inFlight: InFlight,
    now = () => performance.now(),
    onTurn: (turn: () => void) => void = setImmediate,
  ) {
    this.inFlight = inFlight;
    this.patience = new Patience(LOOK_MS_MAX, now);
    this.onTurn = onTurn;
    // The next request may follow from the last answer.
    inFlight.onIdle.push(() => this.stayAwake());
  }

  /** A request has come. */
  request(): void {
    if (this.requests++ > 0) return;
    if (this.waiting) this.patience.end();
    this.waiting = false;
    this.stayAwake();
  }

  private stayAwake(): void {
    if (this.turning) return;
    this.turning = true;
    this.onTurn(this.turn);
  }

  private readonly turn = (): void => {
    if (this.inFlight.count > 0) this.waiting = false;
    else if (!this.waiting || this.requests > 0) {
      this.waiting = true;
      this.patience.begin(this.requests > FEW_REQUESTS);
    }
    this.requests = 0;
    this.turning = this.waiting && this.patience.lasts;
    if (this.turning) this.onTurn(this.turn);
  };
}
