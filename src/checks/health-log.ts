/** Says in the log which backends are left alone, and which are back: at most so many a second, however many there are. */
const LINES = { perSecond: 5, burst: 50 };

export interface HealthChange {
  readonly service: string;
  /** Its endpoint or its address. */
  readonly backend: string;
  readonly what: 'ejected' | 'check failed' | 'back';
  readonly why?: string | undefined;
}

export class HealthLog {
  readonly #write: (level: 'info' | 'warn', details: object, message: string) => void;
  readonly #clock: () => number;
  #tokens: number = LINES.burst;
  #atMs = 0;
  #left = 0;

  /** @param clock milliseconds, monotonic */
  constructor(write: (level: 'info' | 'warn', details: object, message: string) => void, clock: () => number) {
    this.#write = write;
    this.#clock = clock;
  }

  changed({ what, ...details }: HealthChange): void {
    const now = this.#clock();
    this.#tokens = Math.min(LINES.burst, this.#tokens + ((now - this.#atMs) / 1000) * LINES.perSecond);
    this.#atMs = now;
    if (this.#tokens < 1) return void this.#left++;
    this.#tokens--;
    const leftOut = this.#left;
    this.#left = 0;
    const level = what === 'back' ? 'info' : 'warn';
    this.#write(level, { ...details, ...(leftOut > 0 && { leftOut }) }, texts[what]);
  }
}

const texts = {
  ejected: 'backend ejected',
  'check failed': 'the check of a backend fails',
  back: 'backend is back',
} as const;
