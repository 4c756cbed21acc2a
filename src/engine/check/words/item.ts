/** One thing in a file. `problem` is there where something is wrong. */
export interface Item {
  what: string;
  problem?: string;
  [member: string]: unknown;
}
