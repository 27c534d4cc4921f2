/** How the addon opens TAPs: native/addon_tap.h and native/io/tap.h. */
import type { TapIdentity, TapPlace } from '../flow/tap.ts';

/** If `dev` and `ino` are 0: whichever namespace the path leads to. If the index is 0: the interface by its name. */
export interface TapTarget {
  readonly netns: string;
  readonly ifname: string;
  readonly ifindex: number;
  readonly dev: bigint;
  readonly ino: bigint;
}

/** Identifies the TAP to open. */
export interface TapSpec {
  /** Path of the namespace. */
  readonly netns: string;
  readonly ifname: string;
  /** Exactly this TAP, whatever its name is by now, or none. */
  readonly known?: TapIdentity;
  /** Nobody is told of its descriptors. */
  readonly isTransient?: boolean;
}

export function tapTarget({ netns, ifname, known }: TapSpec): TapTarget {
  return { netns, ifname, ifindex: known?.ifindex ?? 0, dev: known?.dev ?? 0n, ino: known?.ino ?? 0n };
}

/** `kTap…` of native/io/tap.h. */
const RENEWED = [
  [1, 'the header of its frames'],
  [2, 'that it stays when weft stops'],
] as const;

/** What `findTap` has found; undefined for an error, since a port that stopped reports that itself. */
export function foundTap(result: TapPlace | number): TapPlace | undefined {
  return typeof result === 'number' ? undefined : result;
}

/** What `renewTap` has restored, in words; nothing for an error, since a port that stopped reports that itself. */
export function renewedText(result: number): string[] {
  return result <= 0 ? [] : RENEWED.filter(([bit]) => (result & bit) !== 0).map(([, text]) => text);
}
