/**
 * Collects the objects that the tables have changed since the controller last looked.
 *
 * All tables of a switch share one collection, so whatever one operation does to several of them is
 * one transaction: each table notes here what it did, and the controller drains the notes and makes
 * those decisions again that consulted any of the objects.
 *
 * An object is the name of the smallest thing that can change by itself, whether it is present or
 * absent: a port, a VTEP, a route, a published port, a neighbor. A setter that changes nothing notes
 * nothing.
 */
export class Changes {
  #changed = new Set<string>();
  #added = new Set<string>();

  get isEmpty(): boolean {
    return this.#changed.size === 0 && this.#added.size === 0;
  }

  /** Notes objects that were replaced or removed, or that were added and restrict what was decided without them. */
  changed(...objects: readonly string[]): void {
    this.changedAll(objects);
  }

  /** The same for any number of them: as arguments of a call, a hundred thousand would be too many. */
  changedAll(objects: Iterable<string>): void {
    for (const object of objects) this.#changed.add(object);
  }

  /** Notes objects that were added, where decisions made without them do no harm in the meantime. */
  added(...objects: readonly string[]): void {
    for (const object of objects) this.#added.add(object);
  }

  /** Returns everything noted, each object once, and forgets it. */
  drain(): { readonly changed: readonly string[]; readonly added: readonly string[] } {
    const changed = [...this.#changed];
    const added = [...this.#added].filter((object) => !this.#changed.has(object));
    this.#changed = new Set();
    this.#added = new Set();
    return { changed, added };
  }
}
