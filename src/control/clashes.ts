/**
 * Clashes: traffic from the tunnel that shows that two hosts do not fit together, such as a sender
 * that is not a peer, or the MAC or address of an endpoint of this host.
 *
 * They are recognized from decisions to drop, when those are made and for as long as frames match
 * them. Anybody on the underlay can forge them, so they are only reported to the operator and decide
 * nothing. Of each kind, the latest MOST_OF_A_KIND are kept until they have not been seen for
 * KEPT_MS, or whatever they clashed with is gone. Some show themselves rarely, such as an address that is asked for now and
 * then, so it is told when each was seen last.
 */
import { fields } from '../flow/fields.ts';
import { bytesId, readBytes, readNumber, type FlowKey } from '../flow/key.ts';
import type { DropReason } from '../flow/reason.ts';
import { sameBytes, type Vni } from '../flow/types.ts';
import { FlowView } from '../flow/view.ts';
import { claimOf } from '../pipeline/claim.ts';
import type { Tables } from '../pipeline/stage.ts';

export const MOST_OF_A_KIND = 16;
export const KEPT_MS = 600_000;

export type Clash = { readonly vtep: Uint8Array } & (
  | { readonly kind: 'stranger' }
  /** A peer has a network that this host does not have. */
  | { readonly kind: 'vni'; readonly vni: Vni }
  /** A peer sends from a MAC of this host: an endpoint's, or the one with which the host asks for neighbors. */
  | { readonly kind: 'mac'; readonly vni: Vni; readonly mac: Uint8Array }
  /** A peer claims an address that an endpoint here has, or that is declared for another place. */
  | { readonly kind: 'address'; readonly vni: Vni; readonly ip: Uint8Array }
);

export interface SeenClash {
  readonly clash: Clash;
  /** When it was seen last. */
  readonly atMs: number;
}

export class Clashes {
  readonly #tables: Pick<Tables, 'topology' | 'fdb' | 'neighbors'>;
  /** By kind, least recently seen first. */
  readonly #seen: Readonly<Record<Clash['kind'], Map<string, SeenClash>>> = {
    stranger: new Map(),
    vni: new Map(),
    mac: new Map(),
    address: new Map(),
  };

  constructor(tables: Pick<Tables, 'topology' | 'fdb' | 'neighbors'>) {
    this.#tables = tables;
  }

  /** Notes that frames of this flow are dropped for `reason`. Returns the clash if it is new. */
  note(flow: { readonly key: FlowKey }, reason: DropReason, atMs: number): Clash | undefined {
    const clash = this.#read(flow, reason);
    if (!clash) return undefined;
    const seen = this.#seen[clash.kind];
    const id = idOf(clash);
    const before = seen.get(id);
    if (!seen.delete(id) && seen.size >= MOST_OF_A_KIND) seen.delete(seen.keys().next().value!);
    seen.set(id, { clash, atMs });
    return before && atMs - before.atMs < KEPT_MS ? undefined : clash;
  }

  /** All that still are clashes, the latest last. */
  all(nowMs: number): SeenClash[] {
    return Object.values(this.#seen).flatMap((seen) =>
      [...seen.values()].filter(({ clash, atMs }) => nowMs - atMs < KEPT_MS && this.#isOne(clash)),
    );
  }

  #read(flow: { readonly key: FlowKey }, reason: DropReason): Clash | undefined {
    switch (reason) {
      case 'vxlan_unknown_vtep':
      case 'vxlan_unknown_vni': {
        const { vtep, vni } = senderOf(flow.key);
        return this.#tables.topology.vteps.has(vtep) ? { kind: 'vni', vtep, vni } : { kind: 'stranger', vtep };
      }
      case 'vxlan_source_local': {
        const { key } = flow;
        return { kind: 'mac', ...senderOf(key), mac: readBytes(key, fields.eth_src).slice() };
      }
      case 'vxlan_spoof_arp':
      case 'vxlan_spoof_nd': {
        const claim = claimOf(new FlowView(flow.key));
        return claim && { kind: 'address', ...senderOf(flow.key), ip: claim.ip };
      }
      default:
        return undefined;
    }
  }

  #isOne(clash: Clash): boolean {
    const { topology, fdb, neighbors } = this.#tables;
    switch (clash.kind) {
      case 'stranger':
        return !topology.vteps.has(clash.vtep);
      case 'vni':
        return topology.vteps.has(clash.vtep) && topology.network(clash.vni) === undefined;
      case 'mac':
        return sameBytes(clash.mac, topology.hostMac) || fdb.lookup(clash.vni, clash.mac)?.where.kind === 'port';
      case 'address':
        return neighbors.lookup(clash.vni, clash.ip) !== undefined;
      default:
        return clash satisfies never;
    }
  }
}

function senderOf(key: FlowKey): { readonly vtep: Uint8Array; readonly vni: Vni } {
  return { vtep: readBytes(key, fields.tun_src).slice(), vni: readNumber(key, fields.tun_vni) as Vni };
}

function idOf(clash: Clash): string {
  const vtep = bytesId(clash.vtep);
  switch (clash.kind) {
    case 'stranger':
      return vtep;
    case 'vni':
      return `${clash.vni}/${vtep}`;
    case 'mac':
      return `${clash.vni}/${bytesId(clash.mac)}/${vtep}`;
    case 'address':
      return `${clash.vni}/${bytesId(clash.ip)}/${vtep}`;
    default:
      return clash satisfies never;
  }
}
