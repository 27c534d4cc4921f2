/**
 * What this process may do (capabilities(7)). Being root is not enough inside a container, and
 * not necessary outside of one.
 *
 * weft up keeps the capabilities that are listed here and drops all others, in every thread,
 * before it does anything else. The datapath's threads, which read data from others, have none.
 */
import { readdirSync, readFileSync } from 'node:fs';

/** Name and bit. */
const NEEDED = [
  /** TAPs, addresses, routes, rules, buffers of sockets. */
  ['CAP_NET_ADMIN', 12n],
  /** Entering network namespaces. */
  ['CAP_SYS_ADMIN', 21n],
] as const;

/** Without these, weft can do less. */
const USEFUL = [
  /** Namespaces in a directory of another user; a state directory of another user. */
  ['CAP_DAC_OVERRIDE', 1n],
  /** ICMP probes. */
  ['CAP_NET_RAW', 13n],
  /** Probes are not delayed by other programs. */
  ['CAP_SYS_NICE', 23n],
  /** The namespace of a process that runs as another user: `--pid`. */
  ['CAP_SYS_PTRACE', 19n],
] as const;

const KEPT = [...NEEDED, ...USEFUL];
export const keptCapabilityNames: readonly string[] = KEPT.map(([name]) => name);
/** One bit for each capability that the daemon keeps. */
export const keptCapabilities = KEPT.reduce((bits, [, bit]) => bits | (1n << bit), 0n);

/** Names of the capabilities that weft needs and this process does not have. */
export function missingCapabilities(): string[] {
  const held = effective('/proc/self/status');
  return NEEDED.filter(([, bit]) => ((held >> bit) & 1n) === 0n).map(([name]) => name);
}

export interface ThreadCapabilities {
  /** The kernel's name of the thread: weft's own is `weft-datapath`. */
  readonly thread: string;
  readonly held: readonly string[];
  /** Does it have more than weft keeps? */
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
