/** Whose a request is: finds the token whose secret has signed it, and counts its rate. */
import type { TokenRecord } from "../../auth/token-file.ts";
import { ANYBODY, createRates, NOBODY, Token } from "../../auth/tokens.ts";
import type { ClientAccess } from "../../server/access/gate.ts";
import type { Meter } from "../../server/status/meter.ts";
import { S3Error } from "../protocol/errors.ts";
import { type SignedRequest, SigningKeys } from "../signature/canonical.ts";
import { createRepeats, Repeats } from "../signature/repeats.ts";
import { type Genuine, verify } from "../signature/verify.ts";

const READS: ReadonlySet<string> = new Set(["GET", "HEAD"]);

export class Access {
  private holders: ReadonlyMap<string, { holder: Token; secret: string }> = new Map();
  private readonly keys = new SigningKeys();
  private readonly repeats: Repeats;
  private readonly rates: Float64Array;
  private readonly meter: Meter;
  private readonly readsArePublic: boolean;
  private readonly now: () => number;
  private readonly steadyNow: () => number;

  /**
   * @param rates memory of `createRates` that all fronts have; left out: there is one
   * @param repeats memory of `createRepeats` that all fronts of S3 have; left out: there is one
   * @param now milliseconds since 1970
   * @param steadyNow a clock that only goes forward
   */
  constructor(
    { mode, tokens }: ClientAccess,
    meter: Meter,
    rates: ArrayBufferLike | undefined,
    repeats = createRepeats(),
    now = () => Date.now(),
    steadyNow = () => Number(process.hrtime.bigint()) / 1e6,
  ) {
    this.meter = meter;
    this.rates = new Float64Array(rates ?? createRates());
    this.readsArePublic = mode === "writes";
    this.now = now;
    this.steadyNow = steadyNow;
    this.repeats = new Repeats(repeats);
    this.renew(tokens);
  }

  /** From now on these are the tokens. */
  renew(tokens: readonly TokenRecord[]): void {
    this.holders = new Map(
      tokens.flatMap((record) =>
        record.s3 === null
          ? []
          : [[record.s3.accessKey, { holder: new Token(record), secret: record.s3.secretKey }]],
      ),
    );
    this.keys.clear();
  }

  /**
   * Judges who sends a request, and whether it is genuine.
   * @throws S3Error
   */
  judge(request: SignedRequest & { headerNames: () => Iterable<string> }): {
    caller: Token;
    genuine: Genuine<Token> | null;
  } {
    const nowMs = this.now();
    let genuine: Genuine<Token> | null;
    try {
      genuine = verify(request, this.keys, (accessKey) => this.holders.get(accessKey) ?? null, nowMs);
      if (genuine?.holder.isOver(nowMs))
        throw new S3Error("InvalidAccessKeyId", "The token of this access key has ended.");
      this.demandNew(request, genuine);
    } catch (error) {
      this.meter.refused("unauthorized");
      throw error;
    }
    if (genuine === null) return { caller: this.readsArePublic ? ANYBODY : NOBODY, genuine };
    const { holder } = genuine;
    if (holder.hasRate && !holder.takes(this.rates, this.steadyNow())) {
      this.meter.refused("too_many_requests");
      throw new S3Error("SlowDown");
    }
    return { caller: holder, genuine };
  }

  private demandNew({ method }: SignedRequest, genuine: Genuine<Token> | null): void {
    if (genuine === null || genuine.isPresigned || READS.has(method)) return;
    if (!this.repeats.take(genuine.seed.signature, this.steadyNow()))
      throw new S3Error("AccessDenied", "This signed request has come before: sign it anew.");
  }
}
