/** `--wait`: returns when what was changed is in force on all hosts that are not down. */
import type { Command } from 'commander';
import type { Client } from '../api/client.ts';
import type { InForceReport } from '../model/report.ts';
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

/** @throws WeftError that names the hosts where it is not in force; the change stays */
export async function waitIfAsked({ wait }: WaitOptions, command: Command): Promise<void> {
  if (wait === undefined) return;
  const client = clientOf(command);
  const late = setTimeout(() => void sayWhatItWaitsFor(client), LOOK_MS);
  const report = await client.wait(wait === true ? DEFAULT_MS : wait).finally(() => clearTimeout(late));
  const text = everywhereText(report);
  // Other formats are read by programs.
  if (globals(command).output === 'table') process.stdout.write(text);
  else if (text.includes('down')) process.stderr.write(text);
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
