/**
 * What routing learns about its neighbors from frames: a container that takes over an address announces
 * it (RFC 5227 §3, RFC 4861 §7.2.6), and whoever asks says who they are. If an address has another owner
 * than was known, that takes effect at once, so that a virtual address moves without a pause.
 *
 * It learns only about addresses that this host has asked for. Frames that say what is already known
 * bring no news: they are decided once, and then cached.
 */
import { isGroupMac, sameBytes } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { neighborObject } from '../table/neighbor.ts';
import { isReservedMac } from '../table/topology.ts';
import { claimOf } from './claim.ts';
import type { OriginInNetwork } from './origin.ts';
import type { Effect, Tables } from './stage.ts';

/** The news in a frame that was not refused. */
export function hear(view: FlowView, tables: Tables, { network }: OriginInNetwork): readonly Effect[] {
  const claim = claimOf(view);
  if (!claim || isGroupMac(claim.mac) || isReservedMac(claim.mac)) return [];
  const { vni } = network;
  const { ip, mac } = claim;
  view.consult(neighborObject(vni, ip));
  if (!tables.neighbors.isWanted(vni, ip)) return [];
  const known = tables.neighbors.resolve(vni, ip);
  return known instanceof Uint8Array && sameBytes(known, mac) ? [] : [{ kind: 'neighbor', vni, ip, mac }];
}
