/**
 * Simulated time: a queue of events, run in order of time and, at one time, in order of entry.
 */
export interface SimEvent {
  time: number;
  order: number;
  run: (() => void) | null;
}

export class EventQueue {
  /** Milliseconds since the start of the history. */
  now = 0;
  private readonly heap: SimEvent[] = [];
  private entered = 0;

  at(time: number, run: () => void): SimEvent {
    const event = { time, order: this.entered++, run };
    const { heap } = this;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(event, heap[parent])) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = event;
    return event;
  }

  after(ms: number, run: () => void): SimEvent {
    return this.at(this.now + ms, run);
  }

  cancel(event: SimEvent): void {
    event.run = null;
  }

  /** Runs the next event. False: there is none. */
  step(): boolean {
    for (;;) {
      const event = this.pop();
      if (event === null) return false;
      if (event.run === null) continue;
      this.now = event.time;
      event.run();
      return true;
    }
  }

  private pop(): SimEvent | null {
    const { heap } = this;
    if (heap.length === 0) return null;
    const top = heap[0];
    const last = heap.pop() as SimEvent;
    if (heap.length > 0) {
      let at = 0;
      for (;;) {
        let child = 2 * at + 1;
        if (child >= heap.length) break;
        if (child + 1 < heap.length && isBefore(heap[child + 1], heap[child])) child++;
        if (!isBefore(heap[child], last)) break;
        heap[at] = heap[child];
        at = child;
      }
      heap[at] = last;
    }
    return top;
  }
}

function isBefore(a: SimEvent, b: SimEvent): boolean {
  return a.time < b.time || (a.time === b.time && a.order < b.order);
}
