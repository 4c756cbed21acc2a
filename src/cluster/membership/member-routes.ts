/**
 * What a worker answers on /_peer/layout: what it says of itself, and how it takes a newer layout or a
 * master's invitation. Who may invite: with a key, whoever has it; without one, anybody, where -allow-invite
 * says so.
 *
 * A worker that was started without -master and -volumes is alone. A master that lists it in its -volumes may
 * invite it: it then registers there and belongs to that cluster for good (the CLUSTER file). It comes only
 * with an empty store, or when the master says that no other worker holds keys: then they become the
 * cluster's first. Another master that invites it, too, and is of no other cluster, becomes one more of its
 * masters, in order of their URLs, so that all workers agree which comes first; unless -master names them.
 */
import { VaultError } from "../../util/errors.ts";
import { isNodeUrl } from "../layout/check.ts";
import { isForeign } from "../layout/layout.ts";
import type { Membership } from "./membership.ts";
import type { Invitation, MemberDocument } from "./messages.ts";

export interface MemberRoutesOptions {
  /** null while the worker is alone. */
  membership: () => Membership | null;
  /** What a worker that is alone says of itself. */
  alone: () => MemberDocument;
  /** -public-url, when it was given. */
  publicUrl: string | null;
  /** Whether anybody at all may invite it. */
  invitable: boolean;
  isEmpty: () => boolean;
  /** Its masters are named by -master. */
  hasOwnMasters: boolean;
  /** Takes that master, too, and joins its cluster under that URL. Rejects with a sentence for a person. */
  join: (master: string, url: string) => Promise<void>;
}

export interface MemberRoutes {
  readLayout(): Uint8Array;
  takeLayout(document: Uint8Array, reply: (answer: Uint8Array) => void): void;
}

export function createMemberRoutes(options: MemberRoutesOptions): MemberRoutes {
  const document = () => options.membership()?.document() ?? options.alone();
  let joining = false;

  const join = (invitation: Invitation): void => {
    if (joining) return;
    joining = true;
    // The answer does not wait: what becomes of it shows in whether the worker registers.
    options.join(invitation.master, invitation.url).finally(() => {
      joining = false;
    });
  };

  return {
    readLayout: () => bytes(document()),
    takeLayout(body, reply) {
      const { invitation, layout } = parse(body);
      if (invitation !== undefined) {
        const refusal = refuse(invitation, options);
        if (refusal !== null) throw new VaultError("conflict", refusal);
        if (options.membership()?.masterUrls.includes(invitation.master) !== true) join(invitation);
      } else {
        try {
          options.membership()?.takeLayout(layout);
        } catch (error) {
          throw new VaultError("bad_request", (error as Error).message);
        }
      }
      reply(bytes(document()));
    },
  };
}

/** Why a worker does not follow an invitation, or null. */
export function refuse(invitation: Invitation, options: MemberRoutesOptions): string | null {
  const { membership, publicUrl, invitable, isEmpty, hasOwnMasters } = options;
  const known = membership();
  if (known === null && !invitable)
    return "this worker has no key, and follows no invitations of strangers: start it with -allow-invite, or with -master";
  const name = known?.url ?? publicUrl;
  if (name !== null && name !== invitation.url)
    return `this worker is ${name} (-public-url), not ${invitation.url}: use that in -volumes`;
  if (known !== null) {
    if (known.masterUrls.length === 0)
      return "this worker has a list of workers (-volumes) and needs no master";
    if (known.masterUrls.includes(invitation.master)) return null;
    if (isForeign(known.layout?.cluster, invitation.cluster)) return "this worker belongs to another cluster";
    // One that it does not know yet is not a stranger's: two masters may invite at the same time.
    return invitable && !hasOwnMasters
      ? null
      : `this worker has another master: ${known.masterUrls.join(", ")}`;
  }
  if (!isEmpty() && !invitation.withKeys)
    return "this worker holds keys of its own: start it with -master to make it part of a cluster";
  return null;
}

function parse(body: Uint8Array): { invitation?: Invitation; layout?: unknown } {
  let document: { invitation?: Invitation; layout?: unknown };
  try {
    document = JSON.parse(Buffer.from(body).toString());
  } catch {
    throw new VaultError("bad_request", "the body is not JSON");
  }
  const invitation = document?.invitation;
  if (invitation !== undefined && ![invitation?.master, invitation?.url].every(isNodeUrl))
    throw new VaultError("bad_request", "an invitation has the URLs of a master and of this worker");
  if (invitation !== undefined || document?.layout !== undefined) return document;
  throw new VaultError("bad_request", "the body has neither a layout nor an invitation");
}

function bytes(document: MemberDocument): Uint8Array {
  return Buffer.from(`${JSON.stringify(document)}\n`);
}
