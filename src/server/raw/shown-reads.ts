/** GET and HEAD of keys whose value is shown in another form, on one node and on those of a cluster. */
import { consistencyOf, parametersOf, queryProblem } from "../../rules/query.ts";
import type { Shape } from "../../shards/vault/as-it-came.ts";
import type { FrontContext } from "../http/context.ts";
import type { Req, Res } from "../http/http.ts";
import { readHeaders } from "../http/read-headers.ts";
import { sendError } from "../http/reply.ts";
import { ClusterRead } from "../reads/cluster-reads.ts";
import { type AnswerRead, ColdRead } from "../reads/cold-reads.ts";
import { answerFound, answerHead, sendMissing } from "../reads/reads.ts";
import { GET, HEAD } from "../status/meter.ts";

const QUESTIONS = ["list", "watch", "changes", "wait"];

function questionIn(query: string): string | undefined {
  const parameters = parametersOf(query);
  return QUESTIONS.find((one) => parameters.has(one));
}

/** Whether a query asks for more than a value. */
export function isQuestion(query: string): boolean {
  return questionIn(query) !== undefined;
}

/** What is wrong with the query of such a read, or null. */
function problemOf(query: string): string | null {
  const name = questionIn(query);
  return name === undefined ? queryProblem(query) : `${name} is asked for at /_kv/<key>`;
}

/** Answers a read of the key in `context.key`. */
export function readShown(context: FrontContext, res: Res, req: Req, head: boolean, shape: Shape): void {
  const { cluster, key, meter, vault } = context;
  const verb = head ? HEAD : GET;
  const query = req.getQuery() ?? "";
  const problem = query === "" ? null : problemOf(query);
  if (problem !== null) {
    meter.count(verb, sendError(res, "bad_request", { detail: problem, head }));
    return;
  }
  if (cluster !== null) {
    const consistency = consistencyOf(query) ?? cluster.consistency;
    const isAsked = consistency === "quorum" || !cluster.mayAnswer(key);
    // Not found here is no proof that it is not there: then the others are asked.
    if (isAsked || vault.findResident(key).state !== "found") {
      const name = key.bytes.slice(0, key.length);
      new ClusterRead(context, cluster, res, name, readHeaders(req, head), head, shape).begin(consistency);
      return;
    }
  }
  const answer: AnswerRead = (to, found, headers) => {
    if (found.state !== "found") sendMissing(context, to, verb, found.state);
    else if (head) answerHead(context, to, shape(found), headers);
    else answerFound(context, to, shape(found), headers);
  };
  const found = vault.findResident(key);
  if (found.state === "cold" || found.state === "ended")
    ColdRead.begin(context, res, req, verb, found.state, answer);
  else answer(res, found, readHeaders(req, head));
}
