/** Two gigabytes that are not in memory, scanned beside hot reads. */
import { after, test } from "node:test";
import { closeConnections } from "../rest/client.ts";
import { hotBesideCold } from "../rest/cold.ts";

after(closeConnections);

test("cold data: a scan by 16 clients leaves the p99 of hot GETs at 3 times that without it, or less", (t) =>
  hotBesideCold(t, { keys: 1_500_000, valueBytes: 1300, rounds: 3, seconds: 4, slowdownMax: 3 }));
