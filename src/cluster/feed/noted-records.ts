/** Which lines of a copy count while it is read: of each key the last one, and the one that it may not replace. */

interface Noted<T> {
  readonly value: T;
  readonly revision: number;
  /** This host does not accept it. */
  isRefused: boolean;
  readonly before: Noted<T> | undefined;
}

export class NotedRecords<T> {
  readonly #last = new Map<string, Noted<T>>();

  put(key: string, revision: number, value: T): void {
    this.#last.set(key, { value, revision, isRefused: false, before: this.#last.get(key) });
  }

  delete(key: string): void {
    this.#last.delete(key);
  }

  /** @param revision of the record, which may not be the last one any more */
  refuse(key: string, revision: number): void {
    let noted = this.#last.get(key);
    while (noted && noted.revision !== revision) noted = noted.before;
    if (noted) noted.isRefused = true;
  }

  /** Nobody has judged the last one, so it never was in force: it counts as refused from when there is another one. */
  passOver(key: string): void {
    const last = this.#last.get(key);
    if (last) last.isRefused = true;
  }

  *keys(): Iterable<string> {
    yield* this.#last.keys();
  }

  last(key: string): T | undefined {
    return this.#last.get(key)?.value;
  }

  /** The revision of the last one if that is refused. */
  refused(key: string): number | undefined {
    const last = this.#last.get(key);
    return last?.isRefused ? last.revision : undefined;
  }

  /** The last one before the last that is not refused. */
  before(key: string): T | undefined {
    let noted = this.#last.get(key)?.before;
    while (noted?.isRefused) noted = noted.before;
    return noted?.value;
  }
}
