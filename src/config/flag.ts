/** The shape of a flag's row in the table of flags.ts. */
export interface Flag {
  /** Without dashes. The table is in the order of the help, group by group. */
  readonly name: string;
  readonly group: "Listening" | "Storing" | "Cluster" | "Access";
  /** What the help shows for the value; empty: a switch, which needs none. */
  readonly value: string;
  readonly text: string;
  /** Throws an Error whose message completes "-name: …". */
  readonly parse: (text: string) => unknown;
  /** Value when neither flag nor variable is given; absent: undefined. */
  readonly preset?: unknown;
  /** How the help shows the default where that is not the preset itself. */
  readonly presetText?: string;
}

/** The environment variable that stands for a flag. */
export function variableOf(name: string): string {
  return `MINIVAULT_${name.toUpperCase().replaceAll("-", "_")}`;
}
