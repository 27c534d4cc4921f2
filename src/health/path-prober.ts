/**
 * The paths to all peers, probed: one `PathSearch` each, whose probes are sent as
 * they fall due. Few at a time, so that many peers cost neither many sockets nor
 * a burst; those that are due take turns.
 */
import { PathSearch } from './path-search.ts';
import type { Probe } from './probe.ts';

export interface PathProberOptions {
  readonly probe: Probe;
  /** Milliseconds. */
  readonly clock: () => number;
  /** Called when `found` of a peer has changed. */
  readonly onFound: (peer: string) => void;
}

const TIMEOUT_MS = 1000;
const MOST_AT_ONCE = 8;
/** What every path is taken to pass: what every IPv4 host takes in (RFC 791 §3.1), and every IPv6 link (RFC 8200 §5). */
const BASE_BYTES = { ipv4: 576, ipv6: 1280 } as const;
/** The largest frame of any network, encapsulated. */
const LARGEST_BYTES = 9070;

export class PathProber {
  readonly #options: PathProberOptions;
  /** Those that were probed last come last. */
  readonly #searches = new Map<string, PathSearch>();
  readonly #active = new Set<string>();
  readonly #stop = new AbortController();

  constructor(options: PathProberOptions) {
    this.#options = options;
  }

  /** To be called about once a second, with what the kernel knows of the path to each peer, in bytes. */
  watch(pathMtus: ReadonlyMap<string, number>): void {
    const now = this.#options.clock();
    for (const peer of this.#searches.keys()) if (!pathMtus.has(peer)) this.#searches.delete(peer);
    for (const [peer, mtu] of pathMtus) {
      let search = this.#searches.get(peer);
      if (!search) {
        search = new PathSearch(peer.includes(':') ? BASE_BYTES.ipv6 : BASE_BYTES.ipv4);
        this.#searches.set(peer, search);
      }
      search.setCeiling(Math.min(mtu, LARGEST_BYTES), now);
    }
    for (const [peer, search] of [...this.#searches]) {
      if (this.#active.size >= MOST_AT_ONCE) return;
      if (!this.#active.has(peer)) void this.#run(peer, search);
    }
  }

  /** What passes to `peer`, in bytes, where probes found less than the kernel knows. */
  found(peer: string): number | undefined {
    return this.#searches.get(peer)?.found;
  }

  /** Does that much pass, as far as `peer` answers? */
  isConfirmed(peer: string): boolean {
    return this.#searches.get(peer)?.isConfirmed ?? false;
  }

  close(): void {
    this.#stop.abort();
  }

  /** Sends what is due, one after the other. */
  async #run(peer: string, search: PathSearch): Promise<void> {
    const { probe, clock, onFound } = this.#options;
    const { signal } = this.#stop;
    let due = search.next(clock());
    if (!due) return;
    this.#active.add(peer);
    this.#searches.delete(peer);
    this.#searches.set(peer, search);
    for (; due && this.#searches.get(peer) === search; due = search.next(clock())) {
      const { isReachable } = await probe(peer, TIMEOUT_MS, { bytes: due.bytes, signal });
      if (signal.aborted) break;
      const before = search.found;
      search.result(due, isReachable, clock());
      if (search.found !== before && this.#searches.get(peer) === search) onFound(peer);
    }
    this.#active.delete(peer);
  }
}
