/** The blocks that this host knows of, by network and family, and what a change that is being planned writes to them. */
import { isIp4 } from '../../model/address.ts';
import type { Put } from '../../store/store.ts';
import { blockKey, blockOfKey } from './block.ts';
import { Holding, recordOf, type BlockContent } from './holding.ts';
import type { Draft } from '../reconciler.ts';

const NONE: ReadonlyMap<bigint, Holding> = new Map();

export class Holdings {
  readonly hostName: string;
  /** By network and family, then by the first address. */
  readonly #holdings = new Map<string, Map<bigint, Holding>>();
  readonly #drafts = new WeakMap<Draft, Map<Holding, BlockContent>>();

  constructor(hostName: string) {
    this.hostName = hostName;
  }

  /** The block of a network that begins with an address. */
  find(network: string, first: bigint): Holding {
    const name = spaceOf(network, first);
    const space = this.#holdings.get(name) ?? new Map<bigint, Holding>();
    const known = space.get(first);
    if (known) return known;
    const holding = new Holding({ key: blockKey(network, first), network, first }, this.hostName);
    this.#holdings.set(name, space.set(first, holding));
    return holding;
  }

  /** The blocks of a network that this host knows of, in the family of an address, by their first addresses. */
  known(network: string, address: bigint): ReadonlyMap<bigint, Holding> {
    return this.#holdings.get(spaceOf(network, address)) ?? NONE;
  }

  /** What the record will be when a change is stored. */
  contentIn(draft: Draft, holding: Holding): BlockContent {
    return this.#drafts.get(draft)?.get(holding) ?? holding.content;
  }

  /** Writes the record in a change. */
  write(draft: Draft, holding: Holding, content: BlockContent): void {
    const known = this.#drafts.get(draft);
    if (known?.has(holding) !== true) draft.onStored((revision) => holding.wrote(revision));
    this.#drafts.set(draft, (known ?? new Map<Holding, BlockContent>()).set(holding, content));
  }

  written(draft: Draft): (Put & { readonly revision: number })[] {
    return [...(this.#drafts.get(draft) ?? [])].map(([{ key, revision }, content]) => ({
      key,
      value: recordOf(content),
      revision,
    }));
  }

  delete({ network, first }: Holding): void {
    const name = spaceOf(network, first);
    const space = this.#holdings.get(name);
    space?.delete(first);
    // Networks come and go, and nothing of them is to be left here.
    if (space?.size === 0) this.#holdings.delete(name);
  }

  *all(): Iterable<Holding> {
    for (const space of this.#holdings.values()) yield* space.values();
  }

  /** Undefined if the key is not that of a block. */
  atKey(key: string): Holding | undefined {
    const place = blockOfKey(key);
    return place && this.find(place.network, place.first);
  }
}

/** The part of a network that an address is in. */
export function spaceOf(network: string, address: bigint): string {
  return `${network}/${isIp4(address) ? 4 : 6}`;
}
