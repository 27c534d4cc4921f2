/**
 * The paths to all peers, probed: one `PathSearch` each, whose probes are sent as
 * they fall due. Few at a time, so that many peers cost neither many sockets nor
 * a burst; those that are due take turns.
 */
import { PathSearch, unprobedBytes } from './path-search.ts';
import type { Probe } from './probe.ts';

export interface PathProberOptions {
  readonly probe: Probe;
  /** Milliseconds. */
  readonly clock: () => number;
  /** Called when `bytes` of a peer has changed. */
  readonly onChange: (peer: string) => void;
}

/** What is known of a path without probes, in bytes. */
export interface KnownPath {
  /** What the interface takes. */
  readonly ceilingBytes: number;
  /** What the kernel believes: the same, or what an ICMP error told it, which anybody can forge. */
  readonly hintBytes: number;
}

const TIMEOUT_MS = 1000;
/** An urgent probe is waited for that many round trips, and not less long than that. */
const URGENT_ROUND_TRIPS = 4;
const LEAST_URGENT_MS = 200;
const MOST_AT_ONCE = 8;
/** What every path is taken to pass: what every IPv4 host takes in (RFC 791 §3.1), and every IPv6 link (RFC 8200 §5). */
const BASE_BYTES = { ipv4: 576, ipv6: 1280 } as const;
/** What an IPv6 packet of 1280 bytes comes to in the tunnel. */
const LEAST_BYTES = { ipv4: 1330, ipv6: 1350 } as const;
/** The largest frame of any network, encapsulated. */
const LARGEST_BYTES = 9070;

interface Path {
  readonly search: PathSearch;
  ceilingBytes: number;
  roundTripMs: number | undefined;
}

/** What a path is taken to pass without any probe, in bytes. */
export function unprobed(peer: string, { ceilingBytes, hintBytes }: KnownPath): number {
  return unprobedBytes(ceilingBytes, hintBytes, LEAST_BYTES[familyOf(peer)]);
}

export class PathProber {
  readonly #options: PathProberOptions;
  /** Those that were probed last come last. */
  readonly #paths = new Map<string, Path>();
  readonly #active = new Set<string>();
  readonly #stop = new AbortController();

  constructor(options: PathProberOptions) {
    this.#options = options;
  }

  /** To be called some times a second, with what is known of the path to each peer. */
  watch(known: ReadonlyMap<string, KnownPath>): void {
    const now = this.#options.clock();
    for (const peer of this.#paths.keys()) if (!known.has(peer)) this.#paths.delete(peer);
    for (const [peer, { ceilingBytes, hintBytes }] of known) {
      let path = this.#paths.get(peer);
      if (!path) {
        const family = familyOf(peer);
        path = {
          search: new PathSearch(BASE_BYTES[family], LEAST_BYTES[family]),
          ceilingBytes,
          roundTripMs: undefined,
        };
        this.#paths.set(peer, path);
      }
      path.ceilingBytes = ceilingBytes;
      path.search.setCeiling(Math.min(ceilingBytes, LARGEST_BYTES), now);
      path.search.setHint(Math.min(hintBytes, ceilingBytes, LARGEST_BYTES), now);
    }
    for (const [peer, path] of [...this.#paths]) {
      if (this.#active.size >= MOST_AT_ONCE) return;
      if (!this.#active.has(peer)) void this.#run(peer, path);
    }
  }

  /** What passes to `peer`, in bytes, as far as that is known; undefined for one that is not watched. */
  bytes(peer: string): number | undefined {
    const path = this.#paths.get(peer);
    return path && (path.search.bytes < LARGEST_BYTES ? path.search.bytes : path.ceilingBytes);
  }

  /** What passes to `peer`, in bytes, where probes found less than the interface takes. */
  found(peer: string): number | undefined {
    return this.#paths.get(peer)?.search.found;
  }

  /** Does that much pass, as far as `peer` answers? */
  isConfirmed(peer: string): boolean {
    return this.#paths.get(peer)?.search.isConfirmed ?? false;
  }

  close(): void {
    this.#stop.abort();
  }

  /** Sends what is due, one after the other. */
  async #run(peer: string, path: Path): Promise<void> {
    const { probe, clock, onChange } = this.#options;
    const { signal } = this.#stop;
    const { search } = path;
    let due = search.next(clock());
    if (!due) return;
    this.#active.add(peer);
    this.#paths.delete(peer);
    this.#paths.set(peer, path);
    for (; due && this.#paths.get(peer) === path; due = search.next(clock())) {
      const timeoutMs = due.isUrgent ? urgentMs(path.roundTripMs) : TIMEOUT_MS;
      const { isReachable, roundTripMs } = await probe(peer, timeoutMs, { bytes: due.bytes, signal });
      if (signal.aborted) break;
      if (roundTripMs !== undefined) path.roundTripMs = roundTripMs;
      const before = search.bytes;
      search.result(due, isReachable, clock());
      if (search.bytes !== before && this.#paths.get(peer) === path) onChange(peer);
    }
    this.#active.delete(peer);
  }
}

function familyOf(peer: string): 'ipv4' | 'ipv6' {
  return peer.includes(':') ? 'ipv6' : 'ipv4';
}

function urgentMs(roundTripMs: number | undefined): number {
  if (roundTripMs === undefined) return TIMEOUT_MS;
  return Math.min(TIMEOUT_MS, Math.max(LEAST_URGENT_MS, URGENT_ROUND_TRIPS * roundTripMs));
}
