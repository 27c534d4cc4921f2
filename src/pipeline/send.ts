/**
 * Send: turns the destinations into actions.
 *
 * 1. Addresses are translated. What goes from a network to a network as it is, is tracked: what begins a conversation opens a
 *    record of it, and what is known is counted there.
 * 2. Packets that are too large for the next hop are stopped. An interface sends only what its own
 *    segment takes, so this is needed only where the frame leaves the segment; the sender is told
 *    (`too-big.ts`).
 * 3. A routed frame gets the MAC addresses of its next hop, and a TCP connection learns at its start
 *    which segment size fits the path (RFC 9293 §3.7.1).
 * 4. Local ports get the frame, VTEPs get it encapsulated with the network's VNI (RFC 7348 §5).
 */
import { outputTo, type Action } from '../flow/action.ts';
import { ctState } from '../flow/fields.ts';
import type { Treatment } from '../flow/treatment.ts';
import type { PortNo } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { tunnelObject, type Segment, type Topology } from '../table/topology.ts';
import type { TunnelPath } from '../table/vteps.ts';
import { ETH_IPV4 } from '../wire/ethernet.ts';
import { IP_TCP, IPV4_HEADER_BYTES } from '../wire/ipv4.ts';
import { IPV6_HEADER_BYTES } from '../wire/ipv6.ts';
import { TCP_HEADER_BYTES } from '../wire/l4.ts';
import type { Destination, Hop } from './hop.ts';
import { segmentOf } from './origin.ts';
import { drop, type Bridged, type Effect, type Stage } from './stage.ts';
import { text, type TextValue } from './text.ts';
import { tooBig } from './too-big.ts';

type VtepDestination = Extract<Destination, { readonly kind: 'vtep' }>;

export const send: Stage<Bridged, never> = (view, known) => {
  const { tables, origin, nat, hop, treatment } = known;
  const { topology } = tables;
  const { macs, segment } = hop;
  const ports: PortNo[] = [];
  const vteps: VtepDestination[] = [];
  for (const to of hop.destinations) {
    if (to.kind === 'port') ports.push(to.port);
    else vteps.push(to);
  }
  const paths = vteps.length === 0 ? noPaths : pathsTo(view, topology, vteps);
  const room = { from: segmentOf(origin), to: segment, paths };
  const mtu = leastMtu(view, room);
  const mss = macs && mssOf(view, room);

  const actions: Action[] = [];
  const connecting = nat?.action ?? tracking(view, hop, treatment);
  if (connecting) actions.push(connecting);
  if (mtu !== undefined) actions.push({ op: 'mtu', bytes: mtu });
  if (macs) actions.push({ op: 'route', source: macs.source, destination: macs.destination });
  if (mss !== undefined) actions.push({ op: 'clamp', mss });
  for (const port of ports) actions.push(outputTo(port));
  const effects = mtu !== undefined && view.isLargerThan(mtu) ? tooBig(view, origin, mtu) : nobodyTold;
  const connection = nat?.connection;
  const sent = text`send to ${ports.length === 1 ? topology.portName(ports[0]!) : some(ports, (port) => topology.portName(port))}`;
  const first = vteps[0];
  if (!first) return { kind: 'decide', because: sent, actions, effects, connection };

  view.consult(tunnelObject);
  const addresses = vteps.map(({ vtep }) => vtep);
  if (topology.tunnelPort === undefined) {
    const why = text`VTEP ${addresses} is on another host, and this one has no underlay`;
    if (ports.length === 0) return drop('underlay_missing', why);
    return { kind: 'decide', because: text`${sent}; ${why}`, actions, effects, connection };
  }
  for (const { vni, vtep } of vteps) actions.push({ op: 'encap', vni, vtep });
  const encapsulated = text`encapsulate with VNI ${first.vni} to ${some(addresses, (address) => address)}`;
  const because = ports.length === 0 ? encapsulated : text`${sent}; ${encapsulated}`;
  return { kind: 'decide', because, actions, effects, connection };
};

/** Undefined if the packet is for a group, is an error, or has the ends of a translated connection. */
function tracking(view: FlowView, { replies }: Hop, treatment: Treatment | undefined): Action | undefined {
  if (replies === undefined) return undefined;
  switch (view.number('ct_state')) {
    case ctState.none:
      return { op: 'track', replies, replyFlow: 0, ...(treatment && { treatment }) };
    case ctState.known:
    case ctState.known_reply:
      return { op: 'count' };
    default:
      return undefined;
  }
}

const MOST_NAMED = 4;
const nobodyTold: readonly Effect[] = [];
const noPaths: readonly TunnelPath[] = [];

/** The limits for packets on their path. */
interface Room {
  /** The packets already fit into this one. */
  readonly from: Segment;
  readonly to: Segment;
  /** The paths to the VTEPs among the destinations. */
  readonly paths: readonly TunnelPath[];
}

/** The largest packet that all destinations accept; undefined if none accepts less than where the frame came from. */
function leastMtu(view: FlowView, { from, to, paths }: Room): number | undefined {
  if (from === to && paths.length === 0) return undefined;
  const mtu = mtuOf(view, to);
  if (mtu === undefined) return undefined;
  const before = from === to ? undefined : mtuOf(view, from);
  const isSmaller = before !== undefined && mtu < before;
  if (!isSmaller && paths.length === 0) return undefined;
  return paths.reduce((least, path) => Math.min(least, path.mtu ?? least), mtu);
}

/**
 * The segment size that fits the smallest limit on the path of a TCP connection (RFC 6691); undefined for anything
 * else.
 */
function mssOf(view: FlowView, { from, to, paths }: Room): number | undefined {
  if (view.number('ip_proto') !== IP_TCP) return undefined;
  const mtus = [mtuOf(view, to), mtuOf(view, from), ...paths.map(({ mtu }) => mtu)];
  const known = mtus.filter((mtu) => mtu !== undefined);
  const headerBytes = (view.number('eth_type') === ETH_IPV4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES) + TCP_HEADER_BYTES;
  return known.length === 0 ? undefined : Math.min(...known) - headerBytes;
}

function mtuOf(view: FlowView, { mtu, mtuObject }: Segment): number | undefined {
  view.consult(mtuObject);
  return mtu;
}

function pathsTo(view: FlowView, topology: Topology, vteps: readonly VtepDestination[]): readonly TunnelPath[] {
  return vteps.map(({ vtep }) => {
    const path = topology.vteps.path(vtep);
    view.consult(path.object);
    return path;
  });
}

/** The first few of a list that can be as long as a network has ports. */
function some<T>(all: readonly T[], nameOf: (one: T) => TextValue): TextValue {
  const names = all.slice(0, MOST_NAMED).map(nameOf);
  return all.length > MOST_NAMED ? text`${names} and ${all.length - MOST_NAMED} more` : names;
}
