/** What writes while backups are made. */
import assert from "node:assert/strict";
import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { call } from "./client.ts";

/** Writers whose keys and values rise, until they are stopped. */
export class Load {
  /** Of each lane, the highest number that was answered, and the highest that was sent. */
  readonly answered: number[];
  readonly sent: number[];
  private readonly ports: readonly number[];
  private stopped = false;
  private readonly lanes: Promise<void>[];
  private readonly agent = new http.Agent({ keepAlive: true, maxSockets: 128 });

  /** @param ports of the nodes that answer them, in turn */
  constructor(ports: readonly number[], connections: number) {
    this.ports = ports;
    this.answered = new Array(connections).fill(0);
    this.sent = new Array(connections).fill(0);
    this.lanes = Array.from({ length: connections }, (_, lane) => this.write(lane));
  }

  /** Each number goes to one key and then to another, so a copy of one moment has it under the first at least. */
  private async write(lane: number): Promise<void> {
    while (!this.stopped) {
      const number = ++this.sent[lane];
      for (const name of ["first", "second"]) {
        const { status, text } = await call(this.ports[lane % this.ports.length], "PUT", `/${name}/${lane}`, {
          body: `${number}`.padEnd(lane * 16 + 10, " "),
          agent: this.agent,
        });
        assert.ok(status === 200 || status === 201, text);
      }
      this.answered[lane] = number;
    }
  }

  async until(least: number): Promise<void> {
    while (this.answered.some((number) => number < least)) await sleep(5);
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await Promise.all(this.lanes);
    this.agent.destroy();
  }
}
