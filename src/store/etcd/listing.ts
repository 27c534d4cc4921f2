/**
 * Reads everything below a prefix, page by page, as it was at one revision.
 *
 * Whoever knows most of it (`KnownKey`) asks for keys and revisions alone. Values are most of what etcd would send, and a host
 * that lists a large cluster again, or audits it every few minutes, needs hardly any of them. Of each such page, the
 * entries that are not known are read with their values, and with them the few known ones that lie between two of them.
 *
 * Pages are asked for one after the other, and read in turns of the event loop. Whoever knows most of it forwards meanwhile, and
 * is not in a hurry: it rests after each turn. The kernel lets a thread that works less than its share run as soon as it has
 * something to do. One that works without a pause has to wait for all others, and whatever arrives meanwhile waits, too.
 */
import { eachInTurns } from '../../turns.ts';
import type { Entry, KnownKey, Listing } from '../store.ts';
import type { WeftError } from '../../error.ts';
import type { Connection } from './connection.ts';
import { Failure } from './failure.ts';
import { after, entryOf, rangeOf, stampOf } from './keys.ts';
import * as etcd from './messages.ts';
import { historyOf } from './session.ts';
import type { Anchor } from './watch.ts';

export interface ReadingOptions {
  readonly connection: Connection;
  /** Of all keys of the store. Users of the store do not see it. */
  readonly own: string;
  readonly prefix: string;
  /** The key of the record that names the history. */
  readonly nameKey: string | undefined;
  /** As in `Store.list`. */
  readonly at: number | undefined;
  /** As in `Store.list`. */
  readonly knownKey: KnownKey | undefined;
  /** Passes some milliseconds. */
  readonly rest: () => Promise<void>;
  /** The error of an answer that makes no sense. */
  readonly senseless: (why: string) => WeftError;
}

export interface Read {
  readonly listing: Listing;
  /** What a watch that begins there is held against: the latest entry, and the record that names the history. */
  readonly latest: Anchor | undefined;
  readonly name: Anchor | undefined;
}

type Range = Pick<etcd.RangeRequest, 'key' | 'rangeEnd'>;

/** How many entries are asked for at once. For each page, etcd 3.4 looks at all keys that are left. */
const VALUES_PER_PAGE = 500;
const STAMPS_PER_PAGE = 2000;
/** So many known entries in a row are not read again with what is around them: they are longer than another request is. */
const KNOWN_IN_A_ROW = 100;
/** How many of them are read in one turn of the event loop. */
const VALUES_PER_TURN = 64;
const STAMPS_PER_TURN = 256;

/** @throws Failure that etcd answered; WeftError if its answers make no sense, or there are none */
export async function readListing(options: ReadingOptions): Promise<Read> {
  for (;;) {
    try {
      return await new Reading(options).run();
    } catch (error) {
      if (!(error instanceof OtherHistory)) throw error;
    }
  }
}

/** Another cluster has answered: what was read before does not count. */
class OtherHistory extends Error {}

class Reading {
  readonly #options: ReadingOptions;
  readonly #entries: Entry[] = [];
  readonly #known: string[] = [];
  #revision: number | undefined;
  #history: string | undefined;
  /** The latest entry. */
  #newest: Pick<Entry, 'key' | 'revision'> | undefined;
  /** Of the latest entry and of the one that names the history, once they are read with their values. */
  readonly #bytes = new Map<string, Uint8Array>();

  constructor(options: ReadingOptions) {
    this.#options = options;
    this.#revision = options.at;
  }

