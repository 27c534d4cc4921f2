/**
 * Ingress: which network a frame is in, and whether it may be sent from there. Frames that no network
 * carries are refused wherever they come from (`frame.ts`).
 *
 * 1. From the underlay: the sender must be a VTEP, the VNI names the network (RFC 7348 §4), the frame
 *    must not contradict what is known here (`foreign.ts`, `owned.ts`), and somebody here must be able to receive it.
 *    Of what comes from outside there, this is asked differently (`entry.ts`).
 * 2. From a local port: the port names the network, and unless it is trusted, it may speak only for
 *    itself (`antispoof.ts`).
 * 3. From outside: only packets addressed to weft (`outside.ts`).
 * 4. From weft's own sockets: only IP (`internal.ts`).
 * 5. From weft itself: the network in which it asks.
 * 6. Source MACs behind VTEPs and trusted ports are learned. Those of other ports are known from their
 *    endpoints.
 */
import { sameBytes, type PortNo, type Vni } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { fdbObject, type Location } from '../table/fdb.ts';
import {
  isReservedMac,
  networkObject,
  networksObject,
  OWN_PORT,
  portObject,
  type VirtualNetwork,
} from '../table/topology.ts';
import { vtepsObject } from '../table/vteps.ts';
import { antispoof, checkSourceMac } from './antispoof.ts';
import { entryOf, refuseEntry } from './entry.ts';
import { refuseForeign, refuseForeignSource } from './foreign.ts';
import { refuseHeader, refuseSource } from './frame.ts';
import { fromInternal } from './internal.ts';
import { fromOutside } from './outside.ts';
import { drop, locate, next, type Drop, type Entered, type Known, type Stage, type StageResult } from './stage.ts';
import { text } from './text.ts';

export const ingress: Stage<Known, Entered> = (view, known) => {
  const portNo = view.number('in_port') as PortNo;
  const { tunnelPort, outside, internal } = known.tables.topology;
  view.consult(portObject(portNo));
  if (portNo === tunnelPort) return fromUnderlay(view, known);
  if (portNo === outside?.portNo) return fromOutside(view, known, outside);
  if (portNo === internal?.portNo) return fromInternal(view, known, internal);
  return portNo === OWN_PORT ? fromWeft(view, known) : fromPort(view, known, portNo);
};

function fromUnderlay(view: FlowView, { tables }: Known): StageResult<Entered> {
  const { topology } = tables;
  const at = view.whichOf('tun_src', topology.vteps.all());
  if (at < 0) {
    view.consult(vtepsObject);
    return drop(
      'vxlan_unknown_vtep',
      text`${view.used('tun_src')} is not a peer (peers: ${[...topology.vteps.all()]})`,
    );
  }
  const { address: vtep, object, hostMac } = topology.vteps.at(at);
  view.consult(object);

  if (!view.isIn('tun_vni', topology.vnis)) {
    view.consult(networksObject);
    return drop('vxlan_unknown_vni', text`no network has VNI ${view.used('tun_vni')}`);
  }
  const vni = view.number('tun_vni') as Vni;
  const network = topology.network(vni)!;
  view.consult(network.object);

  const wrongSource = refuseSource(view);
  if (wrongSource) return wrongSource;
  const mac = view.bytes('eth_src');
  const foreign = { vni, vtep, hostMac, mac, known: locate(view, tables, vni, mac) };
  const refused = refuseForeignSource(view, tables, foreign) ?? refuseHeader(view) ?? refuseForNobody(view, network);
  if (refused) return refused;
  const entry = entryOf(view, tables, foreign);
  const unbelieved =
    (entry === 'new' ? refuseEntry(view, tables, foreign) : undefined) ??
    (entry === 'known' ? undefined : refuseForeign(view, tables, foreign));
  if (unbelieved) return unbelieved;
  const entered: Entered = { tables, origin: { kind: 'tunnel', network, vtep, isEntry: entry !== 'none' } };
  const because = text`from VTEP ${vtep} into network ${network.name} (VNI ${vni})`;
  // Every host has the gateway's MAC, and routed frames carry it.
  return sameBytes(mac, network.gatewayMac)
    ? next(text`${because}; routed there`, entered)
    : next(because, entered, [learn(vni, mac, { kind: 'vtep', vtep })]);
}

/**
 * A frame from another host to a single station is for weft itself, or for one behind a port here. A port that is not
 * trusted has one MAC, so a MAC that none of them has can only be behind a trusted port. If there is none, a few cached
 * flows refuse such frames, however many destinations a peer makes up.
 */
function refuseForNobody(view: FlowView, { name, vni, macs, trustedPorts, portsObject }: VirtualNetwork) {
  if ((view.first('eth_dst', 1)[0]! & 1) !== 0) return undefined;
  if (view.isIn('eth_dst', macs)) {
    // What refuses the frame further on does not ask who has that MAC.
    view.consult(fdbObject(vni, view.bytes('eth_dst')));
    return undefined;
  }
  view.consult(portsObject);
  if (trustedPorts.size > 0) return undefined;
  return drop(
    'no_destination',
    text`no port of network ${name} here has MAC ${view.used('eth_dst')}, and none is trusted`,
  );
}

/** Requests of weft itself are not checked; they are for this network. */
function fromWeft(view: FlowView, { tables }: Known): StageResult<Entered> {
  const vni = view.number('tun_vni') as Vni;
  view.consult(networkObject(vni));
  const network = tables.topology.network(vni);
  if (!network) return drop('no_destination', text`from weft itself, and no network has VNI ${vni}`);
  const place = text`from weft itself into network ${network.name} (VNI ${vni})`;
  return next(place, { tables, origin: { kind: 'weft', network } });
}

function fromPort(view: FlowView, { tables }: Known, portNo: PortNo): StageResult<Entered> {
  const { topology } = tables;
  const port = topology.port(portNo);
  if (!port) return drop('port_unknown', text`port ${portNo} is in no network`);

  const refused =
    refuseSource(view) ?? (port.trust ? checkReservedMac(view) : checkSourceMac(view, port)) ?? refuseHeader(view);
  if (refused) return refused;

  const network = topology.network(port.vni)!;
  view.consult(network.object);
  const entered: Entered = { tables, origin: { kind: 'port', port, network } };
  const place = text`from port ${port.name} into network ${network.name} (VNI ${port.vni})`;
  if (port.trust) {
    const mac = view.bytes('eth_src');
    locate(view, tables, port.vni, mac);
    return next(text`${place}; trusted`, entered, [learn(port.vni, mac, { kind: 'port', port: portNo })]);
  }
  return antispoof(view, tables, port) ?? next(text`${place}; its own addresses`, entered);
}

/** A trusted port may use any MAC except weft's own. */
function checkReservedMac(view: FlowView): Drop | undefined {
  const mac = view.bytes('eth_src');
  return isReservedMac(mac) ? drop('spoof_mac', text`source MAC ${mac} is weft’s own`) : undefined;
}

function learn(vni: Vni, mac: Uint8Array, where: Location) {
  return { kind: 'learn', vni, mac, where } as const;
}
