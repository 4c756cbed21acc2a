/** What this program was built from and for. */

export interface BuildInfo {
  version: string;
  /** Short commit hash, or "unknown". */
  commit: string;
  nodeMajor: number;
  platform: string;
  arch: string;
  /** Oldest glibc that the addons load with, such as "2.38"; null where there is no glibc. */
  glibcMin: string | null;
  /** Name and version of the package that uWebSockets.js is from. */
  uws: string;
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
        glibcMin: null,
        uws: "uWebSockets.js as installed",
      }
    : BUILD_INFO;

/** Null when this Node can run the program; otherwise one line that says what can. */
export function platformProblem(): string | null {
  const { nodeMajor, platform, arch, glibcMin } = buildInfo;
  const isSamePlatform = process.platform === platform && process.arch === arch;
  // Asked for only where it matters: it takes some milliseconds.
  const glibc = isSamePlatform && glibcMin !== null ? glibcVersion() : undefined;
  const hasLibrary = glibcMin === null || glibc === undefined || isAtLeast(glibc, glibcMin);
  if (isSamePlatform && hasLibrary && Number.parseInt(process.versions.node, 10) === nodeMajor) return null;
  const library = glibcMin === null ? "" : ` with glibc ${glibcMin} or newer`;
  const here = glibc === undefined ? "" : ` with ${glibc === null ? "another C library" : `glibc ${glibc}`}`;
  return `minivault: this file was built for Node ${nodeMajor} on ${platform}-${arch}${library}, but this is Node ${process.versions.node} on ${process.platform}-${process.arch}${here}; use such a system, or build it here with npm run build`;
}

/** Version of the C library that this process runs with; null when it is not glibc. */
function glibcVersion(): string | null {
  const report = process.report as NodeJS.ProcessReport & { excludeNetwork: boolean };
  // Without this it looks up the names of open connections' hosts.
  report.excludeNetwork = true;
  const { header } = report.getReport() as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime ?? null;
}

/** Whether a glibc version, such as "2.41", is `least` or later. */
function isAtLeast(version: string | null, least: string): boolean {
  if (version === null) return false;
  const [major, minor] = version.split(".").map(Number);
  const [leastMajor, leastMinor] = least.split(".").map(Number);
  return major !== leastMajor ? major > leastMajor : minor >= leastMinor;
}
