/** Sends frames with chosen virtio_net_hdrs (virtio 1.2 §5.1.6) through the kernel of a container. */
import type { Namespace } from './lab.ts';
import { python } from './traffic.ts';

/** Fields that are not given are 0. */
export interface VnetHeader {
  readonly flags?: number;
  readonly gsoType?: number;
  readonly headerBytes?: number;
  readonly gsoSize?: number;
  readonly csumStart?: number;
  readonly csumOffset?: number;
}

export interface FrameWithVnet {
  readonly frame: Uint8Array;
  readonly vnet: VnetHeader;
}

/**
 * Sends frames with their headers. Returns for each whether the kernel accepted it, which says nothing about what it
 * made of it.
 */
export async function sendWithVnet(from: Namespace, frames: readonly FrameWithVnet[]): Promise<boolean[]> {
  const input = frames.map(({ frame, vnet }) => `${hex(headerBytes(vnet))} ${hex(frame)}\n`).join('');
  const output = await from.run(python('send_with_vnet.py', 'eth0'), { input });
  return output
    .trimEnd()
    .split('\n')
    .map((word) => word === 'sent');
}

/** 10 bytes, in this machine's byte order. */
function headerBytes(vnet: VnetHeader): Uint8Array {
  const { flags = 0, gsoType = 0, headerBytes: length = 0, gsoSize = 0, csumStart = 0, csumOffset = 0 } = vnet;
  const words = new Uint8Array(Uint16Array.of(length, gsoSize, csumStart, csumOffset).buffer);
  return Uint8Array.of(flags, gsoType, ...words);
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
