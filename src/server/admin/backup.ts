/**
 * `POST /_admin/backup?directory=…`: a copy of the node's data at one moment, in a folder on the node. Lines
 * tell how far it is. It goes on when its client has gone: the folder's file BACKUP says that it is whole.
 */
import { parametersOf } from "../../rules/query.ts";
import type { RunBackup } from "../../shards/backup/backups.ts";
import { ERRORS, type ErrorCode, VaultError } from "../../util/errors.ts";
import { NO_BODY } from "../http/body-length.ts";
import type { FrontContext } from "../http/context.ts";
import type { Handler } from "../http/http.ts";
import { lengthToTake, refuse } from "../http/linger.ts";
import { LineAnswer } from "../lines/line-answer.ts";
import { POST } from "../status/meter.ts";

/** Answers `POST /_admin/backup`. */
export function createBackup(context: FrontContext, run: RunBackup): Handler {
  const { meter } = context;
  return (res, req) => {
    const declared = lengthToTake(meter, POST, res, req);
    if (declared === null) return;
    const query = req.getQuery() ?? "";
    const ended = context.notes?.own() ?? null;
    const note = (status: number): void => ended?.(`/_admin/backup?${query}`, status);
    const refused = (code: ErrorCode, detail = ""): void => {
      const status = refuse(res, code, declared, { detail });
      meter.count(POST, status);
      note(status);
    };
    const directories = parametersOf(query).getAll("directory");
    if (directories.length !== 1 || directories[0] === "")
      return refused("bad_request", "directory=… names the folder for the backup, once");
    if (declared > 0 && declared !== NO_BODY)
      return refused("bad_request", "send no body: the query says all");
    if (context.stopping) return refused("stopping");
    let progress = { doneSlabs: 0, slabs: 0 };
    const answer = new LineAnswer(context, res, POST, () => progress);
    run(directories[0], (doneSlabs, slabs) => {
      progress = { doneSlabs, slabs };
      answer.tell();
    }).then(
      (summary) => {
        context.log.info(summary, "a backup was made");
        note(answer.succeed({ ...summary }));
      },
      (error: Error) => {
        const code = error instanceof VaultError ? error.code : "internal";
        // What whoever asked can mend is no fault of the node.
        context.log[ERRORS[code].status < 500 ? "info" : "error"](
          { directory: directories[0] },
          `a backup failed: ${error.message}`,
        );
        note(answer.fail({ code, detail: error.message }));
      },
    );
  };
}
