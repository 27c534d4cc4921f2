/**
 * The path MTU to each peer: the interface's MTU, or less if probes find less, or, if nothing
 * answers probes, what the kernel was told.
 *
 *   interface and route ─► ceiling ┐
 *   ICMP errors ─► kernel ─► hint ─┼─► PathProber ─► what passes
 *   probes ────────────────────────┘
 */
import { pathMtus } from '../addon/path-mtu.ts';
import { parseIp } from '../flow/types.ts';
import type { Probe } from './probe.ts';
import { PathProber, unprobed, type KnownPath } from './path-prober.ts';

export interface PathsOptions {
  /** Called when there are peers. Returns undefined if probing is not possible. */
  readonly probe: () => Probe | undefined;
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

/** How many peers the kernel is asked about in one turn: some microseconds each. There are seldom more. */
const LOOKED_AT_ONCE = 128;

export class Paths {
  readonly #options: PathsOptions;
  #prober: PathProber | undefined;
  #peers: readonly string[] = [];
  /** The position in `#peers` of the next one to look at. */
  #next = 0;
  readonly #known = new Map<string, KnownPath>();
  readonly #paths = new Map<string, Path>();

  constructor(options: PathsOptions) {
    this.#options = options;
  }

  /** By peer. */
  get known(): ReadonlyMap<string, Path> {
    return this.#paths;
  }

  /** Call it about once a second: looks at peers that are new, and forgets those that are gone. */
  watch(peers: readonly string[]): void {
    const before = new Set(this.#peers);
    const now = new Set(peers);
    this.#peers = peers;
    if (peers.length > 0) this.#prober ??= this.#openProber();
    for (const peer of before) if (!now.has(peer)) this.#forget(peer);
    this.#read(peers.filter((peer) => !before.has(peer)));
    this.look();
  }

  /**
   * Call it several times a second: reads the MTUs of interfaces and what the kernel was told of paths, and sends the probes
   * that are due.
   */
  look(): void {
    const first = this.#next < this.#peers.length ? this.#next : 0;
    this.#next = first + LOOKED_AT_ONCE;
    this.#read(this.#peers.slice(first, this.#next));
    this.#prober?.watch(this.#known);
    for (const [peer, path] of this.#known) this.#set(peer, path);
  }

  #openProber(): PathProber | undefined {
    const probe = this.#options.probe();
    return probe && new PathProber({ probe, clock: this.#options.clock, onChange: () => this.look() });
  }

  /** Asks the kernel. */
  #read(peers: readonly string[]): void {
    const local = this.#options.local();
    const mtus = local ? pathMtus(local, peers.map(parseIp)) : [];
    for (const [i, peer] of peers.entries()) {
      const mtu = mtus[i];
      if (mtu) this.#known.set(peer, { ceilingBytes: mtu.routeBytes, hintBytes: mtu.believedBytes });
      else this.#forget(peer);
    }
  }

  #forget(peer: string): void {
    this.#known.delete(peer);
    this.#paths.delete(peer);
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
