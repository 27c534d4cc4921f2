/** `--wait`: returns when what was changed is in force on all hosts that are not down. */
import type { Command } from 'commander';
import type { Client } from '../api/client.ts';
import { WeftError } from '../error.ts';
import { idOf } from '../model/name.ts';
import type { ApplyReport, InForceReport } from '../model/report.ts';
import { timeIn } from './time.ts';
import { clientOf, globals } from './verb.ts';

const DEFAULT_MS = 30_000;
/** After so long without an answer, it is looked whether the store is away. */
const LOOK_MS = 1000;
const TIMES = { leastMs: 1, mostMs: 3_600_000 };

export interface WaitOptions {
  /** Milliseconds; true for the default. */
  readonly wait?: number | true;
}

export function addWait(command: Command): Command {
  return command.option(
    '--wait [time]',
    'return when it is in force on all hosts that are not down, or fail if that takes longer than this from when it is in force here, such as 500ms, 30s or 2m (default: 30s)',
    timeIn(TIMES),
  );
}

/** What was changed, as far as the store may not have it yet. */
type Changed = Pick<ApplyReport, 'kind' | 'name' | 'namespace' | 'pending'>;

/**
 * @param changed what is waited for, where it may be pending
 * @throws WeftError that names the hosts where it is not in force, and then the change stays, or says why it was given up
 */
export async function waitIfAsked(
  { wait }: WaitOptions,
  command: Command,
  changed: readonly Changed[] = [],
): Promise<void> {
  if (wait === undefined) return;
  const client = clientOf(command);
  const late = setTimeout(() => void sayWhatItWaitsFor(client), LOOK_MS);
  const report = await client.wait(wait === true ? DEFAULT_MS : wait).finally(() => clearTimeout(late));
  await refuseGivenUp(client, changed);
  const text = everywhereText(report);
  // Other formats are read by programs.
  if (globals(command).output === 'table') process.stdout.write(text);
  else if (text.includes('down')) process.stderr.write(text);
}

/** What was pending is in force everywhere, or nowhere: somebody else was first while the store was away. */
async function refuseGivenUp(client: Client, changed: readonly Changed[]): Promise<void> {
  const pending = changed.filter((one) => one.pending !== undefined);
  if (pending.length === 0) return;
  const { sharedStore } = await client.status();
  const lost = sharedStore?.lost ?? [];
  const isLost = (why: string): boolean =>
    pending.some((one) => why.startsWith(`${one.kind.toLowerCase()} "${idOf(one)}" `));
  const whys = lost.filter(isLost);
  if (whys.length > 0) throw new WeftError('conflict', whys.join('; '));
}

/** While the store is away, the other hosts cannot have it. */
async function sayWhatItWaitsFor(client: Client): Promise<void> {
  // The answer to what is waited for says the rest.
  const store = await client.status().then(
    ({ sharedStore }) => sharedStore,
    () => null,
  );
  if (store && !store.reachable)
    process.stderr.write(`weft: in force here; waiting for the store, which cannot be reached: ${store.why}\n`);
}

/** `in force on a, b and c; d is down` */
function everywhereText({ hosts }: InForceReport): string {
  const named = (state: string): string[] => hosts.filter((one) => one.state === state).map(({ host }) => host);
  const down = named('down');
  const where = hosts.length === 0 ? 'this host' : named('in force').join(', ');
  return `in force on ${where}${down.length > 0 ? `; down, and not waited for: ${down.join(', ')}` : ''}\n`;
}
