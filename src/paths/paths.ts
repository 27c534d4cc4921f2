/**
 * The path MTU to each peer: what the interface takes, less what probes find, or, where
 * nothing answers them, what the kernel was told.
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
  /** Undefined where nothing can be probed. */
  readonly probe: Probe | undefined;
  /** Milliseconds. */
  readonly clock: () => number;
  /** The address of this host that the paths begin at, 16 bytes; undefined while there is none. */
  readonly local: () => Uint8Array | undefined;
  /** The path to a peer is known for the first time, without `before`, or has changed. */
  readonly onChange: (peer: string, path: Path, before: number | undefined) => void;
}

export interface Path {
  /** In bytes. */
  readonly mtu: number;
  /** Probed: less than the interface takes, as probes found. */
  readonly source: 'kernel' | 'probed';
  /** Have probes of that size come back of late? */
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

  /** To be called about once a second: asks for what the interfaces take, and looks. */
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

  /** To be called some times a second: asks for what the kernel was told, and sends the probes that are due. */
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
    if (mtu !== before) this.#options.onChange(peer, path, before);
  }
}
