/**
 * What counts of records that are noted one after the other: of each key the last one, and those that may be in force instead if
 * that is not accepted. These are all the others, back to one that is known to have been accepted, without those that are known
 * to be refused. What nobody has judged is neither: it may have been in force, and whoever judges it now says so.
 */

interface Noted<T> {
  readonly value: T;
  /** Undefined if it says that there is none any more. */
  readonly revision: number | undefined;
  /** How many marks were in front of it. */
  readonly marks: number;
  /** This host does not accept it. */
  isRefused: boolean;
  /** This host had accepted it when the next one came. */
  isAccepted: boolean;
  before: Noted<T> | undefined;
}

export class NotedRecords<T> {
  readonly #last = new Map<string, Noted<T>>();
  /** The keys of those that are not the only one: usually none of very many. */
  readonly #several = new Set<string>();
  /** The keys of those whose last one is refused. */
  readonly #refused = new Set<string>();
  #marks = 0;
  /** How many marks were in front of the last one that says that everything before it is judged. */
  #judged = -1;

  get size(): number {
    return this.#last.size;
  }

  /** @param revision undefined if `value` says that there is none any more: nothing in front of it counts */
  put(key: string, revision: number | undefined, value: T): void {
    const last = revision === undefined ? undefined : this.#last.get(key);
    if (last && this.#isAccepted(last)) {
      last.isAccepted = true;
      last.before = undefined;
    }
    // What is refused counts no longer, or they would add up. Whether what was before that is accepted, nobody has said by this.
    let before = last;
    while (before?.isRefused) before = before.before;
    this.#last.set(key, { value, revision, marks: this.#marks, isRefused: false, isAccepted: false, before });
    this.#refused.delete(key);
    if (before) this.#several.add(key);
    else this.#several.delete(key);
  }

  delete(key: string): void {
    this.#last.delete(key);
    this.#several.delete(key);
    this.#refused.delete(key);
  }

  /** @param revision of the record, which may not be the last one any more */
  refuse(key: string, revision: number): void {
    let noted = this.#last.get(key);
    while (noted && noted.revision !== revision) noted = noted.before;
    if (!noted) return;
    noted.isRefused = true;
    noted.isAccepted = false;
    if (noted === this.#last.get(key)) this.#refused.add(key);
  }

  /** @param isJudged whether everything that was noted by now is judged: what is not refused is accepted */
  mark(isJudged: boolean): void {
    if (isJudged) this.#judged = this.#marks;
    this.#marks++;
  }

  keys(): Iterable<string> {
    return this.#last.keys();
  }

  /** Those of which there may be some in front of the last one. */
  keysOfSeveral(): Iterable<string> {
    return this.#several;
  }

  /** Those whose last one is refused. */
  keysOfRefused(): Iterable<string> {
    return this.#refused;
  }

  has(key: string): boolean {
    return this.#last.has(key);
  }

  last(key: string): T | undefined {
    return this.#last.get(key)?.value;
  }

  /** The revision of the last one if that is refused. */
  refused(key: string): number | undefined {
    const last = this.#last.get(key);
    return last?.isRefused ? last.revision : undefined;
  }

  /** True if the last one is known to be accepted. */
  isAccepted(key: string): boolean {
    const last = this.#last.get(key);
    return last !== undefined && this.#isAccepted(last);
  }

  /** What may be in force if the last one is not accepted, the last of them first. */
  before(key: string): T[] {
    const before: T[] = [];
    for (let noted = this.#last.get(key)?.before; noted; noted = noted.isAccepted ? undefined : noted.before) {
      if (!noted.isRefused) before.push(noted.value);
    }
    return before;
  }

  /** All that may count, and what was refused after the next one had come: of each key the first one first. */
  *all(): Iterable<Pick<Noted<T>, 'value' | 'revision' | 'isRefused'> & { readonly key: string }> {
    for (const [key, last] of this.#last) {
      const all: Noted<T>[] = [];
      for (let noted: Noted<T> | undefined = last; noted; noted = noted.before) all.push(noted);
      for (const { value, revision, isRefused } of all.reverse()) yield { key, value, revision, isRefused };
    }
  }

  #isAccepted({ isRefused, marks }: Noted<T>): boolean {
    return !isRefused && marks <= this.#judged;
  }
}
