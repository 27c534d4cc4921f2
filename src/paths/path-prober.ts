/**
 * Probes the paths to all peers: each has a `PathSearch`, whose probes are sent when they are
 * due. Only a few are sent at a time, so that many peers cost neither many sockets nor a
 * burst; paths that are due take turns.
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

/** What is known about a path without probes, in bytes. */
export interface KnownPath {
  /** The MTU of the interface. */
  readonly ceilingBytes: number;
  /** What the kernel believes: the same, or what an ICMP error told it, which anybody can forge. */
  readonly hintBytes: number;
}

const TIMEOUT_MS = 1000;
/** An urgent probe is waited for this many round trips, but at least so long. */
const URGENT_ROUND_TRIPS = 4;
const LEAST_URGENT_MS = 200;
const MOST_AT_ONCE = 8;
/**
 * What every path is assumed to pass: what every IPv4 host accepts (RFC 791 §3.1), and every IPv6 link (RFC 8200 §5).
 */
const BASE_BYTES = { ipv4: 576, ipv6: 1280 } as const;
/** The size of an IPv6 packet of 1280 bytes in the tunnel. */
const LEAST_BYTES = { ipv4: 1330, ipv6: 1350 } as const;
/** The largest frame of any network, encapsulated. */
const LARGEST_BYTES = 9070;

interface Path {
  readonly search: PathSearch;
  ceilingBytes: number;
  roundTripMs: number | undefined;
}

/** What a path is assumed to pass without any probe, in bytes. */
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

  /** Call it several times a second, with what is known about the path to each peer. */
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

  /** What passes to `peer`, in bytes, as far as is known; undefined for a peer that is not watched. */
  bytes(peer: string): number | undefined {
    const path = this.#paths.get(peer);
    return path && (path.search.bytes < LARGEST_BYTES ? path.search.bytes : path.ceilingBytes);
  }

  /** What passes to `peer`, in bytes, if probes found less than the interface's MTU. */
  found(peer: string): number | undefined {
    return this.#paths.get(peer)?.search.found;
  }

  /** Has a probe of that size passed, as far as `peer` answers at all? */
  isConfirmed(peer: string): boolean {
    return this.#paths.get(peer)?.search.isConfirmed ?? false;
  }

  close(): void {
    this.#stop.abort();
  }

  /** Sends the probes that are due, one after the other. */
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
