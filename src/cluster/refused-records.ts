/**
 * Records of the store that this host does not accept, such as a faulty one that another program has written. What was
 * in force under their names stays so. They are shown as waiting, and those that clash with others are tried again whenever
 * others of their kind have changed. To mend one, apply the resource again or delete it.
 */
import { WeftError } from '../error.ts';
import type { KindDefinition } from '../model/kinds/kind.ts';
import type { HeldRecordReport } from '../model/held.ts';
import type { RefusedRecordReport } from '../model/report.ts';
import { CLASH_HINT, isPolicyKind, REFUSED_HINT } from '../model/refused-record.ts';
import { nameOf } from '../model/resource.ts';
import type { Change, Entry, Expectation } from '../store/store.ts';
import { networkOf, ownerOf } from './feed/known-records.ts';
import { keyOf, nameOfKey } from './keys.ts';
import type { Declared } from './reconciler.ts';

interface Refused {
  readonly kind: KindDefinition;
  readonly name: string;
  readonly revision: number;
  readonly why: string;
  /** It may be possible when another of its kind has changed. What is faulty stays so, however often it is read. */
  readonly isClash: boolean;
  /** As the watch has reported it. */
  readonly change: Change;
}

/** How many are named, in reports and in the log. Of the others it is said how many they are. */
export const MOST_NAMED = 64;

const isNetworkClash = ({ kind, isClash }: Refused): boolean => isClash && kind.kind === 'Network';
const waitText = (one: Refused): string => `waits: ${one.why}: ${isNetworkClash(one) ? CLASH_HINT : REFUSED_HINT}`;

/** What may be closed as long as it is refused: it is named first. */
const isPolicy = ({ kind }: Refused): boolean => isPolicyKind(kind.kind);

export class RefusedRecords {
  /** By key. */
  readonly #refused = new Map<string, Refused>();

  /** @returns true if that is news */
  add(refused: Refused): boolean {
    const { key } = refused.change;
    const isNews = this.#refused.get(key)?.why !== refused.why;
    this.#refused.set(key, refused);
    return isNews;
  }

  /** The record was accepted or deleted. */
  delete(key: string): void {
    this.#refused.delete(key);
  }

  /** Those to try again after others of these kinds have changed. */
  clashing(kinds: ReadonlySet<string>): Change[] {
    const all = [...this.#refused.values()];
    return all.filter(({ kind, isClash }) => isClash && kinds.has(kind.kind)).map(({ change }) => change);
  }

  /** The revision of a refused record; undefined if there is none under that name. */
  revision(kind: KindDefinition, name: string): number | undefined {
    return this.#refused.get(keyOf(kind, name))?.revision;
  }

  /** What a change expects of a resource that is in force: the store may have a record there that is refused. */
  expectation(kind: KindDefinition, { name, revision }: Pick<Declared, 'name' | 'revision'>): Expectation {
    return { key: keyOf(kind, name), revision: this.revision(kind, name) ?? revision };
  }

  /** A refused record, as the store has it; undefined if there is none under that name. */
  entry(kind: KindDefinition, name: string): Entry | undefined {
    return this.#refused.get(keyOf(kind, name))?.change.entry;
  }

  /** The host that has it, as a refused record says; undefined if there is none, or it does not say. */
  ownerOf(kind: KindDefinition, name: string): string | undefined {
    return ownerOf(this.entry(kind, name)?.value);
  }

  /**
   * True if the refused record of something that this host takes for that of a host says that another host has it.
   * @param counts whether what a record says of a host counts, since somebody may have written anything
   */
  isOfAnother(kind: KindDefinition, name: string, host: string, counts: (owner: string) => boolean): boolean {
    const owner = this.ownerOf(kind, name);
    return owner !== undefined && owner !== host && counts(owner);
  }

  /** The names of all whose refused record says that a host has them. */
  ofHost(kind: KindDefinition, host: string): string[] {
    const all = [...this.#refused.values()].filter((one) => one.kind === kind);
    return all.map(({ name }) => name).filter((name) => this.ownerOf(kind, name) === host);
  }

  /** Those that are in a network or in a namespace, as far as it can be read. @param kind of what they are in */
  within(kind: string, name: string): { readonly kind: KindDefinition; readonly name: string }[] {
    return [...this.#refused.values()].filter((one) => {
      if (kind === 'Namespace') return one.kind.isNamespaced && nameOf(one.name).namespace === name;
      return kind === 'Network' && one.kind.kind === 'Endpoint' && networkOf(one.change.entry?.value) === name;
    });
  }

  /** Says what to do about the record. */
  failure(kind: KindDefinition, name: string): WeftError | undefined {
    const refused = this.#refused.get(keyOf(kind, name));
    if (!refused) return undefined;
    const which = `${kind.kind.toLowerCase()} "${name}"`;
    return new WeftError('invalid', `${which} ${waitText(refused)}`);
  }

  /** Says of each that is refused that it waits, and why. */
  explained(records: readonly HeldRecordReport[]): HeldRecordReport[] {
    if (this.#refused.size === 0) return [...records];
    const reasons = new Map([...this.#refused].map(([key, refused]) => [nameOfKey(key), waitText(refused)]));
    return records.map((one) => (reasons.has(one.name) ? { ...one, why: `it ${reasons.get(one.name)}` } : one));
  }

  /** How many there are. */
  get count(): number {
    return this.#refused.size;
  }

  /** MOST_NAMED of them, policies first. */
  report(): RefusedRecordReport[] {
    const all = [...this.#refused.values()];
    const first = all.length <= MOST_NAMED ? all : [...all.filter(isPolicy), ...all.filter((one) => !isPolicy(one))];
    return first.slice(0, MOST_NAMED).map((one) => {
      const { kind, name, why } = one;
      const own = nameOf(name);
      const namespace = kind.isNamespaced ? { namespace: own.namespace } : {};
      return { kind: kind.kind, name: own.name, ...namespace, why, ...(isNetworkClash(one) && { hint: CLASH_HINT }) };
    });
  }
}
