/** Finds out by trying what this kernel does for superframes. The datapaths find out for themselves, for each port. */
import { loadAddon } from './addon.ts';
import { errnoName } from './io-error.ts';

/** Does the kernel have it? A text says why that could not be tried. */
export type Tried = boolean | string;

export interface KernelOffloads {
  /** UDP_SEGMENT: one call sends many datagrams. */
  readonly udpSegment: Tried;
  /** UDP_GRO: one call receives many datagrams. */
  readonly udpGro: Tried;
  /** TUN_F_USO4 and TUN_F_USO6: UDP superframes pass a TAP. TCP superframes do on every kernel. */
  readonly tapUso: Tried;
}

/** `kOffloadUso` of native/io/tap.h. */
const TAP_USO = 8;

/** Tries with sockets on the loopback and a TAP in the own namespace, which are removed before it returns. */
export function kernelOffloads(): KernelOffloads {
  const { cuts, gathers, tap } = loadAddon().probeOffloads();
  return { udpSegment: tried(cuts, 1), udpGro: tried(gathers, 1), tapUso: tried(tap, TAP_USO) };
}

function tried(result: number, bit: number): Tried {
  return result < 0 ? errnoName(-result) : (result & bit) !== 0;
}
