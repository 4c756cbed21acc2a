/** The table of the figures of all keys in order, for lists. */
import type { CatalogStats } from "../../shards/catalog/thread.ts";
import type { Figure, Metric } from "./figure.ts";

/** What they are read from. */
export interface CatalogSource {
  vault: { catalog?: CatalogStats };
}

const metric = (
  kind: "gauge" | "counter",
  name: string,
  help: string,
  read: (catalog: CatalogStats) => number,
): Figure<CatalogSource> => ({
  metric: {
    ...{ name: `minivault_catalog_${name}`, kind, help },
    samples: ({ vault: { catalog } }) => (catalog === undefined ? [] : read(catalog)),
  } satisfies Metric<CatalogSource>,
});

export const CATALOG_FIGURES: readonly Figure<CatalogSource>[] = [
  { stats: "catalog", value: ({ vault }) => vault.catalog, schema: { type: "object" } },
  metric("gauge", "ready", "Whether lists are answered.", ({ state }) => Number(state === "ready")),
  metric("gauge", "progress", "Of a build of the order of keys, 0 to 1.", ({ progress }) => progress),
  metric(
    "gauge",
    "keys",
    "Keys in order, dead ones included.",
    ({ runKeys, tailKeys }) => runKeys + tailKeys,
  ),
  metric("gauge", "file_bytes", "Bytes of the files with keys in order.", ({ runBytes }) => runBytes),
  metric("counter", "builds_total", "How often the order of keys was built anew.", ({ builds }) => builds),
];
