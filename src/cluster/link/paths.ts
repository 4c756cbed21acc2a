/** The paths between nodes. */

/** Everything between nodes is below this. */
export const PEER_PREFIX = "/_peer/";
export const PEER_BATCH_PATH = "/_peer/batch";
export const PEER_PING_PATH = "/_peer/ping";
export const PEER_HELLO_PATH = "/_peer/hello";
export const PEER_LAYOUT_PATH = "/_peer/layout";
export const PEER_VALUE_PATH = "/_peer/value";

/** Parameter with the name of a batch of what must not be done twice (server/peers/named-batches.ts). */
export const NAME_PARAMETER = "name";
