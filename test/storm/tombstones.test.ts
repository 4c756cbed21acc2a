/** A million tombstones below one prefix. KEYS says how many; the times are printed, since they are the machine's as well. */
import { test } from "node:test";
import { closeConnections } from "../rest/client.ts";
import { withServer } from "../rest/server.ts";
import { listTombstones } from "../rest/tombstones.ts";

const KEYS = Number(process.env.KEYS ?? 1_000_000);

test(`lists: ${KEYS} tombstones below a prefix hold no page up, and each comes further`, async () => {
  await withServer({ sync: "os" }, async (server) => {
    const { pages, p50, max } = await listTombstones(server, KEYS);
    console.log(`# ${pages} pages, p50 ${p50.toFixed(1)} ms, longest ${max.toFixed(1)} ms`);
  });
  closeConnections();
});
