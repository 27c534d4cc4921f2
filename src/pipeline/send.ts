/**
 * Send: the destinations become actions. Addresses are translated first; then
 * what is too big for the way is stopped (an interface takes what its own network
 * has, so that is asked only where the frame leaves it); then a routed frame is
 * rewritten, and a TCP connection told at its start what the way takes (RFC 9293
 * §3.7.1). Local ports are sent to, VTEPs get the frame encapsulated with the
 * network's VNI (RFC 7348 §5).
 */
import type { Action } from '../flow/action.ts';
import type { FlowView } from '../flow/view.ts';
import { gatewayMac, tunnelObject, type Segment } from '../table/topology.ts';
import { ETH_IPV4 } from '../wire/ethernet.ts';
import { IP_TCP, IPV4_HEADER_BYTES } from '../wire/ipv4.ts';
import { IPV6_HEADER_BYTES } from '../wire/ipv6.ts';
import { TCP_HEADER_BYTES } from '../wire/l4.ts';
import { drop, type Stage, type StageContext } from './stage.ts';
import { text, type TextValue } from './text.ts';

export const send: Stage = (view, context) => {
  const { topology } = context.tables;
  const { leaves, nat } = context;
  const { vni } = context.network!;
  const actions: Action[] = [];
  if (nat) actions.push(nat);
  const mtu = leastMtu(view, context);
  if (mtu !== undefined) actions.push({ op: 'mtu', bytes: mtu });
  if (context.nextHop) {
    actions.push({ op: 'route', source: leaves?.mac ?? gatewayMac(vni), destination: context.nextHop });
  }
  const mss = context.nextHop && mssOf(view, context);
  if (mss !== undefined) actions.push({ op: 'clamp', mss });
  const ports: string[] = [];
  const vteps: Uint8Array[] = [];
  for (const where of context.destinations) {
    if (where.kind === 'port') {
      actions.push({ op: 'output', port: where.port });
      ports.push(leaves ? 'outside' : (topology.port(where.port)?.name ?? String(where.port)));
    } else {
      actions.push({ op: 'encap', vni, vtep: where.vtep });
      vteps.push(where.vtep);
    }
  }
  if (vteps.length > 0) view.consult(tunnelObject);
  if (vteps.length > 0 && topology.tunnelPort === undefined) {
    const because = text`VTEP ${vteps} is on another host, and this one has no underlay`;
    if (ports.length === 0) return drop('underlay_missing', because);
    return {
      kind: 'decide',
      because: text`send to ${some(ports)}; ${because}`,
      actions: actions.filter(({ op }) => op !== 'encap'),
    };
  }
  const sent = text`send to ${some(ports)}`;
  const encapsulated = text`encapsulate with VNI ${vni} to ${some(vteps)}`;
  const because = vteps.length === 0 ? sent : ports.length === 0 ? encapsulated : text`${sent}; ${encapsulated}`;
  return { kind: 'decide', because, actions };
};

/** The largest packet that every destination takes; undefined if the frame goes nowhere that takes less. */
function leastMtu(view: FlowView, context: StageContext): number | undefined {
  const { network, leaves, routedFrom } = context;
  const paths = pathsOf(view, context);
  if (!routedFrom && paths.length === 0) return undefined;
  const mtu = mtuOf(view, leaves ?? network!);
  if (mtu === undefined) return undefined;
  const before = routedFrom && mtuOf(view, routedFrom);
  const isSmaller = before !== undefined && mtu < before;
  if (!isSmaller && paths.length === 0) return undefined;
  return Math.min(mtu, ...paths.filter((path) => path !== undefined));
}

/** What fits the smallest network and path on the way of a TCP connection (RFC 6691); undefined for anything else. */
function mssOf(view: FlowView, context: StageContext): number | undefined {
  if (view.number('ip_proto') !== IP_TCP) return undefined;
  const { network, leaves, routedFrom } = context;
  const mtus = [mtuOf(view, leaves ?? network!), mtuOf(view, routedFrom!), ...pathsOf(view, context)];
  const known = mtus.filter((mtu) => mtu !== undefined);
  const headerBytes = (view.number('eth_type') === ETH_IPV4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES) + TCP_HEADER_BYTES;
  return known.length === 0 ? undefined : Math.min(...known) - headerBytes;
}

function mtuOf(view: FlowView, { mtu, mtuObject }: Segment): number | undefined {
  view.consult(mtuObject);
  return mtu;
}

/** What the ways to the VTEPs among the destinations take, where it is known. */
function pathsOf(view: FlowView, { tables, destinations }: StageContext): (number | undefined)[] {
  return destinations.flatMap((where) => {
    if (where.kind !== 'vtep') return [];
    const { mtu, object } = tables.topology.path(where.vtep);
    view.consult(object);
    return [mtu];
  });
}

/** The first few of a list that can be as long as a network has ports. */
function some(names: readonly TextValue[]): TextValue {
  return names.length > 4 ? text`${names.slice(0, 4)} and ${names.length - 4} more` : names;
}
