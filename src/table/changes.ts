/**
 * Changes: which objects the tables have changed since the controller last looked.
 *
 * There is one for all tables of a switch, so whatever one operation does to
 * several of them is one transaction: each table notes here what it did, and the
 * controller drains it and has the decisions made anew that consulted any of it.
 *
 * An object is the name of the smallest thing that can change by itself, present
 * or absent: one port, one VTEP, one route, one published port, one neighbor. A
 * setter that changes nothing notes nothing.
 */
export class Changes {
  #changed = new Set<string>();
  #added = new Set<string>();

  get isEmpty(): boolean {
    return this.#changed.size === 0 && this.#added.size === 0;
  }

  /** Something was replaced, has gone, or has come where that restricts what was decided without it. */
  changed(...objects: readonly string[]): void {
    for (const object of objects) this.#changed.add(object);
  }

  /** Something has come, and what was decided without it does no harm meanwhile. */
  added(...objects: readonly string[]): void {
    for (const object of objects) this.#added.add(object);
  }

  /** Hands out what was noted, each object once, and forgets it. */
  drain(): { readonly changed: readonly string[]; readonly added: readonly string[] } {
    const changed = [...this.#changed];
    const added = [...this.#added].filter((object) => !this.#changed.has(object));
    this.#changed = new Set();
    this.#added = new Set();
    return { changed, added };
  }
}
