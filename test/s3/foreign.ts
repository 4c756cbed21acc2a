/** Programs of others that speak S3: whether they are here, and where they find a node. */
import { spawnSync } from "node:child_process";
import path from "node:path";
import { ACCESS_KEY, KEY } from "./harness.ts";

/**
 * What such a program finds in its environment.
 * @param folder where it keeps what it keeps
 */
export function environmentOf(folder: string): NodeJS.ProcessEnv {
  return {
    ...process.env,
    HOME: folder,
    XDG_CACHE_HOME: folder,
    AWS_ACCESS_KEY_ID: ACCESS_KEY,
    AWS_SECRET_ACCESS_KEY: KEY,
    AWS_DEFAULT_REGION: "us-east-1",
    AWS_EC2_METADATA_DISABLED: "true",
    AWS_CONFIG_FILE: path.join(folder, "none"),
    AWS_SHARED_CREDENTIALS_FILE: path.join(folder, "none"),
    // One that is set here is none of these programs' business, and keeps some from starting.
    AWS_CA_BUNDLE: undefined,
    RESTIC_PASSWORD: "of a test",
    PYTHONWARNINGS: "ignore",
  };
}

/** Why a test of a program is left out; false: it is here. */
export function missing(folder: string, program: string, ...words: string[]): string | false {
  const { status } = spawnSync(program, words, { env: environmentOf(folder) });
  return status === 0 ? false : `${program} is not here`;
}
