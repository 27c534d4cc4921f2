/** What this process keeps of root's rights; native/io/privileges.h has the method. */
import { WeftError } from '../error.ts';
import { loadAddon } from './addon.ts';
import { errnoName } from './io-error.ts';

/**
 * All threads keep only those of their capabilities whose bits are set, for good, and programs that they run get no
 * others. Threads of the datapath, which start later, keep none. One of Node's own threads takes no signal, so it
 * cannot be told: it waits for SIGUSR1, and does nothing else. The CapabilityBoundingSet of a unit applies to it,
 * too.
 * @throws WeftError('system') if /proc does not show the threads
 */
export function keepCapabilities(bits: bigint): void {
  const untold = loadAddon().keepCapabilities(bits);
  if (untold < 0) throw new WeftError('system', `capabilities cannot be given up (${errnoName(-untold)}): mount /proc`);
}
