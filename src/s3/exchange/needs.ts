/** Permissions that the verbs of S3 need, as bits of a token. */
import { bitsOf } from "../../auth/tokens.ts";

export const READ = bitsOf(["read"]);
export const LIST = bitsOf(["list"]);
export const WRITE = bitsOf(["write"]);
export const REMOVE = bitsOf(["delete"]);
