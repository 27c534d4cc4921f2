/** How TAPs are opened by the addon: native/addon_tap.h and native/io/tap.h. */
import type { TapIdentity } from '../flow/tap.ts';

/** Numbers of 0: whichever namespace the path leads to, and the interface by its name. */
export interface TapTarget {
  readonly netns: string;
  readonly ifname: string;
  readonly ifindex: number;
  readonly dev: bigint;
  readonly ino: bigint;
}

/** Which TAP is to be opened. */
export interface TapSpec {
  /** Path of the namespace. */
  readonly netns: string;
  readonly ifname: string;
  /** That very TAP, whatever it is called by now, or none. */
  readonly known?: TapIdentity;
}

export function tapTarget({ netns, ifname, known }: TapSpec): TapTarget {
  return { netns, ifname, ifindex: known?.ifindex ?? 0, dev: known?.dev ?? 0n, ino: known?.ino ?? 0n };
}

/** `kTap…` of native/io/tap.h. */
const RENEWED = [
  [1, 'the header of its frames'],
  [2, 'that it stays when weft stops'],
] as const;

/** What `renewTap` has put back, in words; nothing of an error: a port that stopped tells that itself. */
export function renewedText(result: number): string[] {
  return result <= 0 ? [] : RENEWED.filter(([bit]) => (result & bit) !== 0).map(([, text]) => text);
}
