/**
 * Writes to a shared store, whatever state it is in.
 *
 *   1. as long as it answers, a transaction goes to the store, which is asked to expect what it has rather than what is in
 *      force here (`known-records.ts`)
 *   2. if it does not answer, a transaction that concerns nothing but this host's own records is kept in the host's own store
 *      and is in force here; the feed writes it when the store is back
 *   3. anything else is refused
 *
 * A transaction whose answer was lost falls under 2 and 3, too. Whether it was made shows when the store is back: a record
 * that is there already is not written again.
 */
import { WeftError } from '../../error.ts';
import { blockRecord } from '../../model/records.ts';
import {
  conflictError,
  isUnanswered,
  type Change,
  type Expectation,
  type Put,
  type Store,
  type Transaction,
} from '../../store/store.ts';
import { BLOCKS, blockOfKey } from '../addresses/block.ts';
import { ownerOf, translated } from './known-records.ts';
import { keysOf } from './made-writes.ts';
import { nameOfKey, resourceAt } from '../keys.ts';
import type { SharedState } from './shared-state.ts';

const ENDPOINTS = 'endpoints/';

export interface WriterEnvironment {
  readonly store: Store;
  readonly state: () => SharedState;
  /** The name of this host. */
  readonly host: string;
  /** Why nothing is known yet. */
  readonly waitsFor: () => WeftError | undefined;
  /** Why the store must not be used although it answers. */
  readonly refusal: () => WeftError | undefined;
  /** True while this host's own writes are not made up for. */
  readonly isBehind: () => boolean;
  /** Called with what was kept here, and is in force at once. */
  readonly onKept: (changes: readonly Change[]) => void;
  /** Called with what the store has made. */
  readonly onMade: (transaction: Transaction, revision: number) => void;
  /** Called with what was expected of the store when it was refused as not being so. */
  readonly onConflict: (expect: readonly Expectation[]) => void;
}

export class SharedWriter {
  readonly #environment: WriterEnvironment;

  constructor(environment: WriterEnvironment) {
    this.#environment = environment;
  }

