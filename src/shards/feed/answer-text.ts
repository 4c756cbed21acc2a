/** Changes as the text of an answer: events of a stream, or objects of a page. */
import type { Change } from "./change.ts";
import type { FeedQuestion } from "./messages.ts";

export class AnswerText {
  count = 0;
  private readonly question: FeedQuestion;
  private readonly pieces: string[] = [];
  private characters = 0;

  constructor(question: FeedQuestion) {
    this.question = question;
  }

  /** Whether a key, as latin1 text of its bytes, is one of those that are asked for. */
  wants(key: string): boolean {
    const { prefixes, exact } = this.question;
    for (const prefix of prefixes) if (exact ? key === prefix : key.startsWith(prefix)) return true;
    return false;
  }

  get isFull(): boolean {
    const { bytesMax, countMax } = this.question;
    return this.count >= countMax || this.characters >= bytesMax;
  }

  add({ event, text }: Change): void {
    const piece =
      this.question.form === "events"
        ? `event: ${event}\ndata: ${text}\n\n`
        : `{"event":"${event}",${text.slice(1)}`;
    this.count++;
    this.characters += piece.length;
    this.pieces.push(piece);
  }

  /** All that was added, as UTF-8. */
  end(): Uint8Array {
    return new Uint8Array(Buffer.from(this.pieces.join(this.question.form === "events" ? "" : ",\n")));
  }
}

/** Questions with the same name have the same answer in one turn. */
export function textName({ prefixes, exact, values, form, bytesMax, countMax }: FeedQuestion): string {
  return JSON.stringify([prefixes, exact, values, form, bytesMax, countMax]);
}
