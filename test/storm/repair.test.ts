/** Repair with real workers, the long form: see test/cluster/repair-scenario.ts. */
import { describe } from "node:test";
import { repairTests } from "../cluster/repair-scenario.ts";

describe("cluster: repair, long", () => repairTests({ missed: 2000, lost: true }));
