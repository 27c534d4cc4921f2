/** Workloads of a network with many of them: number `n` is behind port FIRST_PORT + n. */
import { parseIp, type PortNo, type Vni } from '../../src/flow/types.ts';
import type { AccessPort } from '../../src/table/topology.ts';

export const vni = 100 as Vni;
export const FIRST_PORT = 10;

export function ipOf(n: number): Uint8Array {
  return parseIp(`10.0.${n >> 8}.${n & 0xff}`);
}

export function macOf(n: number): Uint8Array {
  return Uint8Array.of(2, 0, 0, 0, n >> 8, n);
}

export function endpoint(n: number): AccessPort {
  return {
    portNo: (FIRST_PORT + n) as PortNo,
    name: `w${n}`,
    vni,
    mac: macOf(n),
    addresses: [ipOf(n)],
    allowedAddresses: [],
    allowedEtherTypes: [],
    trust: false,
  };
}
