/** What `minivault/client` gives. */
export type { BatchOptions } from "./batch.ts";
export { MinivaultClient } from "./client.ts";
export type { Lock } from "./lock.ts";
export type * from "./options.ts";
export {
  AccessError,
  ConflictError,
  ExistsError,
  LockedError,
  MinivaultError,
  NetworkError,
  NotFoundError,
  PlaceTooOldError,
  PreconditionFailedError,
  UnavailableError,
  UnknownOutcomeError,
} from "./transport/errors.ts";
