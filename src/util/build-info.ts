/** What this program was built from and for. */

export interface BuildInfo {
  version: string;
  /** Short commit hash, or "unknown". */
  commit: string;
  nodeMajor: number;
  platform: string;
  arch: string;
}

/** Put in by the build; absent when run from source. */
declare const BUILD_INFO: BuildInfo;

export const buildInfo: BuildInfo =
  typeof BUILD_INFO === "undefined"
    ? {
        version: "source",
        commit: "unknown",
        nodeMajor: Number.parseInt(process.versions.node, 10),
        platform: process.platform,
        arch: process.arch,
      }
    : BUILD_INFO;

/** Null when this Node can run the program; otherwise one line that says what can. */
export function platformProblem(): string | null {
  const { nodeMajor, platform, arch } = buildInfo;
  if (
    Number.parseInt(process.versions.node, 10) === nodeMajor &&
    process.platform === platform &&
    process.arch === arch
  )
    return null;
  return `minivault: this file was built for Node ${nodeMajor} on ${platform}-${arch}, but this is Node ${process.versions.node} on ${process.platform}-${process.arch}; use that Node, or build it here with npm run build`;
}
