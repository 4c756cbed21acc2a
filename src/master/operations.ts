/** What a master answers, beside the words of server/describe. */

import type { Operation } from "../server/describe/operation.ts";
import { Shape } from "../server/describe/schema.ts";
import {
  arrayOf,
  COUNT,
  FLAG,
  JSON_TYPE,
  NUMBER,
  object,
  oneOf,
  openObject,
  orNull,
  TEXT,
} from "../server/describe/shapes.ts";
import { CONSOLE_OPERATIONS } from "../server/operations/console.ts";
import { METRICS_OPERATION, rootOperation } from "../server/operations/status.ts";
import { OPENAPI_OPERATION } from "../server/operations/worker.ts";
import { schemaOf } from "../server/status/figure.ts";
import { MASTER_FIGURES } from "./figures.ts";

const READS = ["GET", "HEAD"] as const;
const NO_STORE = ["Cache-Control"] as const;
const STORE = {
  type: "string",
  pattern: "^([0-9a-f]{32})?$",
  description: "Identity of its data; empty: none.",
};
const LOAD = { description: "What it says of itself, such as keys and bytes." };

const ROOT = new Shape(
  "MasterRoot",
  object({
    ...{ name: oneOf("minivault"), version: TEXT, role: oneOf("master") },
    ...{ nodes: TEXT, layout: TEXT, health: TEXT, openapi: TEXT },
  }),
);
const HEALTH = new Shape("MasterHealth", schemaOf(MASTER_FIGURES, "health"));
const NODE = new Shape(
  "Node",
  object(
    {
      ...{ url: TEXT, region: TEXT, host: TEXT, state: oneOf("up", "suspect", "down") },
      ...{ silentMs: orNull(NUMBER), static: FLAG },
      member: { enum: ["active", "joining", "leaving", "waiting", null] },
      ...{ copies: COUNT, epoch: COUNT, voting: FLAG, store: STORE, load: LOAD },
      ...{ wantedRegion: TEXT, refused: TEXT },
    },
    ["wantedRegion", "refused"],
  ),
);
const LAYOUT = new Shape("Layout", {
  ...openObject({
    epoch: COUNT,
    partitions: COUNT,
    replicas: COUNT,
    nodes: arrayOf(openObject({ url: TEXT })),
  }),
  description:
    "Which nodes there are, and so which replicas each key has. While data moves, `previous` is where from.",
});
const LAYOUT_ANSWER = new Shape(
  "LayoutAnswer",
  object({
    ...{ success: oneOf(true), epoch: COUNT, layout: orNull(LAYOUT) },
    ...{ move: orNull(openObject({ epoch: COUNT, done: COUNT, total: COUNT })) },
    waiting: { type: "array", description: "Changes that wait." },
    hindrance: { ...orNull(TEXT), description: "Why none of them begins, where none does." },
    absence: { description: "What is waited for before a lost worker is replaced." },
  }),
);
const REPORT = new Shape("Report", {
  ...openObject({ url: TEXT }),
  properties: {
    ...{ url: TEXT, region: TEXT, host: TEXT, store: STORE, epoch: COUNT, empty: FLAG, voting: FLAG },
    ...{ rank: COUNT, load: LOAD },
  },
  description: "What a worker says of itself.",
});
const REPORT_ANSWER = new Shape(
  "ReportAnswer",
  openObject({ success: oneOf(true), epoch: COUNT, suspect: arrayOf(TEXT), down: arrayOf(TEXT) }),
);
const COMMAND = new Shape("LayoutCommand", {
  oneOf: [
    openObject({ drain: TEXT }),
    openObject({ remove: TEXT }),
    openObject({ replace: TEXT, with: TEXT }),
    openObject({ abandon: COUNT }),
    openObject({ recover: COUNT, without: arrayOf(TEXT) }),
    openObject({ upgrade: COUNT }),
  ],
});

/** A request with a body, which is a report or a command. */
const BODY_ERRORS = ["bad_request", "foreign_origin", "too_large", "unavailable", "not_leading"] as const;

const report = (id: "register" | "heartbeat", summary: string): Operation => ({
  ...{ id, group: "Cluster", methods: ["POST"], paths: [`/${id}`], needs: ["admin"] },
  summary,
  text: "Workers send it by themselves, signed where there is a key.",
  body: { text: "The worker.", required: true, content: { [JSON_TYPE]: REPORT } },
  answers: {
    200: { text: "What the master knows.", headers: NO_STORE, content: { [JSON_TYPE]: REPORT_ANSWER } },
  },
  errors: [...BODY_ERRORS, "overloaded"],
});

const ofCluster = (id: string, paths: readonly string[]) =>
  ({ id, group: "Cluster", paths, needs: ["admin"] }) as const;

/** @param offers what is there on this master */
export function masterOperations(offers: { metrics: boolean; console: boolean }): Operation[] {
  return [
    rootOperation(ROOT, offers.console),
    {
      ...{ id: "health", group: "Node", methods: READS, paths: ["/health"], needs: ["none"] },
      summary: "Whether the master serves",
      answers: {
        200: { text: "It does, perhaps `degraded`.", headers: NO_STORE, content: { [JSON_TYPE]: HEALTH } },
      },
      errors: [],
    },
    {
      ...ofCluster("nodes", ["/nodes"]),
      methods: READS,
      summary: "The workers, and what is heard of them",
      answers: {
        200: {
          text: "The workers.",
          headers: NO_STORE,
          content: {
            [JSON_TYPE]: object({
              ...{ success: oneOf(true), epoch: COUNT, replicas: orNull(COUNT), partitions: orNull(COUNT) },
              nodes: arrayOf(NODE),
            }),
          },
        },
      },
      errors: ["unavailable", "not_leading"],
    },
    {
      ...ofCluster("layout", ["/layout"]),
      methods: READS,
      summary: "The layout, and the move under way",
      answers: { 200: { text: "The layout.", headers: NO_STORE, content: { [JSON_TYPE]: LAYOUT_ANSWER } } },
      errors: ["unavailable", "not_leading"],
    },
    {
      ...ofCluster("changeLayout", ["/layout"]),
      methods: ["POST"],
      summary: "Change the layout",
      text: "One step: `drain`, `remove`, `replace` a worker; `abandon`, `recover` or `upgrade` the layout of an epoch. `minivault drain` and its like send these.",
      body: { text: "The step.", required: true, content: { [JSON_TYPE]: COMMAND } },
      answers: {
        200: { text: "The layout then.", headers: NO_STORE, content: { [JSON_TYPE]: LAYOUT_ANSWER } },
      },
      errors: [...BODY_ERRORS, "conflict"],
    },
    report("register", "A worker is there"),
    report("heartbeat", "A worker is still there"),
    ...(offers.metrics ? [METRICS_OPERATION] : []),
    ...(offers.console ? CONSOLE_OPERATIONS : []),
    OPENAPI_OPERATION,
  ];
}
