/**
 * etcd's v3 API over its JSON gateway: one request at a time is sent to one of its members, and to the next
 * one where that does not answer. Keys and values are base64 there, and numbers of 64 bits are text.
 *
 * Every request may be sent twice: who writes compares, and knows its own writing again (etcd-store.ts).
 */
import { NodeHttp } from "../../cluster/link/node-http.ts";
import type { PeerTls } from "../../cluster/link/peer-tls.ts";
import type { RegistryAddress } from "../../config/registry-address.ts";

/** A member that does not answer in this time is passed over. */
const ASK_MS = 2000;
/** gRPC's numbers of what went wrong. */
const UNKNOWN_LEASE = 5;
const INVALID = 3;
const UNAUTHENTICATED = 16;
const NOT_ENABLED = 9;
/** Of those what may pass at another member, or soon: UNKNOWN, DEADLINE_EXCEEDED, ABORTED, UNAVAILABLE. */
const PASSING: readonly number[] = [2, 4, 10, 14];

/** A key with its value, as etcd has it. */
export interface Kept {
  value: Buffer;
  createRevision: string;
  modRevision: string;
}

/** Of the revision at which a key was made, or changed last; "0": there is no such key. */
export interface Comparison {
  key: string;
  target: "CREATE" | "MOD";
  revision: string;
}

export type Operation =
  | { put: string; value: Buffer; lease?: string }
  | { range: string; keysOnly?: boolean };

/** What a transaction answers: for each operation what is under its key; null: nothing, or it was put. */
export interface Outcome {
  succeeded: boolean;
  revision: string;
  found: (Kept | null)[];
}

/** No member of etcd has answered, or none could do it just now: it may have been done all the same. */
export class Unreached extends Error {}

/** etcd has refused; `isLeaseGone`: because the lease is not there any more. */
export class Refused extends Error {
  readonly isLeaseGone: boolean;
  constructor(message: string, isLeaseGone: boolean) {
    super(message);
    this.isLeaseGone = isLeaseGone;
  }
}

interface Answer {
  status: number;
  document: Record<string, unknown>;
}

export class Gateway {
  private readonly members: NodeHttp[];
  private readonly user: RegistryAddress["user"];
  /** Which of them answered last. */
  private current = 0;
  /** What etcd let the user in with; null: not asked yet. */
  private token: string | null = null;

  constructor({ endpoints, user }: RegistryAddress, tls: PeerTls) {
    this.user = user;
    this.members = endpoints.map(
      (url) =>
        new NodeHttp({ ...{ url, tls, signer: null }, connections: 2, authorization: () => this.token }),
    );
  }

  /** A new lease; answers its id and how long it holds, in milliseconds. */
  async grant(seconds: number): Promise<{ lease: string; ttlMs: number }> {
    const { ID, TTL } = await this.ask("lease/grant", { TTL: String(seconds) });
    return { lease: String(ID), ttlMs: Number(TTL) * 1000 };
  }

  /** Renews a lease; answers for how long, in milliseconds. 0: it is gone. */
  async renew(lease: string): Promise<number> {
    const { result } = await this.ask("lease/keepalive", { ID: lease });
    return Number((result as { TTL?: string } | undefined)?.TTL ?? 0) * 1000;
  }

  /** Gives a lease up, and with it what was put under it. */
  async revoke(lease: string): Promise<void> {
    try {
      await this.ask("lease/revoke", { ID: lease });
    } catch (error) {
      if (!(error instanceof Refused && error.isLeaseGone)) throw error;
    }
  }

  /** Does `success` if all comparisons hold, else `failure`; all at one revision. */
  async transact(
    compare: readonly Comparison[],
    success: readonly Operation[],
    failure: readonly Operation[] = [],
  ): Promise<Outcome> {
    const answer = await this.ask("kv/txn", {
      compare: compare.map(({ key, target, revision }) => ({
        ...{ key: base64(key), target, result: "EQUAL" },
        ...(target === "CREATE" ? { create_revision: revision } : { mod_revision: revision }),
      })),
      success: success.map(operation),
      failure: failure.map(operation),
    });
    const responses = (answer.responses ?? []) as Record<string, { kvs?: Record<string, string>[] }>[];
    const { revision } = answer.header as { revision: string };
    return {
      ...{ succeeded: answer.succeeded === true, revision },
      found: responses.map((response) => kept(response.response_range?.kvs?.[0])),
    };
  }

