/**
 * The nftables rules of a namespace as text for comparison: without counters, and with the elements of each set in
 * order.
 */
import type { Namespace } from './lab.ts';

export async function ruleset(host: Namespace): Promise<string> {
  const text = await host.run(['nft', '-s', 'list', 'ruleset']);
  return text.replace(/elements = \{([^}]*)\}/g, (_, elements: string) => {
    const sorted = elements.split(',').map((element) => element.trim());
    return `elements = { ${sorted.sort().join(', ')} }`;
  });
}
