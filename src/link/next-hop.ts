/** Where a network namespace sends a packet, according to its own routes and neighbors. */
import { ip } from './ip.ts';
import type { NetnsRef } from './netns.ts';

export interface NextHop {
  /** The outgoing interface. */
  readonly ifname: string;
  /** The gateway, or the destination itself; canonical text of iproute2. */
  readonly address: string;
  /** Its MAC address, if the namespace knows it. */
  readonly mac?: string;
  /** `local`: the packet stays in the namespace. */
  readonly type: string;
  /** The source address that it uses by default. */
  readonly source?: string;
}

interface RouteJson {
  readonly type?: string;
  readonly dev?: string;
  readonly gateway?: string;
  readonly prefsrc?: string;
}

interface NeighborJson {
  readonly lladdr?: string;
  readonly state?: readonly string[];
}

/** Undefined without a route. @throws WeftError `not_found` if the namespace is gone */
export async function nextHop(ns: NetnsRef, destination: string): Promise<NextHop | undefined> {
  const [route] = await read<RouteJson>(ns, ['route', 'get', destination]);
  if (!route?.dev) return undefined;
  const address = route.gateway ?? destination;
  const [neighbor] = await read<NeighborJson>(ns, ['neighbor', 'show', 'to', address, 'dev', route.dev]);
  const isFailed = neighbor?.state?.some((state) => state === 'FAILED' || state === 'INCOMPLETE') ?? false;
  return {
    ifname: route.dev,
    address,
    type: route.type ?? 'unicast',
    ...(neighbor?.lladdr !== undefined && !isFailed && { mac: neighbor.lladdr }),
    ...(route.prefsrc !== undefined && { source: route.prefsrc }),
  };
}

/** Empty if iproute2 refuses the question: there is no route, or no such interface. */
async function read<T>(ns: NetnsRef, words: readonly string[]): Promise<readonly T[]> {
  const { exitCode, stdout } = await ip(ns, ['-j', ...words]);
  return exitCode === 0 ? (JSON.parse(stdout.trim() || '[]') as T[]) : [];
}
