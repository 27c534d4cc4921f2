/** Clashes as an operator reads them: what does not fit together, and how it is mended. */
import { findOverlap } from '../cluster/subnet.ts';
import type { Clash } from '../control/clashes.ts';
import { formatIp, formatMac, sameBytes } from '../flow/types.ts';
import type { HostRoute } from '../link/host-routes.ts';
import type { ClashReport } from '../model/report.ts';
import type { Fdb } from '../table/fdb.ts';

export interface TunnelNames {
  readonly hostMac: Uint8Array;
  readonly fdb: Pick<Fdb, 'lookup'>;
  /** Of an endpoint, by its port. */
  readonly portName: (port: number) => string;
}

/** What comes by the tunnel. */
export function tunnelClash(clash: Clash, { hostMac, fdb, portName }: TunnelNames): ClashReport {
  const vtep = formatIp(clash.vtep);
  switch (clash.kind) {
    case 'stranger':
      return {
        detail: `${vtep} sends VXLAN to this host, and is not a peer of it`,
        hint: `give weft up --peer ${vtep} here, or take this host out of the peers there`,
      };
    case 'vni':
      return {
        detail: `peer ${vtep} sends VNI ${clash.vni}, which no network here has`,
        hint: 'give a network the same VNI on all hosts; where only other hosts have this network, nothing is wrong',
      };
    case 'mac': {
      const mac = formatMac(clash.mac);
      if (sameBytes(clash.mac, hostMac)) {
        return {
          detail: `peer ${vtep} has the identity of this host (it sends from ${mac})`,
          hint: 'the state directory of one is a copy of the other’s: stop one of them with weft down --purge, remove its state directory, and attach its containers anew',
        };
      }
      const where = fdb.lookup(clash.vni, clash.mac)?.where;
      const owner = where?.kind === 'port' ? `endpoint "${portName(where.port)}"` : 'an endpoint';
      return {
        detail: `peer ${vtep} sends from ${mac}, the MAC of ${owner} of this host`,
        hint: 'two containers have one MAC: attach one of them anew with another --mac',
      };
    }
    default:
      return clash satisfies never;
  }
}

/** Subnets that the host has routes to: containers look for those addresses in their network, not beyond it. */
export function subnetClashes(
  networks: readonly { readonly name: string; readonly subnets: readonly string[] }[],
  routes: readonly HostRoute[],
): ClashReport[] {
  return networks.flatMap(({ name, subnets }) => {
    const overlap = findOverlap(
      subnets,
      routes.map(({ to }) => to),
    );
    if (!overlap) return [];
    const [subnet, to] = overlap;
    const { ifname } = routes.find((route) => route.to === to)!;
    return [
      {
        detail: `subnet ${subnet} of network "${name}" overlaps ${to}, which this host reaches by ${ifname}: its containers do not reach what is there`,
        hint: 'create the network with another subnet',
      },
    ];
  });
}