  async run(): Promise<Read> {
    const { own, prefix, nameKey, knownKey } = this.#options;
    const range = rangeOf(own + prefix);
    await (knownKey ? this.#readUnknown(range, knownKey) : this.#readValues(range));
    const latest = this.#newest && (await this.#anchor(this.#newest.key));
    const name = nameKey?.startsWith(prefix) ? await this.#anchor(nameKey) : undefined;
    const [entries, known] = [this.#entries, this.#known];
    return { listing: { revision: this.#revision!, history: this.#history!, entries, known }, latest, name };
  }

  async #readUnknown(range: Range, knownKey: KnownKey): Promise<void> {
    const { rest } = this.#options;
    for await (const page of this.#pages({ ...range, keysOnly: true, limit: STAMPS_PER_PAGE })) {
      const unread = new Set<string>();
      const runs: { readonly first: Uint8Array; last: Uint8Array }[] = [];
      let inARow = 0;
      await eachInTurns(
        page,
        STAMPS_PER_TURN,
        (bytes) => {
          const { key, revision } = stampOf(bytes, this.#options.own.length);
          this.#note(key, revision);
          const known = knownKey(key, revision);
          if (known !== undefined) {
            this.#known.push(known);
            inARow++;
            return;
          }
          unread.add(key);
          const run = runs.at(-1);
          if (run && inARow < KNOWN_IN_A_ROW) run.last = bytes;
          else runs.push({ first: bytes, last: bytes });
          inARow = 0;
        },
        { rest },
      );
      for (const { first, last } of runs) {
        await this.#readValues({ key: keyOf(first), rangeEnd: after(keyOf(last)) }, unread);
      }
    }
  }

  /** @param wanted the keys of those that are read; all of them without it */
  async #readValues(range: Range, wanted?: ReadonlySet<string>): Promise<void> {
    const skipped = this.#options.own.length;
    for await (const page of this.#pages({ ...range, limit: VALUES_PER_PAGE })) {
      await eachInTurns(page, VALUES_PER_TURN, (bytes) => {
        if (wanted && !wanted.has(stampOf(bytes, skipped).key)) return;
        const entry = entryOf(etcd.keyValueOf(bytes), skipped);
        this.#entries.push(entry);
        this.#note(entry.key, entry.revision, bytes);
      });
    }
  }

  #note(key: string, revision: number, bytes?: Uint8Array): void {
    if (!this.#newest || revision > this.#newest.revision) {
      if (this.#newest && this.#newest.key !== this.#options.nameKey) this.#bytes.delete(this.#newest.key);
      this.#newest = { key, revision };
    }
    if (bytes && (key === this.#newest.key || key === this.#options.nameKey)) this.#bytes.set(key, bytes);
  }

  /** Its bytes are copied, because they belong to a whole answer. */
  async #anchor(name: string): Promise<Anchor> {
    const key = Buffer.from(this.#options.own + name);
    const bytes = this.#bytes.get(name) ?? (await this.#page({ key, limit: 1 })).kvs[0];
    if (!bytes) return { key, entry: undefined };
    const { modRevision, value } = etcd.keyValueOf(bytes);
    return { key, entry: { revision: modRevision.toNumber(), value: Uint8Array.from(value) } };
  }

  async *#pages(
    request: Range & { readonly limit: number; readonly keysOnly?: boolean },
  ): AsyncGenerator<readonly Uint8Array[]> {
    let { key } = request;
    for (let isMore = true; isMore; ) {
      const { kvs, more } = await this.#page({ ...request, key });
      yield kvs;
      const last = kvs.at(-1);
      if (more && (!last || Buffer.compare(keyOf(last), key) < 0)) {
        throw this.#options.senseless('a list does not come to an end');
      }
      if (more) key = after(keyOf(last!));
      isMore = more;
    }
  }

  /** Of the revision of the first page. Asks for fewer entries if they are too long for one answer. */
  async #page(request: etcd.RangeRequest & { readonly limit: number }): Promise<etcd.RangePage> {
    try {
      const page = await this.#options.connection.call(etcd.rangePage, { ...request, revision: this.#revision ?? 0 });
      this.#revision ??= page.header.revision.toNumber();
      this.#history ??= historyOf(page.header);
      if (historyOf(page.header) !== this.#history) throw new OtherHistory();
      return page;
    } catch (error) {
      if (request.limit === 1 || !(error instanceof Failure && error.isTooLong)) throw error;
      return this.#page({ ...request, limit: Math.ceil(request.limit / 4) });
    }
  }
}

function keyOf(bytes: Uint8Array): Uint8Array {
  return etcd.keyValueOf(bytes).key;
}
