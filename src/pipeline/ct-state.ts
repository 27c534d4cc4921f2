/** What a frame has to do with connections, as the datapath writes it into the key for its flow cache. */
import { INTERNAL, OUTSIDE, type Place } from '../flow/connection.ts';
import { isErrorKey, isOf, stateOfError, tupleOfKey } from '../flow/connection-of-key.ts';
import { ctState, fields } from '../flow/fields.ts';
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
 * False if no frame has the key of this cached flow any more. What is decided about the beginning of a conversation, or about
 * one that is only tracked, holds for others between the same ends, too, whatever has become of that for which it was decided.
 */
export function isCurrent(key: FlowKey, tables: Tables): boolean {
  switch (readNumber(key, fields.ct_state)) {
    case ctState.none:
    case ctState.known:
    case ctState.known_reply:
      return true;
    default:
      return withCtState(key, tables) === key;
  }
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
  if (!tuple) return isErrorKey(key) ? errorOf(key, place, connections, head) : ctState.none;
  const found = connections.lookup(place, tuple.protocol, tuple);
  if (!found) {
    const isTaken = connections.isTaken(place, tuple.protocol, tuple);
    const isBegun = isTaken && tuple.protocol === IP_TCP && new FlowView(key, head).beginsTcp() !== true;
    return isTaken && !isBegun ? ctState.taken : ctState.none;
  }
  const connection = connections.tuples(found.slot);
  if (!isOf(connection, found.reply, key)) return ctState.none;
  if (connection.kind === 'tracked') {
    if (beginsAnother(key, head, (sequence) => connections.isAnotherSyn(found, sequence))) return ctState.none;
    return found.reply ? ctState.known_reply : ctState.known;
  }
  if (found.reply) return ctState.reply;
  const isAnother = beginsAnother(key, head, (sequence) => connections.isGivenUp(found.slot, sequence));
  return isAnother ? ctState.none : ctState.original;
}

/** Without a frame, the error may be about any connection. */
function errorOf(key: FlowKey, place: Place, connections: Tables['connections'], head: Uint8Array | undefined): number {
  const icmp = new FlowView(key, head).icmp();
  if (!icmp) return ctState.error;
  return stateOfError(key, icmp, ({ protocol, ...tuple }) => {
    const found = connections.lookup(place, protocol, tuple);
    return found && { kind: connections.tuples(found.slot).kind, reply: found.reply };
  });
}

/** True if it is a SYN of which `isAnother` is true. False if that cannot be seen: without a frame, or with a too short one. */
function beginsAnother(key: FlowKey, head: Uint8Array | undefined, isAnother: (sequence: number) => boolean): boolean {
  if (!head || readNumber(key, fields.ip_proto) !== IP_TCP) return false;
  const view = new FlowView(key, head);
  return view.beginsTcp() === true && isAnother(view.tcpSequence()!);
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
