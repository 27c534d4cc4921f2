/** What the switch knows: connections, the forwarding database, what is declared, and what is wrong with that. */
import type { HookReport, StatusReport } from '../model/report.ts';
import { counter, gauge, labelled, type Metric, type Sample } from './metric.ts';

export const tableMetrics: readonly Metric[] = [
  labelled(
    'gauge',
    'weft_connections',
    'Connections: translated ones, those that are only tracked, which give way to them, and those that weft has ended',
    ['kind'],
    ({ status: { connections } }) => [
      { labels: { kind: 'translated' }, value: connections.active - connections.tracked - connections.ended },
      { labels: { kind: 'tracked' }, value: connections.tracked },
      { labels: { kind: 'ended' }, value: connections.ended },
    ],
  ),
  gauge('weft_connections_limit', 'The most connections that there can be', ({ status }) => status.connections.limit),
  counter(
    'weft_policy_cut_connections_total',
    'Connections that policies have ended, since they do not allow them any more',
    ({ status }) => status.policies.cut,
  ),
  labelled(
    'counter',
    'weft_policy_staged_total',
    'What staged policies would have denied: decisions about new conversations, and open connections when something changed',
    ['of'],
    ({ status: { policies } }) => [
      { labels: { of: 'decisions' }, value: policies.stagedDecisions },
      { labels: { of: 'connections' }, value: policies.stagedConnections },
    ],
  ),
  gauge(
    'weft_backends_checked',
    'Backends of services that this host checks, since their services ask for it',
    ({ status }) => status.health.checked,
  ),
  gauge('weft_backends_unhealthy', 'Backends whose checks by this host fail', ({ status }) => status.health.failing),
  gauge(
    'weft_backends_ejected',
    'Backends that this host has ejected at the moment, since connections to them failed',
    ({ status }) => status.health.ejected,
  ),
  counter(
    'weft_backend_ejections_total',
    'How often this host has ejected a backend',
    ({ status }) => status.health.ejections,
  ),
  gauge('weft_fdb_entries', 'Entries of the forwarding databases', ({ status }) => status.fdb.entries),
  labelled(
    'gauge',
    'weft_fdb_learned_entries',
    'Learned entries of the forwarding databases, by the port or VTEP where the MAC is',
    ['owner'],
    ({ status }) => Object.entries(status.fdb.learned).map(([owner, value]) => ({ labels: { owner }, value })),
  ),
  counter('weft_fdb_evicted_total', 'Learned entries that gave way at the quota', ({ status }) => status.fdb.evicted),
  counter('weft_fdb_moves_total', 'Learned MACs that moved to another port or VTEP', ({ status }) => status.fdb.moves),
  gauge('weft_networks', 'Networks', ({ status }) => status.networks),
  gauge('weft_endpoints', 'Endpoints, those of other hosts included', ({ status }) => status.endpoints),
  gauge(
    'weft_endpoints_with_problems',
    'Endpoints of this host that wait, or whose interface is not as it was given; weft status names them',
    ({ status }) => Object.keys(status.endpointProblems).length,
  ),
  gauge(
    'weft_refused_records',
    'Resources in the store that this host does not accept; weft status names them',
    ({ status }) => status.refusedRecordCount,
  ),
  labelled(
    'gauge',
    'weft_hook_in_force',
    '1 if the flow hook is in force as it is wanted, 0 if it cannot be loaded or is in quarantine',
    ['hook'],
    ({ status }) =>
      byHook(
        status,
        ({ state, why }) => Number(state === 'in_force' && why === undefined),
        (a, b) => Math.min(a, b),
      ),
  ),
  labelled(
    'counter',
    'weft_hook_asked_total',
    'How often a flow hook was asked, since what it has said before did not cover the flow',
    ['hook'],
    ({ status }) => byHook(status, ({ asked }) => asked),
  ),
  labelled(
    'counter',
    'weft_hook_failures_total',
    'How often a flow hook has failed about a flow',
    ['hook'],
    ({ status }) => byHook(status, ({ failures }) => failures),
  ),
  labelled(
    'counter',
    'weft_hook_quarantines_total',
    'How often a flow hook was put into quarantine, since it took too long or its process ended',
    ['hook'],
    ({ status }) => byHook(status, ({ quarantines }) => quarantines),
  ),
  gauge(
    'weft_clashes',
    'Conflicts with other hosts and with routes of this host; weft status names them',
    ({ status }) => status.clashes.length,
  ),
];

/** Two hooks may have one name: one that is declared, and one in a file. */
function byHook(
  { hooks }: StatusReport,
  valueOf: (hook: HookReport) => number,
  join = (a: number, b: number): number => a + b,
): Sample[] {
  const values = new Map<string, number>();
  for (const hook of hooks) {
    const before = values.get(hook.name);
    values.set(hook.name, before === undefined ? valueOf(hook) : join(before, valueOf(hook)));
  }
  return [...values].map(([hook, value]) => ({ labels: { hook }, value }));
}
