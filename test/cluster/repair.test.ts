/** Repair with real workers, the short form: see repair-scenario.ts. */
import { describe } from "node:test";
import { repairTests } from "./repair-scenario.ts";

describe("cluster: repair", () => repairTests({ missed: 300, lost: false }));
