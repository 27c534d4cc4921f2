/**
 * Whose failures are believed. A container can make its own connections fail, by a SYN that the kernel of a backend drops
 * silently (a wrong checksum, a SYN with FIN, an option that it does not expect). So what happens to the connections of one
 * client says something about the client, too.
 *
 * A reset is the word of the backend itself, which nobody else can give (but its host, for policies that deny the client: such failures do not come here), so it always counts. For
 * everything else:
 *
 *   1. If another client has come to the service in the last interval, failures of one client count only together with those of
 *      another one, since the backend last answered anybody. Until then they are held.
 *   2. A client that is alone is believed. Who comes next ends the ejections that rest on the word of another one alone; the
 *      first failure of its own brings them back.
 *
 * All that come from outside are one client, since a source from outside can be anything.
 */

interface Row {
  /** Whose connections have failed. */
  readonly client: string;
  isOfSeveral: boolean;
  /** True: the backend itself has said so. */
  isCertain: boolean;
  failures: number;
  /** How many of these have counted. */
  counted: number;
}

/** @typeParam Id whatever identifies a backend */
export class Witnesses<Id> {
  #latest: { readonly client: string; readonly atMs: number } | undefined;
  /** The latest one that is not the same. */
  #other: { readonly client: string; readonly atMs: number } | undefined;
  readonly #rows = new Map<Id, Row>();
  /** Those that are ejected because of one client. */
  readonly #onOneWord = new Map<Id, Row>();

  /** A client has opened a connection. @returns the ejected ones that it knows nothing of: they return */
  came(client: string, nowMs: number): Id[] {
    if (this.#latest && this.#latest.client !== client) this.#other = this.#latest;
    this.#latest = { client, atMs: nowMs };
    const back: Id[] = [];
    for (const [id, row] of this.#onOneWord) {
      if (row.client === client) continue;
      this.#onOneWord.delete(id);
      row.counted = 0;
      back.push(id);
    }
    return back;
  }

  /** The backend has refused a connection. */
  refused(id: Id, client: string): void {
    this.#rowOf(id, client).isCertain = true;
  }

  /** A connection of that client has failed. @returns how many failures count now that did not before */
  failed(id: Id, client: string, nowMs: number, intervalMs: number): number {
    const row = this.#rowOf(id, client);
    row.failures++;
    row.isOfSeveral ||= row.client !== client;
    if (!row.isOfSeveral && !this.#isAlone(client, nowMs - intervalMs)) return 0;
    const more = row.failures - row.counted;
    row.counted = row.failures;
    return more;
  }

  /** It is ejected because of the failures that have counted. */
  ejected(id: Id): void {
    const row = this.#rows.get(id);
    if (row && !row.isOfSeveral && !row.isCertain) this.#onOneWord.set(id, row);
  }

  /** It has answered somebody, or is back, or is not there any more. */
  forget(id: Id): void {
    this.#rows.delete(id);
    this.#onOneWord.delete(id);
  }

  #rowOf(id: Id, client: string): Row {
    let row = this.#rows.get(id);
    if (!row) this.#rows.set(id, (row = { client, isOfSeveral: false, isCertain: false, failures: 0, counted: 0 }));
    return row;
  }

  #isAlone(client: string, sinceMs: number): boolean {
    const other = this.#latest?.client === client ? this.#other : this.#latest;
    return other === undefined || other.atMs < sinceMs;
  }
}
