/** What a frame has to do with connections, as the datapath writes it into the key for its flow cache. */
import { INTERNAL, OUTSIDE, type Place } from '../flow/connection.ts';
import { isErrorKey, isOf, tupleOfKey } from '../flow/connection-of-key.ts';
import { ctState, fields, FRAG_LATER } from '../flow/fields.ts';
import { readNumber, writeNumber, type FlowKey } from '../flow/key.ts';
import type { PortNo } from '../flow/types.ts';
import { FlowView } from '../flow/view.ts';
import { IP_TCP } from '../wire/ipv4.ts';
import type { Tables } from './stage.ts';

/**
 * The key with the state of its connection as of now, which every decision about it begins with: mostly the key itself.
 * @param head the beginning of the frame, if there is one
 */
export function withCtState(key: FlowKey, tables: Tables, head?: Uint8Array): FlowKey {
  const state = stateOf(key, tables, head);
  if (state === readNumber(key, fields.ct_state)) return key;
  const current = key.slice();
  writeNumber(current, fields.ct_state, state);
  return current;
}

/**
 * If the key says that its packets belong to a connection whose addresses are translated: from now on, the end of that
 * connection is noted (`ConnectionTable.claim`). False if it has ended.
 */
export function claimConnection(key: FlowKey, { topology, connections }: Tables): boolean {
  const state = readNumber(key, fields.ct_state);
  if (state !== ctState.original && state !== ctState.reply) return true;
  const [place, tuple] = [placeOfKey(key, topology), tupleOfKey(key)];
  const found = place === undefined ? undefined : tuple && connections.lookup(place, tuple.protocol, tuple);
  return found !== undefined && connections.claim(found);
}

function stateOf(key: FlowKey, { topology, connections }: Tables, head: Uint8Array | undefined): number {
  if (connections.size === 0) return ctState.none;
  const place = placeOfKey(key, topology);
  if (place === undefined || !connections.hasAnyIn(place)) return ctState.none;
  const tuple = tupleOfKey(key);
  if (!tuple) return isErrorKey(key) ? ctState.error : ctState.none;
  const found = connections.lookup(place, tuple.protocol, tuple);
  if (!found) {
    const isTaken = connections.isTaken(place, tuple.protocol, tuple);
    const isBegun = isTaken && tuple.protocol === IP_TCP && new FlowView(key, head).beginsTcp() !== true;
    return isTaken && !isBegun ? ctState.taken : ctState.none;
  }
  const connection = connections.tuples(found.slot);
  if (!isOf(connection, found.reply, key)) return ctState.none;
  if (connection.kind === 'tracked') {
    if (!found.reply) return ctState.known;
    return mayBegin(key, head) ? ctState.none : ctState.known_reply;
  }
  return found.reply ? ctState.reply : ctState.original;
}

/** True if it begins a TCP connection, or may do so: the head of the frame is too short to tell. False without a frame. */
function mayBegin(key: FlowKey, head: Uint8Array | undefined): boolean {
  if (!head || readNumber(key, fields.ip_proto) !== IP_TCP || readNumber(key, fields.ip_frag) === FRAG_LATER)
    return false;
  return new FlowView(key, head).beginsTcp() !== false;
}

/** Where the tuple of this key is meaningful; undefined if nowhere. */
function placeOfKey(key: FlowKey, topology: Tables['topology']): Place | undefined {
  const portNo = readNumber(key, fields.in_port) as PortNo;
  if (portNo === topology.outside?.portNo) return OUTSIDE;
  if (portNo === topology.internal?.portNo) return INTERNAL;
  if (portNo !== topology.tunnelPort) return topology.port(portNo)?.vni;
  const vni = readNumber(key, fields.tun_vni) as Place;
  return vni === OUTSIDE ? undefined : vni;
}
