/** Requests whose answer is a text that fits in memory. */
import { request as httpRequest } from "node:http";
import { request as httpsRequest, type RequestOptions } from "node:https";

export interface TextAnswer {
  status: number;
  text: string;
}

/** One request over a connection of its own. Rejects after so long a silence, too. */
export function askText(
  url: string,
  silenceMs: number,
  options: RequestOptions = {},
  body?: string,
): Promise<TextAnswer> {
  return new Promise((resolve, reject) => {
    const about = { ...options, agent: false, timeout: silenceMs };
    const request = (url.startsWith("https:") ? httpsRequest : httpRequest)(url, about, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (piece: string) => {
        text += piece;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
      response.on("error", reject);
    });
    request.on("timeout", () => request.destroy(new Error(`no answer in ${silenceMs / 1000} s`)));
    request.on("error", reject);
    request.end(body);
  });
}
