/**
 * A store for Keyv (npm), as small as can be: texts with ends of life over plain HTTP. `@keyv/test-suite` 2.1.2 passes over it; it is not
 * among the packages here, since it brings a second test runner and a database.
 */
export class KeyvStore {
  /** Set by Keyv; `opts` says to it that the store can be iterated, which it believes of some names only. */
  namespace: string | undefined;
  readonly opts: Record<string, unknown> = { dialect: "redis", url: "" };
  private readonly url: string;

  /** @param url of a node */
  constructor(url: string) {
    this.url = url;
  }

  private path(key: string): string {
    return `${this.url}/_kv/keyv/${encodeURIComponent(key)}`;
  }

  /** Throws where it is neither done nor of one of these statuses. */
  private async ask(
    method: string,
    path: string,
    body: string | null,
    ...expected: number[]
  ): Promise<Response> {
    const answer = await fetch(path, { method, ...(body === null ? {} : { body }) });
    if (!answer.ok && !expected.includes(answer.status)) throw new Error(`${method}: ${await answer.text()}`);
    return answer;
  }

  async get(key: string): Promise<string | undefined> {
    const answer = await this.ask("GET", this.path(key), null, 404);
    const text = await answer.text();
    return answer.ok ? text : undefined;
  }

  async set(key: string, value: string, ttl?: number): Promise<void> {
    const query = ttl === undefined ? "" : `?ttl=${Math.max(1, Math.ceil(ttl))}ms`;
    await (await this.ask("PUT", `${this.path(key)}${query}`, value)).text();
  }

  async delete(key: string): Promise<boolean> {
    const answer = await this.ask("DELETE", this.path(key), null);
    return ((await answer.json()) as { deleted: boolean }).deleted;
  }

  async clear(): Promise<void> {
    const prefix = encodeURIComponent(`keyv/${this.namespace === undefined ? "" : `${this.namespace}:`}`);
    await (await this.ask("POST", `${this.url}/_delete?prefix=${prefix}`, null)).text();
  }

  async has(key: string): Promise<boolean> {
    return (await this.ask("HEAD", this.path(key), null, 404)).ok;
  }

  async *iterator(namespace?: string): AsyncGenerator<[string, string]> {
    const prefix = `keyv/${namespace === undefined ? "" : `${namespace}:`}`;
    const path = `${this.url}/_kv/${prefix.split("/").map(encodeURIComponent).join("/")}`;
    for (let cursor = ""; ; ) {
      const answer = await this.ask("GET", `${path}?list&limit=100${cursor}`, null);
      const page = (await answer.json()) as { keys: { key: string }[]; cursor: string | null };
      for (const { key } of page.keys) {
        const name = key.slice("keyv/".length);
        const value = await this.get(name);
        if (value !== undefined) yield [name, value];
      }
      if (page.cursor === null) return;
      cursor = `&cursor=${encodeURIComponent(page.cursor)}`;
    }
  }
}
