/**
 * Bridge: behind which port or VTEP the destination is.
 *
 * 1. On a link there is only one destination: the port that route has named. So it is for what goes to another host itself.
 * 2. ARP requests and neighbor solicitations from local ports for an endpoint that weft knows are
 *    answered here and never flooded (`answer.ts`).
 * 3. Requests that weft itself makes go to those who may answer (`ask.ts`).
 * 4. A known unicast destination goes to its one place. If that is behind a VTEP that is down, the frame is
 *    refused. What came from outside only goes to hosts that share the store, which know what it is (`entry.ts`).
 * 5. Everything else is flooded to the other local ports of the network and, if it came from one of
 *    them, to the VTEPs that need it and are not down (head-end replication, `flood.ts`). A frame from a
 *    tunnel never goes back into one (split horizon).
 */
import { isGroupMac, type PortNo, type Vni } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { choiceOf } from '../table/openings.ts';
import type { VirtualNetwork } from '../table/topology.ts';
import { vtepObject, vtepStateObject } from '../table/vteps.ts';
import { answer } from './answer.ts';
import { ask } from './ask.ts';
import { floodedVteps } from './flood.ts';
import { toPort, type Destination, type FoundDestinations, type Way } from './hop.ts';
import { mayEnterTunnel, type FrameOrigin } from './origin.ts';
import { ofOneChoice, refuse } from './routed.ts';
import {
  drop,
  locate,
  next,
  type Bridged,
  type Drop,
  type Routed,
  type Stage,
  type Tables,
  type Verdict,
} from './stage.ts';
import { countText, text, type Text } from './text.ts';

export const bridge: Stage<Routed, Bridged> = (view, known) => {
  const { tables, origin, way, nat, begins } = known;
  const found = destinationsOf(view, known);
  if ('kind' in found) {
    const choice = begins && choiceOf(begins.opening);
    if (choice) ofOneChoice(view, choice);
    return found;
  }
  const segment = way.kind === 'link' ? way.segment : way.network;
  const { destinations } = found;
  const replies = repliesIn(view, known, destinations);
  const hop = { destinations, macs: way.macs, segment, ...(replies !== undefined && { replies }) };
  return next(found.because, { tables, origin, nat, begins, hop });
};

/**
 * Where replies to a packet come in that goes from a network to a network: from a local port, in the network of that. The host
 * of any other destination routes them, so they come in the network of the packet’s sender.
 */
function repliesIn(
  view: FlowView,
  { origin, way }: Routed,
  [first, ...others]: readonly Destination[],
): Vni | undefined {
  if (way.kind !== 'network' || (origin.kind !== 'port' && origin.kind !== 'tunnel')) return undefined;
  const { macs, network } = way;
  if (!macs) return isGroupMac(view.bytes('eth_dst')) ? undefined : network.vni;
  return first?.kind === 'vtep' && others.length === 0 ? origin.network.vni : network.vni;
}

function destinationsOf(view: FlowView, known: Routed): FoundDestinations | Verdict {
  const { way } = known;
  switch (way.kind) {
    case 'link':
      return atLink(way);
    case 'host':
      return atHost(view, known, way);
    case 'network':
      return inNetwork(view, known, way);
    default:
      return way satisfies never;
  }
}

function atHost(
  view: FlowView,
  known: Routed,
  { network: { vni }, vtep }: Extract<Way, { kind: 'host' }>,
): FoundDestinations | Drop {
  const because = text`to the host at VTEP ${vtep}`;
  const down = refuseDown(view, known, vtep, text`${because}, which is down`);
  return down ?? { because, destinations: [{ kind: 'vtep', vtep, vni }] };
}

function atLink({ port, end, macs }: Extract<Way, { kind: 'link' }>): FoundDestinations {
  return { because: text`to ${end}, ${macs.destination}`, destinations: [{ kind: 'port', port }] };
}

