/**
 * What is to be written into the copy of the state, of each key at most: the last record, one that it may not replace, and whether
 * this host accepts it. A later batch that is added to an earlier one counts before it.
 */

interface Unwritten {
  readonly line: string;
  readonly revision: number | undefined;
  /** A line that must be in front of it, since `line` may not be accepted. */
  readonly before?: string | undefined;
  readonly isRefused?: boolean;
}

export class CopyBatch {
  readonly #records = new Map<string, Unwritten>();
  /** Revisions of records that are refused and have been written before, by key. */
  readonly #refused = new Map<string, number>();

  get isEmpty(): boolean {
    return this.#records.size === 0 && this.#refused.size === 0;
  }

  keys(): Iterable<string> {
    return this.#records.keys();
  }

  put(key: string, revision: number, line: string): void {
    this.#set(key, { line, revision });
  }

  /** @param line says that there is none any more: what was in front of it counts no longer */
  delete(key: string, line: string): void {
    this.#refused.delete(key);
    this.#records.set(key, { line, revision: undefined });
  }

  refuse(key: string, revision: number): void {
    const record = this.#records.get(key);
    if (record?.revision === revision) this.#records.set(key, { ...record, isRefused: true });
    else if (!record) this.#refused.set(key, revision);
  }

  add(later: CopyBatch): void {
    // Of records that were there before.
    for (const [key, revision] of later.#refused) this.refuse(key, revision);
    for (const [key, record] of later.#records) {
      if (record.revision === undefined) this.delete(key, record.line);
      else this.#set(key, record);
    }
  }

  /** In the order in which they have to be written. */
  *lines(): Iterable<string> {
    for (const { before } of this.#records.values()) if (before !== undefined) yield before;
    for (const { line } of this.#records.values()) yield line;
  }

  /** [key, revision] of each refused record, as JSON. */
  refused(): string[] {
    const refused: string[] = [];
    for (const one of this.#refused) refused.push(JSON.stringify(one));
    for (const [key, { revision, isRefused }] of this.#records)
      if (isRefused) refused.push(JSON.stringify([key, revision]));
    return refused;
  }

  #set(key: string, record: Unwritten): void {
    const known = this.#records.get(key);
    const before = record.before ?? (known?.isRefused ? known.before : known?.line);
    this.#records.set(key, before === undefined ? record : { ...record, before });
    if (this.#refused.get(key) === record.revision) this.#refused.delete(key);
  }
}
