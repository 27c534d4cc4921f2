/** What the host does with a packet that comes out of weft0: which rules of `inet weft` it meets, for `weft trace`. */
import { WeftError } from '../error.ts';
import { nextHop } from '../link/next-hop.ts';
import { ownNetns } from '../link/netns.ts';
import { listChains } from '../link/nft.ts';
import type { PublishedPort } from '../model/publish.ts';
import { METADATA_ADDRESS, PORTS, TABLE, vxlanPorts, type AllowHost } from './rules.ts';
import { OUTSIDE_IFNAME, transit } from './link.ts';

export interface OutsidePacket {
  /** Canonical text. */
  readonly destination: string;
  readonly protocol: 'TCP' | 'UDP' | 'other';
  readonly l4Port: number;
}

export interface OutsideSettings {
  readonly allowHost: AllowHost;
  readonly vxlanPort: number;
  readonly published: readonly PublishedPort[];
}

/** One line for each chain, with what it decides. Reads the routes of the network namespace of this process. */
export async function outsidePath(packet: OutsidePacket, settings: OutsideSettings): Promise<string[]> {
  const { destination, protocol, l4Port } = packet;
  const hop = await nextHop(await ownNetns(), destination);
  if (!hop) return [`host: no route to ${destination}: the host answers with an ICMP error`];
  const isLocal = hop.type === 'local';
  const link = destination.includes(':') ? transit.ip6 : transit.ip4;

  if (isLocal && settings.published.some((one) => isPublished(one, packet))) {
    return [
      `host: ${TABLE} publish: dnat to ${link.weft}, port ${l4Port}`,
      `host: ${TABLE} postrouting: snat to ${link.host}; back into ${OUTSIDE_IFNAME}`,
    ];
  }
  const filter = isLocal ? 'input' : 'from_weft';
  const refused = protocol === 'UDP' && vxlanPorts(settings.vxlanPort).includes(l4Port);
  if (refused) return [`host: ${TABLE} ${filter}: drop, UDP ${l4Port} is VXLAN`];
  if (isLocal) {
    const isAllowed =
      settings.allowHost === true ||
      (settings.allowHost !== false &&
        settings.allowHost.some((one) => one.protocol === protocol && one.port === l4Port));
    return [
      isAllowed
        ? `host: ${TABLE} input: accept, by allowHost of the configuration`
        : `host: ${TABLE} input: drop, ${destination} is this host, and allowHost does not name the port`,
      ...(await others('input')),
    ];
  }
  if (destination === METADATA_ADDRESS && settings.allowHost !== true) {
    return [`host: ${TABLE} from_weft: drop, the metadata of a cloud is the host's`];
  }
  const ports = protocol === 'other' ? '' : `, ports ${PORTS}`;
  return [
    `host: ${TABLE} forward, from_weft: return (accept)`,
    ...(await others('forward')),
    `host: ${TABLE} postrouting: masquerade to ${hop.source ?? `an address of ${hop.ifname}`}${ports}`,
    `host: out by ${hop.ifname}${hop.address === destination ? '' : ` to ${hop.address}`}`,
  ];
}

function isPublished({ family, protocol, hostPort, hostIp }: PublishedPort, packet: OutsidePacket): boolean {
  const isFamily = (family === 6) === packet.destination.includes(':');
  const isOn = hostIp === undefined || hostIp === packet.destination;
  return isFamily && isOn && protocol === packet.protocol && hostPort === packet.l4Port;
}

/** Chains of other tables that the packet passes and whose policy is to drop. */
async function others(hook: string): Promise<string[]> {
  try {
    return (await listChains())
      .filter((chain) => chain.hook === hook && chain.policy === 'drop' && `${chain.family} ${chain.table}` !== TABLE)
      .map(({ family, table, name }) => `host: ${family} ${table} ${name}: policy drop, unless a rule of it accepts`);
  } catch (error) {
    if (error instanceof WeftError) return [`host: other tables could not be read: ${error.message}`];
    throw error;
  }
}
