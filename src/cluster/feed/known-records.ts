/**
 * What is in force on this host, record by record, beside what the shared store has.
 *
 * The two differ for a while: this host writes a record while the store is away, or the store lost one and that is held.
 * Whoever read a record here and changes it expects `revision`; the store is asked to expect `stored` (`Expected`).
 */
import { hash } from 'node:crypto';
import type { Entry, Expectation } from '../../store/store.ts';

export interface KnownRecord {
  readonly key: string;
  /** As the cluster has it: the revision of the record that is in force, or a negative number for one of this host's own. */
  readonly revision: number;
  /** The revision that the record has in the store now; 0 if there is none. */
  readonly stored: number;
  /** Of the value in force. */
  readonly digest: number;
  /** Of a record of this host, to write it again. */
  readonly value?: object;
  /** It goes when its writer does not renew its lease. */
  readonly isLeased?: true;
}

/** A value without its text; equal for equal values, as JSON keeps the order of fields. */
export function digestOf(text: string): number {
  return Number.parseInt(hash('sha256', text).slice(0, 12), 16);
}

/** The host that a record belongs to, and that alone writes it; undefined for a record of the cluster. */
export function ownerOf(value: unknown): string | undefined {
  const { host } = Object(value) as { readonly host?: unknown };
  return typeof host === 'string' ? host : undefined;
}

/** The network that the record of an endpoint names, whatever else it says. */
export function networkOf(value: unknown): unknown {
  const { resource } = Object(value) as { readonly resource?: unknown };
  const { spec } = Object(resource) as { readonly spec?: unknown };
  return (Object(spec) as { readonly network?: unknown }).network;
}

/** The addresses that the record of an endpoint says, whatever else it says. */
export function addressesOf(value: unknown): string[] {
  const { addresses } = Object(value) as { readonly addresses?: unknown };
  const ips: readonly unknown[] = Array.isArray(addresses) ? addresses : [];
  return ips.filter((ip) => typeof ip === 'string');
}

/** What has a lease goes with it, and is never written on behalf of its writer. */
export function isOwnedBy(host: string, entry: Pick<Entry, 'value' | 'lease'> | undefined): boolean {
  return entry !== undefined && entry.lease === undefined && ownerOf(entry.value) === host;
}

/** Records as the cluster expects them → as the store has them. */
export function translated(
  expect: readonly Expectation[],
  known: ReadonlyMap<string, KnownRecord>,
  held: ReadonlyMap<string, Entry | undefined>,
): Expectation[] {
  return expect.map(({ key, revision }) => {
    const record = known.get(key);
    if (record) return { key, revision: revision === record.revision ? record.stored : revision };
    return { key, revision: revision === 0 ? (held.get(key)?.revision ?? 0) : revision };
  });
}
