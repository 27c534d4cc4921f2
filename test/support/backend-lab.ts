/**
 * A client and three backends on one host, by real frames through either datapath.
 *
 *   client 10.0.0.2 ── weft ─┬─ 10.0.0.3, 10.0.0.4, 10.0.0.5
 */
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { formatMac, type Vni } from '../../src/flow/types.ts';
import { createSimulation, type SimulatedPort } from '../../src/simulation.ts';
import { gatewayMac } from '../../src/table/topology.ts';

export type Opener = typeof openReferenceDatapath;
export const datapaths: Readonly<Record<string, Opener>> = {
  reference: openReferenceDatapath,
  native: (options) => openNativeDatapath({ ...options, threads: 0 }),
};

export const VNI = 1 as Vni;
export const [SYN, RST, ACK] = [2, 4, 16] as const;
export const gateway = formatMac(gatewayMac(VNI));
/** @param last the last number of its address */
export const macOf = (last: number): string => `02:00:00:00:00:0${last}`;

export function backendLab(open: Opener) {
  const net = createSimulation({ open });
  const host = net.host('here', '192.0.2.1');
  host.createNetwork('blue', VNI, { subnets: ['10.0.0.0/24'] });
  const attach = (
    last: number,
    options: { readonly trust?: boolean; readonly allowedAddresses?: readonly string[] } = {},
  ): SimulatedPort =>
    host.attach({ name: `e${last}`, network: 'blue', mac: macOf(last), addresses: [`10.0.0.${last}`], ...options });
  const client = attach(2);
  const ports = new Map([3, 4, 5].map((last) => [last, attach(last)] as const));
  return { net, host, attach, client, ports };
}
