/**
 * The path MTU to each peer: the interface's MTU, or less if probes find less, or, if nothing
 * answers probes, what the kernel was told.
 *
 *   interface and route ─► ceiling ┐
 *   ICMP errors ─► kernel ─► hint ─┼─► PathProber ─► what passes
 *   probes ────────────────────────┘
 */
import { pathMtu, routeMtu } from '../addon/path-mtu.ts';
import { parseIp } from '../flow/types.ts';
import type { Probe } from './probe.ts';
import { PathProber, unprobed, type KnownPath } from './path-prober.ts';

export interface PathsOptions {
  /** Undefined if probing is not possible. */
  readonly probe: Probe | undefined;
  /** Milliseconds. */
  readonly clock: () => number;
  /** The address of this host where the paths begin, 16 bytes; undefined while there is none. */
  readonly local: () => Uint8Array | undefined;
  /**
   * Called for each peer several times a second, since a peer may have been removed and added again meanwhile.
   * @param before the MTU at the previous call; undefined at the first one
   */
  readonly onLook: (peer: string, path: Path, before: number | undefined) => void;
}

export interface Path {
  /** In bytes. */
  readonly mtu: number;
  /** Probed: probes found less than the interface's MTU. */
  readonly source: 'kernel' | 'probed';
  /** Have probes of that size come back recently? */
  readonly isConfirmed: boolean;
}

export class Paths {
  readonly #options: PathsOptions;
  readonly #prober: PathProber | undefined;
  readonly #ceilings = new Map<string, number>();
  readonly #paths = new Map<string, Path>();

  constructor(options: PathsOptions) {
    this.#options = options;
    const { probe, clock } = options;
    this.#prober = probe && new PathProber({ probe, clock, onChange: () => this.look() });
  }

  /** By peer. */
  get known(): ReadonlyMap<string, Path> {
    return this.#paths;
  }

  /** Call it about once a second: reads the MTUs of the interfaces, and looks. */
  watch(peers: Iterable<string>): void {
    this.#ceilings.clear();
    const local = this.#options.local();
    for (const peer of peers) {
      const ceiling = local && routeMtu(local, parseIp(peer));
      if (ceiling !== undefined) this.#ceilings.set(peer, ceiling);
    }
    for (const peer of this.#paths.keys()) if (!this.#ceilings.has(peer)) this.#paths.delete(peer);
    this.look();
  }

  /** Call it several times a second: reads what the kernel was told, and sends the probes that are due. */
  look(): void {
    const local = this.#options.local();
    const known = new Map<string, KnownPath>();
    for (const [peer, ceilingBytes] of this.#ceilings) {
      const hintBytes = (local && pathMtu(local, parseIp(peer))) ?? ceilingBytes;
      known.set(peer, { ceilingBytes, hintBytes: Math.min(ceilingBytes, hintBytes) });
    }
    this.#prober?.watch(known);
    for (const [peer, path] of known) this.#set(peer, path);
  }

  close(): void {
    this.#prober?.close();
  }

  #set(peer: string, known: KnownPath): void {
    const mtu = this.#prober?.bytes(peer) ?? unprobed(peer, known);
    const path: Path = {
      mtu,
      source: this.#prober?.found(peer) === undefined ? 'kernel' : 'probed',
      isConfirmed: this.#prober?.isConfirmed(peer) ?? false,
    };
    const before = this.#paths.get(peer)?.mtu;
    this.#paths.set(peer, path);
    this.#options.onLook(peer, path, before);
  }
}
