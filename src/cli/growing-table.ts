import { write, type Cell } from './print.ts';

/** A table that grows for as long as something is followed: columns are as wide as the first rows need, or wider from a row on that needs more. */
export class GrowingTable {
  readonly #widths: number[];
  #heads: readonly string[] | undefined;

  constructor(heads: readonly string[]) {
    this.#heads = heads;
    this.#widths = heads.map(() => 0);
  }

  async print(rows: readonly (readonly Cell[])[]): Promise<void> {
    const all = [...(this.#heads ? [this.#heads] : []), ...rows].map((row) =>
      row.map((cell) => (cell === '' ? '-' : String(cell))),
    );
    this.#heads = undefined;
    for (const row of all) {
      for (const [at, cell] of row.entries()) this.#widths[at] = Math.max(this.#widths[at]!, cell.length);
    }
    const text = all.map(
      (row) =>
        `${row
          .map((cell, at) => cell.padEnd(this.#widths[at]! + 3))
          .join('')
          .trimEnd()}\n`,
    );
    await write(text.join(''));
  }
}
