/**
 * Ingress: which network a frame is in, and whether it may be sent from there.
 * What no network carries is refused wherever it comes from (`frame.ts`).
 *
 * 1. From the underlay: the sender must be a VTEP, the VNI names the network
 *    (RFC 7348 §4), and it says nothing but what is known here (`foreign.ts`).
 * 2. From a local port: the port names the network, and unless it is trusted it
 *    may only speak for itself (`antispoof.ts`).
 * 3. From outside: what is addressed to weft (`outside.ts`).
 * 4. Source MACs behind VTEPs and trusted ports are learned; those of other
 *    ports are known from their endpoint.
 */
import { sameBytes, type PortNo, type Vni } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import type { Location } from '../table/fdb.ts';
import { gatewayMac, isReservedMac, networksObject, portObject, vtepsObject } from '../table/topology.ts';
import { antispoof, checkSourceMac } from './antispoof.ts';
import { refuseForeign, refuseForeignSource } from './foreign.ts';
import { refuseHeader, refuseSource } from './frame.ts';
import { fromOutside } from './outside.ts';
import { drop, locate, next, type Stage, type StageContext, type StageResult } from './stage.ts';
import { text } from './text.ts';

export const ingress: Stage = (view, context) => {
  const portNo = view.number('in_port') as PortNo;
  const { tunnelPort, outside } = context.tables.topology;
  view.consult(portObject(portNo));
  if (portNo === tunnelPort) return fromUnderlay(view, context);
  if (portNo === outside?.portNo) return fromOutside(view, context, outside);
  return fromPort(view, context, portNo);
};

function fromUnderlay(view: FlowView, context: StageContext): StageResult {
  const { topology } = context.tables;
  if (!view.isOneOf('tun_src', topology.vteps())) {
    view.consult(vtepsObject);
    return drop('vxlan_unknown_vtep', text`${view.used('tun_src')} is not a peer (peers: ${[...topology.vteps()]})`);
  }
  const vtep = view.bytes('tun_src');
  view.consult(topology.vtep(vtep)!.object);

  if (!view.isOneOf('tun_vni', topology.vnis())) {
    view.consult(networksObject);
    return drop('vxlan_unknown_vni', text`no network has VNI ${view.used('tun_vni')}`);
  }
  const vni = view.number('tun_vni') as Vni;
  const network = topology.network(vni)!;
  view.consult(network.object);

  const wrongSource = refuseSource(view);
  if (wrongSource) return wrongSource;
  const mac = view.bytes('eth_src');
  const foreign = { vni, vtep, mac, known: locate(view, context.tables, vni, mac) };
  const refused =
    refuseForeignSource(view, context, foreign) ?? refuseHeader(view) ?? refuseForeign(view, context, foreign);
  if (refused) return refused;
  context.network = network;
  const place = text`from VTEP ${vtep} into network ${network.name} (VNI ${vni})`;
  // Every host has the gateway's MAC, and routed frames carry it.
  return isGateway(mac, vni)
    ? next(text`${place}; routed there`)
    : next(place, [learn(vni, mac, { kind: 'vtep', vtep })]);
}

function fromPort(view: FlowView, context: StageContext, portNo: PortNo): StageResult {
  const { topology } = context.tables;
  const port = topology.port(portNo);
  if (!port) return drop('port_unknown', text`port ${portNo} is in no network`);

  const refused =
    refuseSource(view) ?? (port.trust ? checkReservedMac(view) : checkSourceMac(view, port)) ?? refuseHeader(view);
  if (refused) return refused;

  context.port = port;
  context.network = topology.network(port.vni)!;
  view.consult(context.network.object);
  context.gateway = { portNo, mac: gatewayMac(port.vni), addresses: context.network.gateways };
  const place = text`from port ${port.name} into network ${context.network.name} (VNI ${port.vni})`;
  if (port.trust) {
    const mac = view.bytes('eth_src');
    locate(view, context.tables, port.vni, mac);
    return next(text`${place}; trusted`, [learn(port.vni, mac, { kind: 'port', port: portNo })]);
  }
  return antispoof(view, context, port) ?? next(text`${place}; its own addresses`);
}

/** A trusted port has any MAC but weft's own. */
function checkReservedMac(view: FlowView): StageResult | undefined {
  const mac = view.bytes('eth_src');
  return isReservedMac(mac) ? drop('spoof_mac', text`source MAC ${mac} is weft’s own`) : undefined;
}

function isGateway(mac: Uint8Array, vni: Vni): boolean {
  return sameBytes(mac, gatewayMac(vni));
}

function learn(vni: Vni, mac: Uint8Array, where: Location) {
  return { kind: 'learn', vni, mac, where } as const;
}
