/** Uploads in parts that are given up, the long form. */
import { after, test } from "node:test";
import { closeConnections } from "../rest/client.ts";
import { uploadStorm } from "../s3/upload-storm.ts";

after(closeConnections);

test("s3: 10,000 uploads that are given up at every stage leave nothing without an end", (t) =>
  uploadStorm(t, 10_000));
