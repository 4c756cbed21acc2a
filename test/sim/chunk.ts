/**
 * Runs a share of the histories in a process of its own: FIRST COUNT and faults that each of them has on the command line, the summary to the parent process.
 */
import { type Fault, runHistories } from "./history.ts";

const [first, count, ...always] = process.argv.slice(2);
const send = process.send?.bind(process);
if (send === undefined) throw new Error("chunk.ts runs as a child process");
send(runHistories(Number(first), Number(count), always as Fault[]));
