/**
 * Errors of the operating system, for a person: Node.js' own text is "EACCES: permission denied, mkdir '/x'".
 */

const REASONS: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EPERM: "the system does not permit it",
  EROFS: "the file system is read-only",
  ENOENT: "it is not there",
  EEXIST: "it is there already",
  ENOTDIR: "a part of the path is no directory",
  EISDIR: "it is a directory",
  // What Node.js' own rm says.
  ERR_FS_EISDIR: "it is a directory",
  ELOOP: "too many symbolic links",
  ENAMETOOLONG: "the name is too long",
  ENOSPC: "the disk has no room, or no inode, left",
  EDQUOT: "the user's quota of the disk is used up",
  EFBIG: "a file may not become so large here (ulimit -f, or the file system)",
  EMFILE: "too many files are open in this process (ulimit -n)",
  ENFILE: "too many files are open on this machine",
  ENOMEM: "there is not enough memory (ulimit -v, or the machine)",
  EIO: "the disk reports an error",
  ESTALE: "the network file system has lost it",
  EBUSY: "it is in use",
  ENXIO: "no program reads this pipe, or there is no such device",
  ...Object.fromEntries(
    [
      ...[
        "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
        "UNABLE_TO_GET_ISSUER_CERT",
        "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
      ],
      ...["SELF_SIGNED_CERT_IN_CHAIN", "DEPTH_ZERO_SELF_SIGNED_CERT"],
    ].map((code) => [code, "its certificate is of an authority that is not trusted here: -tls-ca names one"]),
  ),
  CERT_HAS_EXPIRED: "its certificate has expired",
  CERT_NOT_YET_VALID: "its certificate is not valid yet",
  ERR_TLS_CERT_ALTNAME_INVALID: "its certificate is for another name",
};

const ACTIONS: Readonly<Record<string, string>> = {
  open: "open",
  copyfile: "copy",
  mkdir: "make the directory",
  scandir: "read the directory",
  stat: "look at",
  lstat: "look at",
  rename: "rename",
  link: "make the link",
  unlink: "remove",
  rm: "remove",
  chmod: "change the mode of",
  ftruncate: "give a file its size",
  write: "write to a file",
  read: "read a file",
  fsync: "sync a file",
  fdatasync: "sync a file",
};

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException | null | undefined)?.code ?? "";
}

/**
 * Whether an error says that no descriptor is free, in this process or on the machine: nothing was done, and
 * it passes by itself.
 */
export function isOutOfDescriptors(error: unknown): boolean {
  const codes = [codeOf(error), codeOf((error as Error | null)?.cause)];
  return codes.includes("EMFILE") || codes.includes("ENFILE");
}

/**
 * Throws such an error again, for who would take it for damage: who has no descriptor has learned nothing of
 * what is on the disk.
 */
export function demandDescriptors(error: unknown): void {
  if (isOutOfDescriptors(error)) throw error;
}

/**
 * Whether an error says that nothing may be written: a file system mounted read-only, or a lack of rights.
 */
export function isReadOnly(error: unknown): boolean {
  return codeOf(error) === "EROFS" || codeOf(error) === "EACCES" || codeOf(error) === "EPERM";
}

/** Whether memory could not even be set aside, of which nothing is used yet. */
function isOutOfAddresses(error: Error): boolean {
  return error instanceof RangeError && /allocation failed|out of memory/i.test(error.message);
}

/** Codes of failures before anything of a request was sent. */
const NOT_CONNECTED: ReadonlySet<string> = new Set([
  ...["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH"],
]);

/** Whether an error says that there was no connection, so that nothing of a request was sent. */
export function isNotConnected(error: unknown): boolean {
  return NOT_CONNECTED.has(codeOf(error));
}

/** What Node.js says where the system refuses a thread what it needs. */
const THREAD_REFUSED = /^Worker initialization failure: (E[A-Z]+)$/;

/** Where an error came from, for the log. */
export function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

/** Why a call failed, without the path, in a few words: safe to be told to a client. */
export function reasonOf(error: unknown): string {
  const code = codeOf(error);
  const known = REASONS[code];
  if (known !== undefined) return `${known} (${code})`;
  return code === "" ? String((error as Error | null)?.message ?? error) : code;
}

/** The error as a sentence, with the path; the message itself where it is no error of the system. */
export function sentenceOf(error: Error): string {
  const { syscall, path, dest } = error as NodeJS.ErrnoException & { dest?: string };
  if (syscall === "uv_cwd")
    return "the working directory is gone: change to one that is there, and try again";
  if (isOutOfAddresses(error))
    return `the system gives this process too few addresses (ulimit -v): about 60 GB of them are set aside, and 20 GB more for each further shard, of which only what is used takes memory; lift that limit, and limit the memory itself, as containers and MemoryMax do (${error.message})`;
  const refusedThread = THREAD_REFUSED.exec(error.message)?.[1];
  if (refusedThread !== undefined) return `cannot start a thread: ${reasonOf({ code: refusedThread })}`;
  if (syscall === undefined || REASONS[codeOf(error)] === undefined) return error.message;
  const what = path === undefined ? "" : ` ${path}${dest === undefined ? "" : ` as ${dest}`}`;
  return `cannot ${ACTIONS[syscall] ?? syscall}${what}: ${reasonOf(error)}`;
}
