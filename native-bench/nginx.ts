/** A peer for large reads and writes: nginx that sends files with sendfile and takes PUTs (WebDAV), one worker process, as it comes but for its access log. */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { freePort, type Running, start, temporaryFolder } from "./processes.ts";
import { exchange } from "./raw-http.ts";

export interface Nginx {
  readonly port: number;
  stop(): Promise<void>;
}

const START_MS_MAX = 10_000;

function configuration(folder: string, port: number): string {
  return `
daemon off;
worker_processes 1;
pid ${folder}/pid;
error_log stderr;
user root;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  default_type application/octet-stream;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  client_max_body_size 0;
  server { listen 127.0.0.1:${port}; root ${folder}/files; dav_methods PUT; }
}
`;
}

/** Starts nginx on a folder with these files: name and content. */
export async function startNginx(files: Readonly<Record<string, Uint8Array>>): Promise<Nginx> {
  const folder = temporaryFolder();
  mkdirSync(path.join(folder, "files"));
  for (const [name, bytes] of Object.entries(files)) writeFileSync(path.join(folder, "files", name), bytes);
  const port = await freePort();
  const file = path.join(folder, "nginx.conf");
  writeFileSync(file, configuration(folder, port));
  const program: Running = start("nginx", ["-c", file, "-p", folder]);
  const deadline = Date.now() + START_MS_MAX;
  for (;;) {
    try {
      await exchange(port, "GET", "/");
      return { port, stop: () => program.stop() };
    } catch (error) {
      if (Date.now() > deadline || program.child.exitCode !== null)
        throw new Error(`nginx did not start: ${(error as Error).message}\n${program.output()}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
