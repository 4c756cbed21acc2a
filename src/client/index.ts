/** What `minivault/client` gives. */
export { MinivaultClient } from "./client.ts";
export type { Lock } from "./lock.ts";
export type * from "./options/operations.ts";
export type * from "./options/options.ts";
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
