/**
 * The demonstration: a whole overlay network on one machine, within a minute.
 *
 *   1. two or more hosts on an underlay, `weft up` on each; with `--store etcd` they share one, which is started first
 *   2. a scenario of demo/
 *        basic      all containers ping each other; iperf3, `weft trace` and `weft why`
 *        failover   a host loses its power
 *        bookinfo   services: names, shares, and backends that drain, fail and come back
 *   3. everything removed (or kept, with how to explore it)
 *
 * It types what an operator would: every step is a command of weft or iproute2.
 */
import { WeftError } from '../error.ts';
import { basic } from './demo/basic.ts';
import { bookinfo } from './demo/bookinfo.ts';
import { requirePrograms } from './demo/commands.ts';
import { failover } from './demo/failover.ts';
import { planFor, type Plan, type ScenarioName } from './demo/plan.ts';
import { say } from './demo/say.ts';
import * as stage from './demo/stage.ts';
import { write } from './print.ts';

export interface DemoOptions {
  readonly hosts: number;
  readonly store: Plan['store'];
  readonly scenario: ScenarioName;
  readonly keep: boolean;
}

/**
 * Runs on hosts that forward, and ends with what happened. @returns what people can look at while it goes on: shell commands
 * @throws WeftError if something is not as it should be
 */
type Scenario = (plan: Plan, signal: AbortSignal) => Promise<readonly string[]>;

const scenarios: Readonly<Record<ScenarioName, Scenario>> = { basic, failover, bookinfo };

/** @throws WeftError if it cannot run here, or a step fails */
export async function demo({ hosts, store, scenario, keep }: DemoOptions): Promise<void> {
  if (process.getuid?.() !== 0) {
    throw new WeftError('system', 'weft demo needs root to make network namespaces: run it as root or with sudo');
  }
  requirePrograms(scenario, store);
  const plan = planFor(hosts, store);

  const interruption = new AbortController();
  const interrupt = (name: NodeJS.Signals): void => {
    interruption.abort(new WeftError('system', `interrupted (${name}), everything removed`));
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, interrupt);

  const cleaned = await stage.claim();
  let kept: readonly string[] | undefined;
  try {
    if (cleaned === 'cleaned') await say('removed what an earlier demo had left');
    await startHosts(plan, interruption.signal);
    const explorations = await scenarios[scenario](plan, interruption.signal);
    if (keep) kept = explorations;
  } catch (error) {
    throw interruption.signal.aborted ? interruption.signal.reason : error;
  } finally {
    if (kept) {
      stage.release();
      await write(keptText(plan, kept));
    } else {
      await stage.clear();
      await say('removed everything');
    }
    for (const signal of signals) process.off(signal, interrupt);
  }
}

async function startHosts(plan: Plan, signal: AbortSignal): Promise<void> {
  const { hosts, store } = plan;
  const named = `hosts ${listText(hosts.map(({ name }) => name))}`;
  const addresses = listText(hosts.map(({ underlay }) => underlay));
  await say(
    `${named}: namespaces on a ${hosts.length === 2 && store === 'embedded' ? 'cable' : 'bridge'}, ${addresses}`,
  );
  await stage.buildUnderlay(plan, signal);
  if (store === 'etcd') {
    await say('etcd, which all hosts share');
    await stage.startEtcd(signal);
  }
  for (const host of hosts) {
    await say(`weft up on ${host.name}`);
    await stage.startDaemon(host, plan, signal);
  }
}

function keptText(plan: Plan, explorations: readonly string[]): string {
  return [
    '\nIt goes on. To explore it:\n',
    `  weft='${stage.weft.join(' ')}'\n`,
    ...explorations.map((line) => `  ${line}\n`),
    '\nTo remove it:\n',
    ...stage.removal(plan).map((line) => `  ${line}\n`),
  ].join('');
}

/** `alpha, beta and gamma` */
function listText(words: readonly string[]): string {
  return `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`;
}
