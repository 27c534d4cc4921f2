/**
 * Descriptors that outlive the daemon that opened them: the queues of TAPs and the receiving sockets of the
 * underlay. As long as somebody has them, interfaces have a carrier, and what arrives waits in the kernel. Each
 * port's are known by a name, which says what they lead to.
 */
import { formatIp } from './types.ts';
import type { TapIdentity } from './tap.ts';

/** One for each queue, in order. */
export interface SpareTap extends TapIdentity {
  readonly descriptors: readonly number[];
}

/** What a datapath is told, and what it tells. Numbers are those of this process. */
export interface PortDescriptors {
  /** Those of TAPs that are open without a port. They stay their owner's: a port that uses them duplicates them. */
  spareTaps(): readonly SpareTap[];
  /** The same for those of this name; none if there are none. */
  spare(name: string): readonly number[];
  /** A port has these now. They are the port's, which says `closing` before it closes them. */
  opened(name: string, descriptors: readonly number[]): void;
  closing(name: string): void;
}

export function tapDescriptors({ dev, ino, ifindex }: TapIdentity): string {
  return `tap-${dev}-${ino}-${ifindex}`;
}

/** @param local 16 bytes */
export function socketDescriptors(local: Uint8Array, l4Port: number): string {
  return `vxlan-${formatIp(local).replaceAll(':', '.')}-${l4Port}`;
}

/** Which TAP a name means; undefined if it is not one of `tapDescriptors`. */
export function tapOfDescriptors(name: string): TapIdentity | undefined {
  const [, dev, ino, ifindex] = /^tap-(\d+)-(\d+)-(\d+)$/.exec(name) ?? [];
  if (dev === undefined || ino === undefined) return undefined;
  return { dev: BigInt(dev), ino: BigInt(ino), ifindex: Number(ifindex) };
}
