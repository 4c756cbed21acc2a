/** Why a question is refused. */
import { VaultError } from "../../util/errors.ts";
import type { FeedRefusal } from "./messages.ts";

export const STOPPING: FeedRefusal = { kind: "refused", code: "stopping", detail: "" };
export const PLACE_TOO_OLD: FeedRefusal = { kind: "refused", code: "place_too_old", detail: "" };

/** Damage hides what has changed. */
export function blind(): VaultError {
  return new VaultError(
    "corrupt",
    "records are damaged whose keys nobody knows, so changes may be missing; run minivault verify",
  );
}

export function refusalOf(error: Error, warn: (message: string) => void): FeedRefusal {
  if (error instanceof VaultError) return { kind: "refused", code: error.code, detail: error.message };
  warn(`the feed of changes: ${error.stack ?? error.message}`);
  return { kind: "refused", code: "internal", detail: "" };
}
