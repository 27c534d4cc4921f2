import type { ClashReport } from '../../model/report.ts';

/** How many are told at once: whoever wants to see more asks `weft doctor`. */
const MOST_AT_ONCE = 16;

/** Says in the log what does not go together, once for as long as it is so. */
export class ClashLog {
  readonly #clashes: () => readonly ClashReport[];
  readonly #warn: (message: string) => void;
  #told: ReadonlySet<string> = new Set();

  constructor(clashes: () => readonly ClashReport[], warn: (message: string) => void) {
    this.#clashes = clashes;
    this.#warn = warn;
  }

  /** Called when something has changed. */
  tell(): void {
    const now = new Set(this.#clashes().map(({ detail }) => detail));
    const news = [...now].filter((detail) => !this.#told.has(detail));
    this.#told = now;
    for (const detail of news.slice(0, MOST_AT_ONCE)) this.#warn(detail);
    if (news.length > MOST_AT_ONCE) this.#warn(`and ${news.length - MOST_AT_ONCE} more: see weft doctor`);
  }
}
