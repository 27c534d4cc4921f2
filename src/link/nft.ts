/**
 * nftables, in the network namespace that this process is in. A script is one transaction of
 * the kernel: it takes effect as a whole or not at all.
 */
import { WeftError } from '../error.ts';
import { runCommand } from './command.ts';
import { firstLine } from './ip.ts';

/** A chain that the kernel sends forwarded packets through, as `nft -j list chains` describes it. */
export interface BaseChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook?: string;
  readonly policy?: string;
}

/**
 * @returns the kernel's numbers of the rules that were added, in order
 * @throws WeftError('system') with nft's own words, and what to do if nft is missing or not permitted
 */
export async function loadRules(script: string): Promise<number[]> {
  const added = await nft(['-e', '-a', '-f', '-'], script);
  return [...added.matchAll(/^add rule .* # handle (\d+)$/gm)].map(([, handle]) => Number(handle));
}

/** Chains of all tables. @throws as `loadRules` */
export async function listChains(): Promise<BaseChain[]> {
  const { nftables } = JSON.parse(await nft(['-j', 'list', 'chains'])) as {
    readonly nftables: readonly { readonly chain?: BaseChain }[];
  };
  return nftables.flatMap(({ chain }) => (chain ? [chain] : []));
}

/**
 * All of a table except its counters, for comparison. It contains the kernel's numbers of the rules, so a table that
 * was loaded again differs. @param table family and name @returns undefined if it cannot be read; loading says why
 */
export async function listTable(table: string): Promise<string | undefined> {
  let text: string;
  try {
    text = await nft(['-j', '-s', 'list', 'table', ...table.split(' ')]);
  } catch {
    return undefined;
  }
  // The elements of a set are listed in any order.
  const sorted = (elements: readonly unknown[]): string[] => elements.map((element) => JSON.stringify(element)).sort();
  return JSON.stringify(
    JSON.parse(text, (key, value: unknown) => (key === 'elem' && Array.isArray(value) ? sorted(value) : value)),
  );
}

/** The kernel's numbers of the rules in a listing from `listTable`. */
export function ruleNumbers(listing: string): number[] {
  const { nftables } = JSON.parse(listing) as { readonly nftables: readonly { rule?: { readonly handle: number } }[] };
  return nftables.flatMap(({ rule }) => (rule ? [rule.handle] : []));
}

async function nft(args: readonly string[], input = ''): Promise<string> {
  const { exitCode, stdout, stderr } = await runCommand('nft', args, {
    input,
    missing: '`nft` is not installed, and a network with an outside needs it: `apt install nftables`',
  });
  if (exitCode === 0) return stdout;
  throw new WeftError('system', `\`nft ${args.join(' ')}\` failed: ${reasonOf(stderr, exitCode)}`);
}

/** nft's reason, without the position in our script. */
function reasonOf(stderr: string, code: number | undefined): string {
  const reason =
    stderr.trim() === '' ? `exit ${code}` : firstLine(stderr).replace(/^\/dev\/stdin:[\d:-]+: Error: /, '');
  if (/not permitted/.test(reason)) return `${reason}; run weft as root`;
  if (/No such file|not supported|Protocol/.test(reason)) {
    return `${reason}; the kernel needs nf_tables with nat, masquerade and fib for inet (\`modprobe nft_masq nft_fib_inet\`)`;
  }
  return reason;
}
