/** What this kernel does for superframes, tried out. The datapaths find the same for themselves, port by port. */
import { loadAddon } from './addon.ts';
import { errnoName } from './io-error.ts';

/** Whether the kernel has it; a text says why that could not be tried. */
export type Tried = boolean | string;

export interface KernelOffloads {
  /** UDP_SEGMENT: one call sends many datagrams. */
  readonly udpSegment: Tried;
  /** UDP_GRO: one call receives many datagrams. */
  readonly udpGro: Tried;
  /** TUN_F_USO4 and TUN_F_USO6: UDP superframes pass a TAP. Those of TCP do on every kernel. */
  readonly tapUso: Tried;
}

/** `kOffloadUso` of native/io/tap.h. */
const TAP_USO = 8;

/** Tries with sockets on the loopback and a TAP in the own namespace, which are gone when it returns. */
export function kernelOffloads(): KernelOffloads {
  const { cuts, gathers, tap } = loadAddon().probeOffloads();
  return { udpSegment: tried(cuts, 1), udpGro: tried(gathers, 1), tapUso: tried(tap, TAP_USO) };
}

function tried(result: number, bit: number): Tried {
  return result < 0 ? errnoName(-result) : (result & bit) !== 0;
}
