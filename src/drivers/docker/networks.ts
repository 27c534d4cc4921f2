/**
 * Which of weft's networks each network of Docker is. Docker does not say it again when either of them restarts, so it is
 * kept in the host's own store.
 */
import { WeftError } from '../../error.ts';
import { quote } from '../../model/value.ts';
import type { Store } from '../../store/store.ts';

const PREFIX = 'docker/networks/';

export class DockerNetworks {
  readonly #store: Store;
  /** By Docker's id. */
  #known: Promise<Map<string, string>> | undefined;

  constructor(store: Store) {
    this.#store = store;
  }

  /** The name of weft's. @throws WeftError('not_found') */
  async nameOf(id: string): Promise<string> {
    const name = (await this.#load()).get(id);
    if (name === undefined) {
      throw new WeftError(
        'not_found',
        `weft does not know Docker's network ${quote(id)}: remove it with \`docker network rm\`, and create it again`,
      );
    }
    return name;
  }

  async set(id: string, network: string): Promise<void> {
    const known = await this.#load();
    await this.#store.transact({ put: [{ key: PREFIX + id, value: { network } }] });
    known.set(id, network);
  }

  async delete(id: string): Promise<void> {
    const known = await this.#load();
    if (!known.has(id)) return;
    await this.#store.transact({ delete: [PREFIX + id] });
    known.delete(id);
  }

  /** Read once, however many ask at the same time. */
  #load(): Promise<Map<string, string>> {
    this.#known ??= this.#read().catch((error: unknown) => {
      this.#known = undefined;
      throw error;
    });
    return this.#known;
  }

  async #read(): Promise<Map<string, string>> {
    const { entries } = await this.#store.list(PREFIX);
    const read = entries.map(({ key, value }): [string, string] => [
      key.slice(PREFIX.length),
      (value as { readonly network: string }).network,
    ]);
    return new Map(read);
  }
}
