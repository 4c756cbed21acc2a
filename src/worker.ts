import { openVault } from "./shards/local-vault.ts";
import { createFront } from "./server/front.ts";
import { setAddonDirectory } from "./util/addon.ts";
export async function main(): Promise<void> {
  const dataDirectory = process.argv[2] ?? "./data";
  setAddonDirectory(`${dataDirectory}/.addons`);
  const vault = await openVault({ dataDirectory, sync: process.argv[4] === "os" ? "os" : "always", threads: 1, warn: (m) => console.error(m), fatal: (e) => { console.error(e); process.exit(1); } });
  const front = await createFront({ vault, host: "127.0.0.1", port: Number(process.argv[3] ?? 3000), auth: null, maxValueBytes: 2 ** 30, role: "worker", version: "dev", log: { error: console.error, warn: console.error, info: console.error } as never });
  console.error("listening", front.port);
}
