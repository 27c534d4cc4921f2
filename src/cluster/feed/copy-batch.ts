/**
 * What is to be written into the copy of the state, of each key at most: the last record, those that may be in force instead
 * (`noted-records.ts`), and whether this host accepts it. A later batch that is added to an earlier one counts before it.
 */
import { NotedRecords } from './noted-records.ts';

export class CopyBatch {
  readonly #lines = new NotedRecords<string>();
  /** Revisions of records that are refused and have been written before, by key. */
  readonly #refused = new Map<string, number>();

  get isEmpty(): boolean {
    return this.#lines.size === 0 && this.#refused.size === 0;
  }

  put(key: string, revision: number, line: string): void {
    this.#lines.put(key, revision, line);
    if (this.#refused.get(key) === revision) this.#refused.delete(key);
  }

  /** @param line says that there is none any more: what was in front of it counts no longer */
  delete(key: string, line: string): void {
    this.#refused.delete(key);
    this.#lines.put(key, undefined, line);
  }

  refuse(key: string, revision: number): void {
    if (this.#lines.has(key)) this.#lines.refuse(key, revision);
    else this.#refused.set(key, revision);
  }

  /** @param isJudged whether `refuse` was called for all that is in it and that this host does not accept */
  mark(isJudged: boolean): void {
    this.#lines.mark(isJudged);
  }

  add(later: CopyBatch): void {
    // Of records that were there before.
    for (const [key, revision] of later.#refused) this.refuse(key, revision);
    for (const { key, revision, value, isRefused } of later.#lines.all()) {
      if (revision === undefined) this.delete(key, value);
      else this.put(key, revision, value);
      if (revision !== undefined && isRefused) this.refuse(key, revision);
    }
  }

  /** In the order in which they have to be written. */
  *lines(): Iterable<string> {
    for (const key of this.#lines.keysOfSeveral()) yield* this.#lines.before(key).reverse();
    for (const key of this.#lines.keys()) yield this.#lines.last(key)!;
  }

  /** [key, revision] of each refused record, as JSON. */
  refused(): string[] {
    const refused: string[] = [];
    for (const one of this.#refused) refused.push(JSON.stringify(one));
    for (const key of this.#lines.keysOfRefused()) refused.push(JSON.stringify([key, this.#lines.refused(key)]));
    return refused;
  }
}
