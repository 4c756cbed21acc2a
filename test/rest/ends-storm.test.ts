import { test } from "node:test";
import { endsStorm } from "./ends-storm.ts";

test("ends: many values that end at about the same time, beside other clients (the short form)", (t) =>
  endsStorm(t, {
    values: 20_000,
    spreadSeconds: 2,
    clients: 8,
    slowdownMax: Infinity,
    backSecondsMax: Infinity,
  }));
