/** What `weft status` shows: one report of all parts; and `weft hosts`. */
import type { HostReport, StatusReport } from './model/report.ts';
import { storeName } from './model/store-config.ts';
import { version } from './package.ts';
import type { Parts, SwitchOptions } from './parts.ts';

export interface Running {
  readonly startedAt: Date;
  readonly isForwarding: boolean;
}

export function statusOf(parts: Parts, options: SwitchOptions, { startedAt, isForwarding }: Running): StatusReport {
  const {
    classes,
    cluster,
    endpoints,
    health,
    hosts,
    internal,
    membership,
    metricsServer,
    networks,
    observer,
    outside,
    paths,
    peers,
    underlay,
  } = parts;
  const { host, datapath, flowLimit } = options;
  return {
    host,
    version,
    pid: process.pid,
    startedAt: startedAt.toISOString(),
    forwarding: isForwarding,
    underlay: underlay.addressText ?? null,
    tunnel: underlay.report() ?? null,
    peers: [...hosts.vteps()],
    peerStates: peers.states(),
    pathMtus: Object.fromEntries([...paths.known].map(([peer, { mtu }]) => [peer, mtu])),
    pathSources: Object.fromEntries([...paths.known].map(([peer, { source }]) => [peer, source])),
    store: storeName(options.store),
    sharedStore: parts.feed.report(),
    clashes: parts.clashes(),
    outside: outside.report(),
    internal: internal.report(),
    metrics: metricsServer.report(),
    registration: membership.report,
    inForce: membership.inForceReport,
    health: health.report(),
    networks: networks.size,
    endpoints: endpoints.size,
    endpointProblems: endpoints.problems(),
    refusedRecords: cluster.refused.report(),
    refusedRecordCount: cluster.refused.count,
    hooks: parts.hooks.keeper.report(),
    flowClasses: classes.report(),
    confirmation: cluster.confirmation.report(),
    ...observer.status({ kind: datapath, flowLimit }),
  };
}

/** The other hosts, and what is known of the way to each. */
export async function hostsOf({ cluster, membership, peers }: Parts): Promise<HostReport[]> {
  cluster.requireKnown();
  await membership.inForce.look().catch(() => {}); // what they had before is shown then
  const known = membership.describe();
  return (await peers.inForce()).map((peer) => ({ ...peer, ...known.get(peer.name ?? '') }));
}
