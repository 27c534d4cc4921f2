/**
 * What another host may send through the tunnel. That host checks its own containers, as this host does
 * with its own. But whatever it claims, it is not believed if this host knows otherwise. A host of the store
 * is believed only what the store says, too (`owned.ts`).
 *
 * 1. The source MAC must not be a local port's, nor this host's own.
 * 2. It must not be that of an endpoint that is declared to be on yet another host.
 * 3. The gateway's MAC, which is the same on all hosts, may be on routed packets, and on a gateway's
 *    requests for a neighbor.
 * 4. ARP and neighbor discovery about known addresses must agree with what is known: the addresses
 *    of local endpoints, of declared ones, and of the gateway.
 * 5. Routers and DHCP servers must be local, or declared and trusted.
 */
import { sameBytes, type Vni } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { neighborObject } from '../table/neighbor.ts';
import { gatewayMac, isHostMac, isReservedMac } from '../table/topology.ts';
import { ETH_ARP, ETH_IPV4, ETH_IPV6 } from '../wire/ethernet.ts';
import { claimOf, type Claim } from './claim.ts';
import { refuseUnownedAddress, refuseUnownedMac, type Foreign } from './owned.ts';
import { refuseServer } from './server.ts';
import { drop, firstRefusal, locate, type Drop, type Tables } from './stage.ts';
import { text } from './text.ts';

/** Why its source MAC is refused; undefined if the sender may have it. */
export function refuseForeignSource(view: FlowView, tables: Tables, foreign: Foreign): Drop | undefined {
  const { vni, vtep, hostMac, mac, known } = foreign;
  if (sameBytes(mac, tables.topology.hostMac)) {
    return drop('vxlan_source_local', text`${mac} is the MAC by which this host asks for neighbors`);
  }
  if (isReservedMac(mac) && !isHostMac(mac) && !isGateway(mac, vni)) {
    return drop('vxlan_spoof_gateway', text`${mac} is a MAC of weft’s own that no host sends from here`);
  }
  if (known?.isStatic && known.where.kind === 'port') {
    return drop('vxlan_source_local', text`${mac} is the MAC of a port of this host`);
  }
  if (hostMac && !isGateway(mac, vni)) return refuseUnownedMac(view, tables, foreign);
  if (!known?.isStatic || known.where.kind === 'port') return undefined;
  if (sameBytes(known.where.vtep, vtep)) return undefined;
  return drop('vxlan_source_elsewhere', text`${mac} is declared to be behind VTEP ${known.where.vtep}, not ${vtep}`);
}

/** Why the rest is refused, but for what is routed; undefined if it does not contradict anything that is known. */
export function refuseForeign(view: FlowView, tables: Tables, foreign: Foreign): Drop | undefined {
  if (foreign.known?.workload?.trust) return undefined;
  const type = view.number('eth_type');
  return (
    (foreign.hostMac && !isGateway(foreign.mac, foreign.vni)
      ? refuseUnownedAddress(view, tables, foreign)
      : undefined) ?? firstRefusal(rulesOf(type), view, tables, foreign)
  );
}

type Rule = typeof refuseForeignSource;

function rulesOf(type: number): readonly Rule[] {
  switch (type) {
    case ETH_ARP:
      return [checkClaim];
    case ETH_IPV4:
      return [refuseServer];
    case ETH_IPV6:
      return [refuseServer, checkClaim];
    default:
      return [checkGateway];
  }
}

/** Routers route IP only. */
function checkGateway(_view: FlowView, _tables: Tables, { mac, vni }: Foreign): Drop | undefined {
  return isGateway(mac, vni) ? drop('vxlan_spoof_gateway', text`${mac} is the gateway’s, which sends IP`) : undefined;
}

function checkClaim(view: FlowView, tables: Tables, foreign: Foreign): Drop | undefined {
  const { vni, mac } = foreign;
  const claim = claimOf(view);
  if (!claim) return view.number('eth_type') === ETH_ARP ? checkGateway(view, tables, foreign) : undefined;
  const isOfGateway = tables.topology.network(vni)!.gateways.some((ip) => sameBytes(ip, claim.ip));
  if (isOfGateway ? !isGateway(claim.mac, vni) : isGateway(claim.mac, vni) || isGateway(mac, vni)) {
    return drop('vxlan_spoof_gateway', text`${claim.ip} at ${claim.mac}: it speaks for the gateway`);
  }
  return checkKnown(view, tables, foreign, claim);
}

function checkKnown(view: FlowView, tables: Tables, foreign: Foreign, claim: Claim): Drop | undefined {
  const { vni, vtep, mac } = foreign;
  const reason = claim.kind === 'arp' ? 'vxlan_spoof_arp' : 'vxlan_spoof_nd';
  view.consult(neighborObject(vni, claim.ip));
  const known = tables.neighbors.lookup(vni, claim.ip);
  if (known && !sameBytes(known, claim.mac)) return drop(reason, text`${claim.ip} is at ${known}, not ${claim.mac}`);
  if (sameBytes(claim.mac, mac)) return undefined;
  const at = locate(view, tables, vni, claim.mac);
  const isThere = at?.where.kind === 'vtep' && sameBytes(at.where.vtep, vtep);
  return at?.isStatic && !isThere ? drop(reason, text`${claim.mac} is not behind VTEP ${vtep}`) : undefined;
}

function isGateway(mac: Uint8Array, vni: Vni): boolean {
  return sameBytes(mac, gatewayMac(vni));
}
