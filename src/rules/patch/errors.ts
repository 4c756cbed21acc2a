/** Why a change in place cannot be: both messages are sentences for whoever sent it. */

/** The patch itself cannot be understood. */
export class PatchError extends Error {}

/** It does not fit what is there. */
export class PatchConflict extends Error {}
