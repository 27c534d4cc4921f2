/**
 * nftables, in the network namespace that this process is in: a script is one
 * transaction of the kernel, in force as a whole or not at all.
 */
import { spawn } from 'node:child_process';
import { WeftError } from '../error.ts';
import { firstLine } from './ip.ts';

/** A chain through which the kernel sends what it forwards, as `nft -j list chains` tells of it. */
export interface BaseChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook?: string;
  readonly policy?: string;
}

/**
 * @returns the kernel's own numbers of the rules that it has added, in order
 * @throws WeftError('system') with nft's own words, and what to do where it is missing or may not
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
 * All of a table but its counters, for comparing: the kernel's own numbers of its rules are in it, so one that was
 * loaded again is another. @param table family and name @returns undefined where it cannot be read: loading says why
 */
export async function listTable(table: string): Promise<string | undefined> {
  let text: string;
  try {
    text = await nft(['-j', '-s', 'list', 'table', ...table.split(' ')]);
  } catch {
    return undefined;
  }
  // The elements of a set come in any order.
  const sorted = (elements: readonly unknown[]): string[] => elements.map((element) => JSON.stringify(element)).sort();
  return JSON.stringify(
    JSON.parse(text, (key, value: unknown) => (key === 'elem' && Array.isArray(value) ? sorted(value) : value)),
  );
}

/** The kernel's own numbers of the rules in a listing of `listTable`. */
export function ruleNumbers(listing: string): number[] {
  const { nftables } = JSON.parse(listing) as { readonly nftables: readonly { rule?: { readonly handle: number } }[] };
  return nftables.flatMap(({ rule }) => (rule ? [rule.handle] : []));
}

function nft(args: readonly string[], input = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const fail = (message: string): void => reject(new WeftError('system', message));
    const child = spawn('nft', [...args], {
      stdio: 'pipe',
      env: { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.stdin.on('error', () => undefined); // it ended before it read all: its exit code says why
    child.stdin.end(input);
    child.on('error', (error: NodeJS.ErrnoException) =>
      fail(
        error.code === 'ENOENT'
          ? '`nft` is not installed, and a network with an outside needs it: `apt install nftables`'
          : `\`nft\` could not be started (${error.code})`,
      ),
    );
    child.on('close', (code) => {
      if (code === 0) resolve(stdout);
      else fail(`\`nft ${args.join(' ')}\` failed: ${reasonOf(stderr, code)}`);
    });
  });
}

/** nft's reason, without the place in our script. */
function reasonOf(stderr: string, code: number | null): string {
  const reason =
    stderr.trim() === '' ? `exit ${code}` : firstLine(stderr).replace(/^\/dev\/stdin:[\d:-]+: Error: /, '');
  if (/not permitted/.test(reason)) return `${reason}; run weft as root`;
  if (/No such file|not supported|Protocol/.test(reason)) {
    return `${reason}; the kernel needs nf_tables with nat, masquerade and fib for inet (\`modprobe nft_masq nft_fib_inet\`)`;
  }
  return reason;
}
