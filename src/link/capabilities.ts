/** What this process may do (capabilities(7)): being root is neither enough, in a container, nor needed. */
import { readFileSync } from 'node:fs';

/** What weft needs: name and bit. */
const NEEDED = [
  ['CAP_NET_ADMIN', 12n],
  ['CAP_SYS_ADMIN', 21n],
] as const;

/** Names of those that weft needs and this process does not have. */
export function missingCapabilities(): string[] {
  const [, effective = '0'] = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  const held = BigInt(`0x${effective}`);
  return NEEDED.filter(([, bit]) => ((held >> bit) & 1n) === 0n).map(([name]) => name);
}
