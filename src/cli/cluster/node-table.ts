/** The workers of a cluster as a table for a person. */
import { sizeOf } from "../subcommand/transfer.ts";
import type { NodesAnswer } from "./master-client.ts";

export function tableOf({ nodes, epoch, replicas, partitions }: NodesAnswer): string {
  const rows = nodes.map((node) => [
    node.url,
    node.wantedRegion === undefined ? node.region : `${node.region} (wants ${node.wantedRegion})`,
    node.state,
    node.silentMs === null ? "never" : `${(node.silentMs / 1000).toFixed(1)} s ago`,
    node.member ?? "-",
    String(node.copies),
    node.load?.keys === undefined ? "-" : String(node.load.keys),
    node.load?.bytes === undefined ? "-" : sizeOf(node.load.bytes),
    node.epoch === 0 ? "-" : String(node.epoch),
    node.member === null ? "-" : node.voting ? "yes" : "no",
  ]);
  const heads = [
    "URL",
    "REGION",
    "STATE",
    "HEARTBEAT",
    "LAYOUT",
    "COPIES",
    "KEYS",
    "BYTES",
    "EPOCH",
    "VOTING",
  ];
  const widths = heads.map((head, column) => Math.max(head.length, ...rows.map((row) => row[column].length)));
  const line = (cells: string[]) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column]))
      .join("  ")
      .trimEnd();
  const refused = nodes
    .filter((node) => node.refused !== undefined)
    .map((node) => `${node.url}: ${node.refused}`);
  const parts = partitions == null ? "" : `, ${partitions.toLocaleString("en-US")} partitions`;
  const title =
    epoch === 0 ? "no layout yet" : `layout: epoch ${epoch}, ${replicas} copies of each key${parts}`;
  return `${[title, line(heads), ...rows.map(line), ...refused].join("\n")}\n`;
}
