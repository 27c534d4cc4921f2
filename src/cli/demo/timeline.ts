/** What happened when: events in the order of their times, counted from one of them. */
import { table } from '../print.ts';

interface Event {
  readonly atMs: number;
  readonly where: string;
  readonly what: string;
}

export class Timeline {
  readonly #events: Event[] = [];
  #zeroMs = 0;

  /** @param atMs milliseconds since the epoch; now if it is not given */
  note(where: string, what: string, atMs = Date.now()): void {
    this.#events.push({ atMs, where, what });
  }

  /** The event from which the others are counted. */
  zero(where: string, what: string): void {
    this.#zeroMs = Date.now();
    this.note(where, what, this.#zeroMs);
  }

  get zeroMs(): number {
    return this.#zeroMs;
  }

  text(): Promise<string> {
    const rows = this.#events
      .toSorted((a, b) => a.atMs - b.atMs)
      .map(({ atMs, where, what }) => [this.#timeText(atMs), where, what]);
    return table(['TIME', 'WHERE', 'WHAT'], rows, 'nothing happened');
  }

  #timeText(atMs: number): string {
    const seconds = (atMs - this.#zeroMs) / 1000;
    return `${seconds > 0 ? '+' : ''}${seconds.toFixed(2)} s`;
  }
}
