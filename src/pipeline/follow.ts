/**
 * Follow: where a route leads. Of several next hops, the flow hash selects one, so that a flow keeps its path (RFC 2992).
 * The next hop's MAC is known, has failed, or must be asked for while the frame waits.
 */
import type { FlowView } from '../flow/view.ts';
import { formatPrefix, type Route } from '../table/routes.ts';
import { networkNameObject, type VirtualNetwork } from '../table/topology.ts';
import { leave } from './outside.ts';
import type { PortOrigin } from './origin.ts';
import { refuse, sendTo } from './routed.ts';
import { drop, type Balanced, type Routed, type StageResult, type Tables } from './stage.ts';
import { text } from './text.ts';

/** @param destination where the packet goes, which may be another address than it has */
export function follow(
  view: FlowView,
  known: Balanced,
  origin: PortOrigin,
  found: Route,
  destination: Uint8Array,
): StageResult<Routed> {
  const prefix = formatPrefix(found.prefix);
  switch (found.kind) {
    case 'blackhole':
      return drop('route_blackhole', text`blackhole ${prefix}`);
    case 'unreachable':
      return refuse(view, origin, 'route_unreachable', text`unreachable ${prefix}`, 'host_unreachable');
    case 'prohibit':
      return refuse(view, origin, 'route_prohibit', text`prohibit ${prefix}`, 'prohibited');
    case 'outside':
      return leave(view, known, origin);
    case 'network':
    case 'via': {
      const network = networkNamed(view, known.tables, found.network);
      if (!network) {
        const why = text`${prefix} leads to network ${found.network}, which does not exist here`;
        return refuse(view, origin, 'no_route', why, 'net_unreachable');
      }
      const hop = found.kind === 'via' ? choose(view, found.hops) : destination;
      const via = found.kind === 'via' ? text`via ${hop} in network ${network.name}` : text`in network ${network.name}`;
      return sendTo(view, known, { network, hop }, text`${prefix} ${via}`);
    }
    default:
      return found satisfies never;
  }
}

/** Selects one of several equal next hops by what distinguishes flows. Fragments go with their flow. */
function choose(view: FlowView, hops: readonly Uint8Array[]): Uint8Array {
  if (hops.length === 1) return hops[0]!;
  let hash = 0x811c9dc5;
  const mix = (byte: number): void => void (hash = Math.imul(hash ^ byte, 0x01000193));
  for (const name of ['ip_src', 'ip_dst'] as const) view.bytes(name).forEach(mix);
  mix(view.number('ip_proto'));
  for (const name of ['l4_src', 'l4_dst'] as const) {
    mix(view.number(name) >>> 8);
    mix(view.number(name) & 0xff);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return hops[(hash >>> 16) % hops.length]!;
}

export function networkNamed(view: FlowView, { topology }: Tables, name: string): VirtualNetwork | undefined {
  view.consult(networkNameObject(name));
  return topology.networkNamed(name);
}
