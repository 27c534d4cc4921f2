/** Those who wait for the store: until the watch has reported something, or the connection to it has changed. */
export class Told {
  readonly #after: (delayMs: number, work: () => void) => () => void;
  readonly #waiting = new Set<() => void>();

  constructor(after: (delayMs: number, work: () => void) => () => void) {
    this.#after = after;
  }

  tell(): void {
    for (const done of [...this.#waiting]) done();
  }

  /** @returns false if nothing was told in time */
  within(delayMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const end = (isTold: boolean): void => {
        this.#waiting.delete(told);
        cancel();
        resolve(isTold);
      };
      const told = (): void => end(true);
      const cancel = this.#after(delayMs, () => end(false));
      this.#waiting.add(told);
    });
  }
}
