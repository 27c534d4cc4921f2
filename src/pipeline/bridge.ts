/**
 * Bridge: which port or VTEP the destination is behind.
 *
 * 1. ARP requests and neighbor solicitations from local ports for an endpoint
 *    that weft knows are answered here, never flooded (`answer.ts`).
 * 2. A known unicast destination goes to its one place.
 * 3. Everything else is flooded to the other local ports of the network and,
 *    when it came from one of them, to each VTEP (head-end replication); what
 *    came from a tunnel never goes back into one (split horizon).
 */
import { isGroupMac, type PortNo } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import type { Location } from '../table/fdb.ts';
import { vtepsObject } from '../table/topology.ts';
import { answer } from './answer.ts';
import { drop, locate, next, type Stage, type StageContext, type StageResult } from './stage.ts';
import { text, type Text } from './text.ts';

export const bridge: Stage = (view, context) => {
  if (context.leaves) {
    context.destinations = [{ kind: 'port', port: context.leaves.portNo }];
    return next(text`to the host’s end, ${context.leaves.hostMac}`);
  }
  const mac = context.nextHop ?? view.bytes('eth_dst');
  if (isGroupMac(mac)) {
    return answer(view, context) ?? flood(view, context, text`${mac} is a group address`);
  }

  const { vni } = context.network!;
  const entry = locate(view, context.tables, vni, mac);
  if (!entry) return flood(view, context, text`${mac} is unknown`);

  const { where } = entry;
  const origin = entry.isStatic ? 'endpoint' : 'learned';
  if (where.kind === 'vtep' && !context.port) {
    return drop('split_horizon', text`${mac} is behind a tunnel (${origin}), and so is its source`);
  }
  if (where.kind === 'port' && where.port === view.number('in_port') && !context.nextHop) {
    return drop('same_port', text`${mac} is behind the port that it came from (${origin})`);
  }
  context.destinations = [where];
  return next(entry.isStatic ? text`${mac} is an endpoint’s` : text`${mac} is learned`);
};

function flood(view: FlowView, context: StageContext, why: Text): StageResult {
  const { topology } = context.tables;
  const network = context.network!;
  view.consult(network.portsObject);
  const inPort = view.number('in_port') as PortNo;
  const destinations: Location[] = [];
  for (const port of network.ports) if (port !== inPort) destinations.push({ kind: 'port', port });
  const ports = destinations.length;
  if (context.port) {
    view.consult(vtepsObject);
    for (const vtep of topology.vteps()) destinations.push({ kind: 'vtep', vtep });
  }
  if (destinations.length === 0) return drop('no_destination', text`${why}, and the network has no other port or peer`);
  context.destinations = destinations;
  return next(text`${why}: flood to ${count(ports, 'port')} and ${count(destinations.length - ports, 'VTEP')}`);
}

function count(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? '' : 's'}`;
}
