/**
 * Endpoints to release because their containers are gone. They are deleted from the store, and the watch reports that
 * like any other deletion. While the store cannot be written, they wait here and are tried again.
 */
import { WeftError } from '../error.ts';
import { endpointKind } from '../model/kinds/endpoint.ts';
import type { Store } from '../store/store.ts';
import type { EndpointIndex } from './endpoint-index.ts';
import type { Hosts } from './membership/hosts.ts';
import type { RefusedRecords } from './refused-records.ts';

export interface ReleasesEnvironment {
  readonly store: Store;
  readonly index: EndpointIndex;
  /** Records that this host does not accept. */
  readonly refused: () => RefusedRecords;
  readonly hosts: Pick<Hosts, 'isThere'>;
  /** The name of this host. */
  readonly hostName: string;
  readonly warn: (message: string, details: object) => void;
}

export class Releases {
  readonly #environment: ReleasesEnvironment;
  readonly #names = new Set<string>();
  /** The last reason for not releasing them that was logged. */
  #toldWhy: string | undefined;

  constructor(environment: ReleasesEnvironment) {
    this.#environment = environment;
  }

  add(name: string): void {
    this.#names.add(name);
  }

  delete(name: string): void {
    this.#names.delete(name);
  }

  async run(): Promise<void> {
    const { index, warn } = this.#environment;
    // Somebody may have attached one again, or deleted it.
    for (const name of this.#names)
      if (index.find(name)?.state !== 'detached' || this.#isElsewhere(name)) this.#names.delete(name);
    if (this.#names.size === 0) return;
    try {
      await this.#release([...this.#names]);
      this.#toldWhy = undefined;
    } catch (error) {
      const { message } = error as Error;
      if (message !== this.#toldWhy) {
        warn('endpoints could not be released yet; weft tries again', { error: message });
      }
      this.#toldWhy = message;
    }
  }

  /** It has moved to a host that there is, as a record says that this host does not accept. */
  #isElsewhere(name: string): boolean {
    const { refused, hostName, hosts } = this.#environment;
    return refused().isOfAnother(endpointKind, name, hostName, (owner) => hosts.isThere(owner));
  }

  /** In one transaction; one by one if one of them was changed meanwhile, so that it does not hold back the others. */
  async #release(names: readonly string[]): Promise<void> {
    const { store, index, refused } = this.#environment;
    const expect = names.map((name) => refused().expectation(endpointKind, index.find(name)!));
    try {
      await store.transact({ expect, delete: expect.map(({ key }) => key) });
      for (const name of names) this.#names.delete(name);
    } catch (error) {
      if (!(error instanceof WeftError) || error.code !== 'conflict' || names.length === 1) throw error;
      const refused: unknown[] = [];
      for (const name of names) await this.#release([name]).catch((why: unknown) => refused.push(why));
      if (refused.length > 0) throw refused[0];
    }
  }
}
