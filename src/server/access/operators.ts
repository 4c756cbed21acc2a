/**
 * Operators: who may steer a cluster. They carry a token that allows `admin`, or, where there are no tokens,
 * the key.
 */
import type { TokenRecord } from "../../auth/token-file.ts";
import { ADMIN, METRICS, TokenSet } from "../../auth/tokens.ts";
import type { Req } from "../http/http.ts";
import { type ClientAccess, holderOf } from "./gate.ts";

const AUTHORIZATION = Buffer.from("authorization");

export class Operators {
  private tokens: TokenSet;

  constructor({ tokens }: ClientAccess) {
    this.tokens = new TokenSet(tokens);
  }

  /** From now on these are the tokens. */
  renew(tokens: readonly TokenRecord[]): void {
    this.tokens = new TokenSet(tokens);
  }

  /** Whether a request comes from an operator. */
  sent(req: Req): boolean {
    return this.allows(req, ADMIN);
  }

  /** Whether a request may read figures. */
  mayRead(req: Req): boolean {
    return this.allows(req, METRICS);
  }

  private allows(req: Req, bits: number): boolean {
    return holderOf(this.tokens, req.getHeader(AUTHORIZATION))?.allows(bits) ?? false;
  }
}