function inNetwork(
  view: FlowView,
  known: Routed,
  { network, macs }: Extract<Way, { kind: 'network' }>,
): FoundDestinations | Verdict {
  const { tables, origin } = known;
  const { vni } = network;
  const mac = macs?.destination ?? view.bytes('eth_dst');
  if (isGroupMac(mac)) {
    if (origin.kind === 'weft') return ask(view, tables, network);
    return answer(view, tables, origin) ?? flood(view, known, network, mac, text`${mac} is a group address`);
  }

  const entry = locate(view, tables, vni, mac);
  if (!entry) {
    // weft itself asks a single host only where that host is known to be, and nowhere else.
    if (origin.kind === 'weft') return drop('no_destination', text`${mac} is unknown`);
    return flood(view, known, network, mac, text`${mac} is unknown`);
  }
  const { where } = entry;
  const source = entry.isStatic ? 'endpoint' : 'learned';
  if (where.kind === 'vtep' && !mayGoTo(view, tables, origin, where.vtep)) {
    return drop('split_horizon', text`${mac} is behind a tunnel (${source}), and so is its source`);
  }
  if (where.kind === 'port' && where.port === view.number('in_port') && !macs) {
    return drop('same_port', text`${mac} is behind the port that it came from (${source})`);
  }
  const because = entry.isStatic ? text`${mac} is an endpoint’s` : text`${mac} is learned`;
  if (where.kind === 'vtep') {
    const down = refuseDown(view, known, where.vtep, text`${because}, behind VTEP ${where.vtep}, which is down`);
    if (down) return down;
  }
  return { because, destinations: [where.kind === 'port' ? where : { kind: 'vtep', vtep: where.vtep, vni }] };
}

function mayGoTo(view: FlowView, { topology }: Tables, origin: FrameOrigin, vtep: Uint8Array): boolean {
  if (origin.kind !== 'outside') return mayEnterTunnel(origin);
  view.consult(vtepObject(vtep));
  return topology.vteps.isSharing(vtep);
}

/** The sender is told if the frame was routed: a bridge tells nobody. */
function refuseDown(view: FlowView, { tables, origin, way }: Routed, vtep: Uint8Array, why: Text): Drop | undefined {
  view.consult(vtepStateObject(vtep));
  if (!tables.topology.vteps.isDown(vtep)) return undefined;
  return way.macs ? refuse(view, origin, 'vtep_down', why, 'host_unreachable') : drop('vtep_down', why);
}

function flood(
  view: FlowView,
  { tables, origin }: Routed,
  { vni, ports, trustedPorts, portsObject }: VirtualNetwork,
  mac: Uint8Array,
  why: Text,
): FoundDestinations | Drop {
  view.consult(portsObject);
  const inPort = view.number('in_port') as PortNo;
  const destinations: Destination[] = [];
  // Another host does not say whether policies select the sender; and a MAC that is unknown is that of no untrusted port.
  const among = origin.kind === 'tunnel' && !isGroupMac(mac) ? trustedPorts : ports;
  for (const port of among) if (port !== inPort) destinations.push(toPort(port));
  const local = destinations.length;
  if (mayEnterTunnel(origin)) {
    for (const vtep of floodedVteps(view, tables, vni, mac)) destinations.push({ kind: 'vtep', vtep, vni });
  }
  if (destinations.length === 0) return nowhere(tables, origin, why);
  const others = destinations.length - local;
  return {
    because: text`${why}: flood to ${countText(local, 'port')} and ${countText(others, 'VTEP')}`,
    destinations,
  };
}

function nowhere({ topology }: Tables, origin: FrameOrigin, why: Text): Drop {
  const { vteps } = topology;
  const down = mayEnterTunnel(origin) && vteps.all().length > 0 && vteps.reachable().length === 0;
  return down
    ? drop('vtep_down', text`${why}, the network has no other port, and all peers are down`)
    : drop('no_destination', text`${why}, and the network has no other port or peer`);
}
