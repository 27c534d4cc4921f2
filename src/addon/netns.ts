/** Network namespaces, by the addon: native/io/netns.h. */
import { WeftError } from '../error.ts';
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
  if (descriptor < 0) throw failed('no network namespace of its own can be created', -descriptor);
  return descriptor;
}

/**
 * The calling thread enters that namespace for good, and gives up all its capabilities. Its sockets are opened there
 * from now on. @throws WeftError
 */
export function enterNetns(descriptor: number): void {
  const error = loadAddon().enterNetns(descriptor);
  if (error !== 0) throw failed('the network namespace of its own cannot be entered', -error);
}

function failed(what: string, errno: number): WeftError {
  return new WeftError('system', `${what} (${errnoName(errno)}); run weft as root`);
}