  async close(): Promise<void> {
    await Promise.all(this.members.map((member) => member.close()));
  }

  private async ask(method: string, body: object): Promise<Record<string, unknown>> {
    const failures: string[] = [];
    for (let tried = 0; tried < this.members.length; tried++) {
      const member = this.members[this.current];
      try {
        const { status, document } = await this.authorized(member, method, body);
        if (status === 200) return document;
        const { code } = document;
        if (!PASSING.includes(code as number)) throw refusal(member.url, status, document);
        failures.push(`${member.url}: ${String(document.message ?? document.error)}`);
      } catch (error) {
        if (error instanceof Refused) throw error;
        failures.push(`${member.url}: ${(error as Error).message}`);
      }
      this.current = (this.current + 1) % this.members.length;
    }
    throw new Unreached(`etcd does not answer (${failures.join("; ")})`);
  }

  /** Sends a request with what the user was let in with, which holds for a while. */
  private async authorized(member: NodeHttp, method: string, body: object): Promise<Answer> {
    if (this.user === null) return send(member, method, body);
    this.token ??= await this.logIn(member);
    const answer = await send(member, method, body);
    if (answer.status === 200 || !isTokenOver(answer)) return answer;
    this.token = null;
    this.token = await this.logIn(member);
    return send(member, method, body);
  }

  private async logIn(member: NodeHttp): Promise<string | null> {
    const { status, document } = await send(member, "auth/authenticate", this.user as object);
    if (status === 200) return String(document.token);
    // etcd lets everybody in, and says so only when it is asked.
    if (document.code === NOT_ENABLED) return null;
    if (PASSING.includes(document.code as number)) throw new Error(String(document.message));
    throw new Refused(
      `etcd at ${member.url} does not let the user of -registry in: ${document.message}`,
      false,
    );
  }
}

/** A token that has ended, or that an etcd has forgotten which was started anew. */
function isTokenOver({ document }: Answer): boolean {
  const { code, message } = document;
  return (
    code === UNAUTHENTICATED || (code === INVALID && /auth token|user name is empty/.test(String(message)))
  );
}

async function send(member: NodeHttp, method: string, body: object): Promise<Answer> {
  const bytes = Buffer.from(JSON.stringify(body));
  const answer = await member.request("POST", `/v3/${method}`, bytes, ASK_MS);
  const text = answer.body.toString();
  try {
    return { status: answer.status, document: JSON.parse(text) as Record<string, unknown> };
  } catch {
    if (answer.status === 404)
      throw new Refused(
        `${member.url} has no /v3/${method}: it is no etcd, one older than 3.4, or one without its JSON gateway (--enable-grpc-gateway)`,
        false,
      );
    throw new Error(`status ${answer.status}, and what it says is no JSON`);
  }
}

function refusal(url: string, status: number, { code, message, error }: Record<string, unknown>): Refused {
  const reason = String(message ?? error ?? `status ${status}`);
  const hint = /user name is empty/.test(reason) ? "; it wants a user: -registry etcd://user:password@…" : "";
  return new Refused(`etcd at ${url} refuses: ${reason}${hint}`, code === UNKNOWN_LEASE);
}

function operation(asked: Operation): object {
  if ("range" in asked)
    return { request_range: { key: base64(asked.range), keys_only: asked.keysOnly === true } };
  const { put, value, lease } = asked;
  return {
    request_put: {
      key: base64(put),
      value: value.toString("base64"),
      ...(lease === undefined ? {} : { lease }),
    },
  };
}

function kept(pair: Record<string, string> | undefined): Kept | null {
  if (pair === undefined) return null;
  const { value = "", create_revision: createRevision, mod_revision: modRevision } = pair;
  return { value: Buffer.from(value, "base64"), createRevision, modRevision };
}

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}
