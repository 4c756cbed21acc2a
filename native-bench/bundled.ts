/**
 * Entry of the benchmarks in process, built into one file as the program is: from source, each imported constant is a call of a getter, which
 * makes hot loops two to three times as slow as they are in the product.
 */
import handle from "../src/shards/catalog/tasks.ts";
import { isShardThread } from "../src/shards/thread/spawn.ts";

// For Piscina's worker code, as in src/main.ts.
export default handle;

if (isShardThread()) require("piscina/dist/worker.js");
else require("./native.ts");
