/** A full disk, in memory. */
import { after, test } from "node:test";
import { closeConnections } from "./client.ts";
import { fullByItself, fullByOthers, fullByUploads, fullOfFiles } from "./full-disk.ts";

after(closeConnections);

test("full disk: 507, reads and deletes go on, compaction makes room, writes resume without a restart", (t) =>
  fullByItself(t, "tmpfs"));

test("full disk: others fill it to the last block, and thousands of deletes succeed; writes resume when they give room back", (t) =>
  fullByOthers(t, "tmpfs"));

test("full disk: by large values in close succession; deletes succeed at once, writes resume", (t) =>
  fullByUploads(t, "tmpfs"));

test("full disk: no inodes; reads, deletes and starts go on, writes resume when there are some", (t) =>
  fullOfFiles(t, "tmpfs"));
