/**
 * Runs a suite that was written for vitest by node:test: `it`, `beforeEach`, `afterEach`, and as much of `expect` as it uses. The runner
 * itself stays out of the packages (package.json has stand-ins for what the suite would bring).
 */
import assert from "node:assert/strict";
import { afterEach, beforeEach, type TestContext, test } from "node:test";

interface Expectation {
  toBe(expected: unknown): void;
  toEqual(expected: unknown): void;
  toBeTruthy(): void;
  toBeFalsy(): void;
  toBeUndefined(): void;
  toBeDefined(): void;
  toBeNull(): void;
}

interface Expect {
  (actual: unknown): Expectation;
  assertions(count: number): void;
}

type Body = (context: { expect: Expect }) => unknown;

export interface ForeignRunner {
  it(name: string, body: Body): void;
  beforeEach(hook: () => unknown): void;
  afterEach(hook: () => unknown): void;
}

/** To be called inside of `describe`, whose tests these become. */
export function foreignRunner(prefix: string): ForeignRunner {
  return {
    it: (name, body) => void test(`${prefix}: ${name}`, (t) => run(t, body)),
    beforeEach: (hook) => beforeEach(async () => void (await hook())),
    afterEach: (hook) => afterEach(async () => void (await hook())),
  };
}

async function run(t: TestContext, body: Body): Promise<void> {
  let made = 0;
  let planned: number | null = null;
  const expect = Object.assign(
    (actual: unknown): Expectation => {
      made++;
      return {
        toBe: (expected) =>
          assert.ok(Object.is(actual, expected), `${String(actual)} is not ${String(expected)}`),
        toEqual: (expected) => assert.deepEqual(actual, expected),
        toBeTruthy: () => assert.ok(actual),
        toBeFalsy: () => assert.ok(!actual),
        toBeUndefined: () => assert.equal(actual, undefined),
        toBeDefined: () => assert.notEqual(actual, undefined),
        toBeNull: () => assert.equal(actual, null),
      };
    },
    {
      assertions: (count: number) => {
        planned = count;
      },
    },
  );
  await body({ expect });
  if (planned !== null) assert.equal(made, planned, "assertions that were made");
  t.diagnostic(`${made} assertions`);
}
