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
 * The calling thread enters that namespace for good, and gives up all its capabilities. Its sockets are opened there
 * from now on. @throws WeftError
 */
export function enterNetns(descriptor: number): void {
  const error = loadAddon().enterNetns(descriptor);
  if (error !== 0) throw failed('entered', -error);
}

function failed(what: string, errno: number): WeftError {
  const name = errnoName(errno);
  const descriptors = descriptorsText(name);
  const text = `a network namespace of weft’s own cannot be ${what}`;
  if (descriptors !== undefined) return new WeftError('exhausted', `${text}: ${descriptors}`);
  const remedy = name === 'ENOSPC' ? 'there are too many: raise sysctl user.max_net_namespaces' : 'run weft as root';
  return new WeftError('system', `${text} (${name}): ${remedy}`);
}