  /** @returns the revision; a negative number if the store does not have it yet */
  async transact(transaction: Transaction): Promise<number> {
    const { store, waitsFor, refusal, onMade, onConflict } = this.#environment;
    const waiting = waitsFor();
    if (waiting) throw waiting;
    const why = refusal() ?? unreachable(store);
    if (why || this.#follows(transaction)) return this.#keep(transaction, why ?? behind());
    const { known, held } = this.#environment.state();
    const expect = translated(transaction.expect ?? [], known, held);
    try {
      const revision = await store.transact({ ...transaction, expect });
      onMade(transaction, revision);
      return revision;
    } catch (error) {
      if (error instanceof WeftError && error.code === 'conflict') onConflict(expect);
      if (!(error instanceof WeftError) || error.code !== 'unreachable') throw error;
      if (isUnanswered(error)) this.#environment.state().pending.sending(keysOf(transaction));
      const end = isUnanswered(error) ? '; whether it was stored shows when the store is back' : '';
      return this.#keep(transaction, unreachable(store, error), end);
    }
  }

  /** True if records of it wait to be written: what comes later must not overtake them. */
  #follows(transaction: Transaction): boolean {
    if (!this.#environment.isBehind()) return false;
    const { pending } = this.#environment.state();
    return keysOf(transaction).some((key) => pending.has(key));
  }

  async #keep({ expect = [], put = [], delete: deleted = [] }: Transaction, why: WeftError, end = ''): Promise<number> {
    const { onKept } = this.#environment;
    const state = this.#environment.state();
    const { known, pending } = state;
    const foreign = [
      ...put.flatMap((one) => (this.#mayKeep(one.key, one) ? [] : [one.key])),
      ...deleted.filter((key) => !this.#mayKeep(key)),
    ];
    if (foreign.length > 0) {
      const what = whatCannot(foreign, put, this.#environment.host);
      throw new WeftError(why.code, `${why.message}: ${what}${end}`, { cause: why });
    }
    for (const { key, revision } of expect) {
      const actual = known.get(key)?.revision ?? 0;
      if (actual !== revision) throw conflictError(key, actual, revision);
    }
    const writes = [...put, ...deleted.map((key) => ({ key, value: undefined }))].map(({ key, value }) => ({
      key,
      base: known.get(key)?.stored ?? 0,
      ...(value !== undefined && { value: JSON.parse(JSON.stringify(value)) as object }),
    }));
    await pending.add(writes);
    const changes = writes.map(({ key, value, base }) => state.written(key, value, base));
    onKept(changes);
    return -1;
  }

  /**
   * True for this host's own endpoints, and for whatever else is its own already. Others ask for addresses of its blocks, so
   * what it wrote to them later would be wrong by then.
   */
  #mayKeep(key: string, put?: { readonly value: unknown; readonly lease?: string }): boolean {
    const { host } = this.#environment;
    const state = this.#environment.state();
    if (key.startsWith(BLOCKS)) return false;
    if (put && (put.lease !== undefined || ownerOf(put.value) !== host)) return false;
    if (state.held.has(key) && !state.known.has(key)) return false;
    return state.isOwn(key) || (put !== undefined && key.startsWith(ENDPOINTS) && !state.known.has(key));
  }
}

/** Why the store cannot be used now; undefined if it answers. */
export function unreachable(store: Store): WeftError | undefined;
export function unreachable(store: Store, error: WeftError): WeftError;
export function unreachable(store: Store, error?: WeftError): WeftError | undefined {
  const { isReachable, why = 'it does not answer', since } = store.health();
  if (isReachable && !error) return undefined;
  const reason = isReachable ? error!.message : why;
  const what = isReachable ? 'does not take this now' : 'cannot be reached';
  const from = isReachable || since === undefined ? '' : `, since ${new Date(since).toISOString()}`;
  return new WeftError('unreachable', `the store ${what} (${reason}${from})`, { cause: error });
}

/**
 * What cannot be changed while the store is away, in the operator's words.
 * @param foreign what the store has to have first @param put all that was to be written with it
 */
function whatCannot(foreign: readonly string[], put: readonly Put[], host: string): string {
  const resource = foreign.find((key) => !key.startsWith(BLOCKS));
  if (resource !== undefined) return `${nameOfKey(resource)} cannot be changed meanwhile`;
  // An endpoint needs an address that is in no block of this host.
  const endpoints = put.flatMap(({ key }) => (key.startsWith(ENDPOINTS) ? (resourceAt(key)?.name ?? []) : []));
  const asked = put.flatMap(({ key, value }) => (foreign.includes(key) ? claimsOf(value, host) : []));
  const chosen = asked.find(({ endpoint }) => endpoints.includes(endpoint));
  if (chosen) {
    const { endpoint, address } = chosen;
    return `endpoint "${endpoint}": ip ${address} is in no block of this host, and cannot be claimed meanwhile: without --ip, it gets one that this host has`;
  }
  const [endpoint] = endpoints;
  const network = blockOfKey(foreign[0]!)?.network;
  if (endpoint === undefined || network === undefined) return `${nameOfKey(foreign[0]!)} cannot be changed meanwhile`;
  return `endpoint "${endpoint}": this host has no address of network "${network}" left, and cannot claim more meanwhile`;
}

/** The addresses that a record of a block gives to endpoints of this host one by one. */
function claimsOf(value: unknown, host: string): { readonly endpoint: string; readonly address: string }[] {
  const { claimed = {} } = blockRecord.safeParse(value).data ?? {};
  return Object.entries(claimed).flatMap(([address, claim]) =>
    claim.host === host && !claim.isFree ? [{ endpoint: claim.endpoint, address }] : [],
  );
}

function behind(): WeftError {
  return new WeftError('unreachable', 'what this host wrote while the store was away is being stored');
}
