/** Network namespaces, by the addon: native/io/netns.h. */
import { descriptorsText, WeftError } from '../error.ts';
import type { ExchangeWithNetns } from '../flow/netns-exchange.ts';
import { loadAddon } from './addon.ts';
import { errnoName } from './io-error.ts';

export const exchangeWithNetns: ExchangeWithNetns = (exchanges) => loadAddon().netnsExchange(exchanges);

/**
 * Creates a namespace without a name, which exists as long as somebody holds it, and so never outlives this process.
 * @returns a descriptor that holds it, which the caller closes
 * @throws WeftError
 */
export function createNetns(): number {
  const descriptor = loadAddon().createNetns();
  if (descriptor < 0) throw failed('created', -descriptor);
  return descriptor;
}

/**
 * Opens a UDP socket in a namespace, bound to that address and port of it. Datagrams of up to `receiveBytes` may wait there,
 * whatever net.core.rmem_max is, which the thread could not arrange once it has given up its capabilities.
 * @param address 16 bytes, IPv4-mapped or IPv6
 * @returns the socket's descriptor, which the caller closes
 * @throws WeftError
 */
export function openUdp(netns: number, address: Uint8Array, l4Port: number, receiveBytes: number): number {
  const descriptor = loadAddon().openUdp(`/proc/self/fd/${netns}`, address, l4Port, receiveBytes);
  if (descriptor >= 0) return descriptor;
  const name = errnoName(-descriptor);
  throw new WeftError('system', `UDP port ${l4Port} of weft’s own cannot be opened (${name})`);
}

/**
 * The calling thread enters that namespace for good, and gives up all its capabilities. Its sockets are opened there
 * from now on. @throws WeftError
 */
export function enterNetns(descriptor: number): void {
  const error = loadAddon().enterNetns(descriptor);
  if (error !== 0) throw failed('entered', -error);
}

/**
 * The number of the last change of nftables in the namespace of this process, whoever made it: as long as it is the same, no
 * rule is another one. Undefined if the kernel does not tell.
 */
export function rulesetGeneration(): number | undefined {
  const generation = loadAddon().rulesetGeneration();
  return generation < 0 ? undefined : generation;
}

function failed(what: string, errno: number): WeftError {
  const name = errnoName(errno);
  const descriptors = descriptorsText(name);
  const text = `a network namespace of weft’s own cannot be ${what}`;
  if (descriptors !== undefined) return new WeftError('exhausted', `${text}: ${descriptors}`);
  const remedy = name === 'ENOSPC' ? 'there are too many: raise sysctl user.max_net_namespaces' : 'run weft as root';
  return new WeftError('system', `${text} (${name}): ${remedy}`);
}
