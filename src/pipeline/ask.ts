/**
 * Whom weft asks who has an address: the ports that may send from it, trusted ports (which may send from any
 * address), and the other hosts behind which one of these may be.
 */
import type { FlowView } from '../flow/view.ts';
import type { VirtualNetwork } from '../table/topology.ts';
import { ETH_ARP } from '../wire/ethernet.ts';
import { carriers } from './flood.ts';
import type { Destination, FoundDestinations } from './hop.ts';
import { drop, type Drop, type Tables } from './stage.ts';
import { countText, text } from './text.ts';

/** The destinations of a request that weft itself makes, by ARP or neighbor discovery. */
export function ask(view: FlowView, tables: Tables, { vni, ports }: VirtualNetwork): FoundDestinations | Drop {
  const { topology } = tables;
  // The result depends on what each port may send, and each request is decided separately, so it is never cached.
  view.forThisFrame();
  const ip = view.bytes(view.number('eth_type') === ETH_ARP ? 'ip_dst' : 'nd_target');
  const destinations: Destination[] = [];
  for (const port of ports) {
    if (topology.port(port)?.trust || topology.maySendFrom(port, ip)) destinations.push({ kind: 'port', port });
  }
  const local = destinations.length;
  for (const vtep of carriers(view, tables, vni, ip)) destinations.push({ kind: 'vtep', vtep, vni });
  if (destinations.length === 0) return drop('no_destination', text`no port and no peer can have ${ip}`);
  const others = destinations.length - local;
  return {
    because: text`who has ${ip}: ask ${countText(local, 'port')} and ${countText(others, 'VTEP')}`,
    destinations,
  };
}
