/**
 * Runs a share of the histories in a process of its own: FIRST COUNT on the command line, the summary to the parent process.
 */
import { runHistories } from "./history.ts";

const [first, count] = process.argv.slice(2).map(Number);
const send = process.send?.bind(process);
if (send === undefined) throw new Error("chunk.ts runs as a child process");
send(runHistories(first, count));
