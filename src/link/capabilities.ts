/**
 * What this process may do (capabilities(7)): being root is neither enough, in a
 * container, nor needed.
 *
 * weft up keeps what is listed here and gives up the rest, in every thread, before
 * it does anything else; the datapath's threads, which read what others sent,
 * have none.
 */
import { readdirSync, readFileSync } from 'node:fs';

/** Name and bit. */
const NEEDED = [
  /** TAPs, addresses, routes, rules, buffers of sockets. */
  ['CAP_NET_ADMIN', 12n],
  /** Entering network namespaces. */
  ['CAP_SYS_ADMIN', 21n],
] as const;

/** Without them something less can be done. */
const USEFUL = [
  /** A namespace below a directory of another user, a state directory that is. */
  ['CAP_DAC_OVERRIDE', 1n],
  /** Probes by ICMP. */
  ['CAP_NET_RAW', 13n],
  /** The namespace of a process that runs as another user: `--pid`. */
  ['CAP_SYS_PTRACE', 19n],
] as const;

const KEPT = [...NEEDED, ...USEFUL];
export const keptCapabilityNames: readonly string[] = KEPT.map(([name]) => name);
/** A bit set for each that the daemon keeps. */
export const keptCapabilities = KEPT.reduce((bits, [, bit]) => bits | (1n << bit), 0n);

/** Names of those that weft needs and this process does not have. */
export function missingCapabilities(): string[] {
  const held = effective('/proc/self/status');
  return NEEDED.filter(([, bit]) => ((held >> bit) & 1n) === 0n).map(([name]) => name);
}

export interface ThreadCapabilities {
  /** As the kernel names the thread: weft's own is `weft-datapath`. */
  readonly thread: string;
  readonly held: readonly string[];
  /** Beyond what weft keeps. */
  readonly hasMore: boolean;
}

/** What each thread of this process has. */
export function threadCapabilities(): ThreadCapabilities[] {
  return readdirSync('/proc/self/task').flatMap((id) => {
    try {
      const held = effective(`/proc/self/task/${id}/status`);
      return {
        thread: readFileSync(`/proc/self/task/${id}/comm`, 'utf8').trim(),
        held: KEPT.filter(([, bit]) => ((held >> bit) & 1n) === 1n).map(([name]) => name),
        hasMore: (held & ~keptCapabilities) !== 0n,
      };
    } catch {
      return []; // it has ended
    }
  });
}

function effective(status: string): bigint {
  const [, bits = '0'] = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync(status, 'utf8')) ?? [];
  return BigInt(`0x${bits}`);
}
