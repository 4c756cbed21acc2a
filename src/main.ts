/**
 * The program's entry: decides what this thread is, and starts it.
 */
import handle from "./shards/handler.ts";
import { isShardThread } from "./shards/spawn.ts";
import { platformProblem } from "./util/build-info.ts";

// Piscina's worker code, when it runs inside the bundle, asks this module for its task handler.
export default handle;

if (isShardThread()) {
  require("piscina/dist/worker.js");
} else {
  const problem = platformProblem();
  if (problem !== null) {
    console.error(problem);
    process.exit(2);
  }
  const { main } = require("./worker.ts") as typeof import("./worker.ts");
  main();
}
