/** What a node says of itself. */
import type { Operation } from "../describe/operation.ts";
import { Shape } from "../describe/schema.ts";
import { arrayOf, header, JSON_TYPE, object, oneOf, TEXT } from "../describe/shapes.ts";
import { schemaOf } from "../status/figure.ts";
import { NODE_FIGURES } from "../status/node-figures.ts";

const HEALTH = new Shape(
  "Health",
  schemaOf(NODE_FIGURES, "health", {
    status: oneOf("healthy", "degraded", "unhealthy", "joining", "stopping"),
    reason: { ...TEXT, description: "For a person; only where something is wrong." },
  }),
);
const STATS = new Shape("Stats", schemaOf(NODE_FIGURES, "stats"));
const ROOT = new Shape(
  "Root",
  object({
    ...{ name: oneOf("minivault"), version: TEXT, role: oneOf("worker"), keys: TEXT, list: TEXT },
    ...{ watch: TEXT, health: TEXT, stats: TEXT, openapi: TEXT, features: arrayOf(TEXT) },
  }),
);

const READS = ["GET", "HEAD"] as const;
const NO_STORE = ["Cache-Control"] as const;

/** `GET /`, of workers and masters. */
export function rootOperation(root: Shape, hasConsole: boolean): Operation {
  return {
    ...{ id: "root", group: "Node", methods: READS, paths: ["/"], needs: ["none"] },
    summary: "Who is there",
    parameters: [
      header("Accept", "With `text/html` in it the answer is the way to the console.", {
        type: "string",
        examples: ["text/html", "application/json"],
      }),
    ],
    answers: {
      200: { text: "Name, version, and where to go on.", headers: NO_STORE, content: { [JSON_TYPE]: root } },
      ...(hasConsole ? { 302: { text: "To the console.", headers: ["Location", "Cache-Control"] } } : {}),
    },
    errors: ["bad_request"],
  };
}

/** `GET /_metrics`, of workers and masters. */
export const METRICS_OPERATION: Operation = {
  ...{ id: "metrics", group: "Node", methods: READS, paths: ["/_metrics"], needs: ["metrics"] },
  summary: "Figures for Prometheus",
  text: "Not there with `-metrics off`; without a token with `-metrics open`.",
  answers: { 200: { text: "All figures.", headers: NO_STORE, content: { "text/plain": TEXT } } },
  errors: [],
};

export const workerRoot = (hasConsole: boolean): Operation => rootOperation(ROOT, hasConsole);

export const STATUS_OPERATIONS: readonly Operation[] = [
  {
    ...{ id: "health", group: "Node", methods: READS, paths: ["/health"], needs: ["none"] },
    summary: "Whether the node serves",
    answers: {
      200: { text: "It serves, perhaps `degraded`.", headers: NO_STORE, content: { [JSON_TYPE]: HEALTH } },
      503: { text: "It does not take every request.", headers: NO_STORE, content: { [JSON_TYPE]: HEALTH } },
    },
    errors: [],
  },
  {
    ...{ id: "live", group: "Node", methods: READS, paths: ["/health/live"], needs: ["none"] },
    summary: "Whether the process is alive, whatever it can serve",
    answers: {
      200: {
        text: "It is.",
        headers: NO_STORE,
        content: { [JSON_TYPE]: object({ status: oneOf("alive") }) },
      },
    },
    errors: [],
  },
  {
    ...{ id: "stats", group: "Node", methods: READS, paths: ["/_stats"], needs: ["metrics"] },
    summary: "Figures of the node",
    answers: { 200: { text: "All figures.", headers: NO_STORE, content: { [JSON_TYPE]: STATS } } },
    errors: [],
  },
];
