/** Uploads in parts that are given up, the long form. */
import { after, test } from "node:test";
import { closeConnections } from "../rest/client.ts";
import { uploadStorm } from "../s3/upload-storm.ts";

/** UPLOADS says how many. */
const UPLOADS = Number(process.env.UPLOADS ?? 10_000);

after(closeConnections);

test(`s3: ${UPLOADS} uploads that are given up at every stage are gone after a week`, (t) =>
  uploadStorm(t, UPLOADS));
