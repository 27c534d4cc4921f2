/**
 * The key of the probes between the hosts of a shared store: random, and created by the first host. Whoever may read the
 * store may probe.
 */
import { peerKey } from '../../model/peer-key.ts';
import type { Change, Store } from '../../store/store.ts';
import type { Keys, Register } from '../register.ts';

const KEY = 'keys/probe';

export interface ProbeKeyEnvironment {
  readonly store: Store;
  /** Why nothing may be written to the store now; undefined if it may be. */
  readonly mustWait: () => string | undefined;
  /** Returns 32 random bytes. */
  readonly random: () => Uint8Array;
}

export class ProbeKey implements Register {
  readonly prefix = KEY;
  readonly #environment: ProbeKeyEnvironment;
  #key: Uint8Array | undefined;
  /** The store has been read, and had none. */
  #isMissing = false;
  #creating: Promise<void> | undefined;

  constructor(environment: ProbeKeyEnvironment) {
    this.#environment = environment;
  }

  /** Undefined until there is one. */
  get key(): Uint8Array | undefined {
    return this.#key;
  }

  /** A record that is no key, or is gone, changes nothing: all hosts go on with the one that they know. */
  see(changes: readonly Change[]): void {
    for (const { key, entry } of changes) {
      if (key !== KEY) continue;
      const read = peerKey.safeParse((entry?.value as { readonly key?: unknown } | undefined)?.key);
      if (read.success) this.#key = read.data;
      this.#isMissing = entry === undefined;
    }
  }

  listed(keys: Keys): void {
    this.#isMissing = !keys.has(KEY);
  }

  /** Writes a key if the store has none. Called about once a second; never throws. */
  keep(): Promise<void> {
    if (!this.#isMissing || this.#environment.mustWait() !== undefined) return Promise.resolve();
    return (this.#creating ??= this.#create().finally(() => (this.#creating = undefined)));
  }

  async #create(): Promise<void> {
    const { store, random } = this.#environment;
    const key = Buffer.from(this.#key ?? random()).toString('hex');
    try {
      await store.transact({ expect: [{ key: KEY, revision: 0 }], put: [{ key: KEY, value: { key } }] });
      this.#isMissing = false;
    } catch {
      // Another host was first, which the watch tells, or the store is away: then it is tried again.
    }
  }
}
