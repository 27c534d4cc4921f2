/** Forwarding on a host: its limits, its memory for connections, and what is logged of it. */
import type { Logger } from 'pino';
import { connectionMemory } from './addon/connection-memory.ts';
import { HostConnections } from './addon/host-connections.ts';
import type { DaemonConfig } from './config.ts';
import type { Datapath, DatapathOptions } from './datapath/datapath.ts';
import { connectionSlots, Forwarding, type ForwardingOptions } from './forwarding.ts';

export interface HostForwardingOptions extends DaemonConfig {
  readonly logger: Logger;
  readonly connectionsFile?: string;
}

/** What the process has only once. */
export interface HostForwardingFoundations
  extends Pick<ForwardingOptions, 'natKey' | 'clock' | 'wallClock' | 'after' | 'later' | 'onPortLost'> {
  readonly openDatapath: (options: DatapathOptions) => Datapath;
  /** Of this host. */
  readonly identity: Uint8Array;
}

/** How many connections to and from outside one endpoint may have, and what part of all, if that is less. */
const CONNECTION_QUOTA = { most: 16_384, share: 1 / 4 };
/** How many containers of other hosts one network may route to. */
const NEIGHBOR_QUOTA = 4096;

export function openForwarding(
  options: HostForwardingOptions,
  { openDatapath, identity, ...foundations }: HostForwardingFoundations,
  onPeersChanged: () => void,
): Forwarding {
  const { logger } = options;
  const { natKey, clock, wallClock, after, later, onPortLost } = foundations;
  const hostConnections = new HostConnections({
    isOpen: (connection) => forwarding.tables.connections.isOpenOutside(connection),
    onFailure: (error) =>
      logger.warn({ err: error }, 'ended connections stay in the conntrack table of the host until they time out'),
  });
  const forwarding: Forwarding = new Forwarding(openDatapath, {
    ...{ natKey, clock, wallClock, after, later, onPortLost, onPeersChanged },
    hostId: identity.subarray(0, 3),
    fdbQuota: options.fdbQuota,
    neighborQuota: NEIGHBOR_QUOTA,
    fdbAgeingMs: options.fdbAgeingMs,
    flowCap: options.flowLimit,
    flowIdleMs: options.flowIdleMs,
    connections: connectionMemory({
      path: options.connectionsFile,
      count: connectionSlots(options.connections),
      onSetAside: (path) =>
        logger.warn({ path }, 'the connections of another version of weft cannot be taken over: they are set aside'),
    }),
    connectionQuota: Math.min(CONNECTION_QUOTA.most, Math.ceil(options.connections * CONNECTION_QUOTA.share)),
    storm: { port: options.stormLimit, tunnel: options.tunnelStormLimit },
    onConnectionClosed: (connection) => hostConnections.forget(connection),
    onError: (error) => logger.error({ err: error }, 'decision failed'),
  });
  forwarding.controller.audit.onMismatch = (mismatch) =>
    logger.error(mismatch, 'not as it would be decided now, which is a defect of weft: repaired');
  return forwarding;
}
