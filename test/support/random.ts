/**
 * Random numbers from a seed: the same on every machine, with a generator of its own for each part that must not
 * disturb another.
 */
export class Random {
  #state: number;

  /** Different `parts` give independent sequences for one seed. */
  constructor(seed: number, ...parts: number[]) {
    this.#state = seed >>> 0;
    for (const part of parts) this.#state = (Math.imul(this.u32() ^ part, 0x9e3779b1) + part) >>> 0;
  }

  /** 0 … 2³² − 1 (splitmix32). */
  u32(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0;
    let z = this.#state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  }

  /** 0 … below − 1. */
  int(below: number): number {
    return this.u32() % below;
  }

  chance(probability: number): boolean {
    return this.u32() < probability * 0x100000000;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.int(list.length)]!;
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.u32());
  }
}

/**
 * One of the choices, each in turn, so that a run of few sessions has all of them. `each` is how many sessions one stays.
 * Together with choices of another number, or that stay longer, all combinations have their turn.
 */
export function inTurn<T>(choices: readonly T[], turn: number, each = 1): T {
  return choices[Math.floor(turn / each) % choices.length]!;
}
