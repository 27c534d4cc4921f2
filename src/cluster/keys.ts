/** The store keys of resources: `networks/blue`, `endpoints/shop/web`; and what records are called in messages. */
import { addressText } from '../model/address.ts';
import { kinds } from '../model/kinds/registry.ts';
import type { KindDefinition } from '../model/kinds/kind.ts';
import { idOf, nameOf } from '../model/resource.ts';
import { blockOfKey } from './addresses/block.ts';

/** Where hosts say that they run. */
export const LIVE = 'live/';

export function keyOf({ plural, isNamespaced }: KindDefinition, name: string): string {
  if (!isNamespaced) return `${plural}/${name}`;
  const { namespace, name: own } = nameOf(name);
  return `${plural}/${namespace}/${own}`;
}

/** Undefined if the key is not that of a resource. */
export function resourceAt(key: string): { readonly kind: KindDefinition; readonly name: string } | undefined {
  const [plural, ...rest] = key.split('/');
  const kind = kinds.find((known) => known.plural === plural);
  if (!kind || rest.length !== (kind.isNamespaced ? 2 : 1)) return undefined;
  const [namespace, name = ''] = kind.isNamespaced ? rest : [undefined, ...rest];
  return { kind, name: idOf({ name, namespace }) };
}

/** What records are that are no resources, by how their keys begin. docs/operations.md lists them, too. */
const RECORDS: readonly (readonly [beginning: string, nameOf: (rest: string) => string])[] = [
  ['allotment/networks', () => 'list of the VNIs and subnets in use'],
  ['allotment/services', () => 'ranges of service addresses'],
  ['host-claims/id/', (id) => `claim of host id ${id}`],
  ['host-claims/underlay/', (address) => `claim of underlay ${address}`],
  ['host-claims/mac/', (bits) => `claim of MAC bits ${bits}`],
  ['keys/probe', () => 'key of the probes'],
  [LIVE, (host) => `presence of host "${host}"`],
  ['node-ports/', (port) => `claim of node port ${port}`],
  ['unconfirmed/of/', (key) => `unconfirmed change of ${nameOfKey(key)}`],
  ['unconfirmed/change', () => 'unconfirmed change'],
  ['unhealthy/', (host) => `unhealthy backends of host "${host}"`],
  ['vips/', (address) => `claim of service address ${address}`],
];

/** `network "blue"`, `address block 10.0.0.16 of network "blue"`; for what weft does not know, its key. */
export function nameOfKey(key: string): string {
  const at = resourceAt(key);
  if (at) return `${at.kind.kind.toLowerCase()} "${at.name}"`;
  const block = blockOfKey(key);
  if (block) return `address block ${addressText(block.first)} of network "${block.network}"`;
  const [beginning, nameOf] = RECORDS.find(([start]) => key.startsWith(start)) ?? [];
  return beginning !== undefined && nameOf ? nameOf(key.slice(beginning.length)) : `record "${key}"`;
}
