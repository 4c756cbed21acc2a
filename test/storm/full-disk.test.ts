/** A full disk, with a file system of its own on a loop device. */
import { after, test } from "node:test";
import { closeConnections } from "../rest/client.ts";
import { fullByItself, fullByOthers, fullByUploads, fullOfFiles } from "../rest/full-disk.ts";

after(closeConnections);

test("full disk: 507, reads and deletes go on, compaction makes room, writes resume without a restart", (t) =>
  fullByItself(t, "ext4"));

test("full disk: others fill it to the last block, and thousands of deletes succeed; writes resume when they give room back", (t) =>
  fullByOthers(t, "ext4"));

test("full disk: by large values in close succession; deletes succeed at once, writes resume", (t) =>
  fullByUploads(t, "ext4"));

test("full disk: no inodes; reads, deletes and starts go on, writes resume when there are some", (t) =>
  fullOfFiles(t, "ext4"));
