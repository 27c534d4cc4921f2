/** Conflicts with other hosts or routes, in the operator's words: what does not fit together, and how to fix it. */
import { findOverlap } from '../cluster/addresses/subnet.ts';
import type { Clash, SeenClash } from '../control/clashes.ts';
import { formatIp, formatMac, sameBytes, type Vni } from '../flow/types.ts';
import { findListeners } from '../link/listeners.ts';
import type { HostRoute } from '../link/host-routes.ts';
import { lastSeenText } from '../model/last-seen.ts';
import { portText, type PublishedPort } from '../model/publish.ts';
import type { ClashReport } from '../model/report.ts';
import type { Fdb } from '../table/fdb.ts';
import type { NeighborTable } from '../table/neighbor.ts';

export interface TunnelNames {
  readonly hostMac: Uint8Array;
  readonly fdb: Pick<Fdb, 'lookup'>;
  readonly neighbors: Pick<NeighborTable, 'lookup'>;
  /** Name of an endpoint, by its port. */
  readonly portName: (port: number) => string;
  /** True if all hosts have their networks from one store. */
  readonly isShared: boolean;
}

/** Conflicts seen in frames from the tunnel. */
export function tunnelClash({ clash, atMs }: SeenClash, names: TunnelNames, nowMs: number): ClashReport {
  const { detail, hint } = clashText(clash, names);
  return { detail: `${detail}${lastSeenText(nowMs - atMs)}`, hint };
}

function clashText(clash: Clash, names: TunnelNames): ClashReport {
  const { hostMac, neighbors, isShared } = names;
  const vtep = formatIp(clash.vtep);
  switch (clash.kind) {
    case 'stranger':
      return {
        detail: `${vtep} sends VXLAN to this host, and is not a peer of it`,
        hint: isShared
          ? 'see with `weft status` there which store it uses: hosts that share one, with one prefix, know each other by themselves; if it is not weft, take this host out of its peers, or apply a Host for it'
          : `give weft up --peer ${vtep} here, or take this host out of the peers there`,
      };
    case 'vni':
      return {
        detail: `peer ${vtep} sends VNI ${clash.vni}, which no network here has`,
        hint: isShared
          ? 'the network was deleted, and that host does not know it yet: `weft hosts` says whether it is behind'
          : 'give a network the same VNI on all hosts; where only other hosts have this network, nothing is wrong',
      };
    case 'mac': {
      const mac = formatMac(clash.mac);
      if (sameBytes(clash.mac, hostMac)) {
        return {
          detail: `peer ${vtep} has the identity of this host (it sends from ${mac})`,
          hint: 'the state directory of one is a copy of the other’s: stop one of them with weft down --purge, remove its state directory, and attach its containers again',
        };
      }
      return {
        detail: `peer ${vtep} sends from ${mac}, the MAC of ${ownerOf(clash.vni, clash.mac, names)}`,
        hint: 'two containers have one MAC: detach one of them, and attach it with another --mac',
      };
    }
    case 'address': {
      const ip = formatIp(clash.ip);
      const mac = neighbors.lookup(clash.vni, clash.ip);
      const owner = mac ? ownerOf(clash.vni, mac, names) : 'another endpoint';
      return {
        detail: `peer ${vtep} says that it has ${ip}, the address of ${owner}`,
        hint: 'two containers have one address: detach one of them, and attach it with another --ip; an address that moves between them is in allowedAddresses of both',
      };
    }
    default:
      return clash satisfies never;
  }
}

function ownerOf(vni: Vni, mac: Uint8Array, { fdb, portName }: TunnelNames): string {
  const where = fdb.lookup(vni, mac)?.where;
  return where?.kind === 'port' ? `endpoint "${portName(where.port)}" of this host` : 'an endpoint of another host';
}

/** Subnets that the host has routes to: containers look for those addresses inside their network, not beyond it. */
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

/** Routes that lead to networks which this host does not have: packets that take them are answered as unreachable. */
export function routeClashes(
  networks: readonly {
    readonly name: string;
    readonly routes: readonly { readonly to: string; readonly network?: string | undefined }[];
  }[],
): ClashReport[] {
  const known = new Set(networks.map(({ name }) => name));
  return networks.flatMap(({ name, routes }) =>
    routes.flatMap(({ to, network }) =>
      network === undefined || known.has(network)
        ? []
        : {
            detail: `the route of network "${name}" to ${to} leads to network "${network}", which does not exist on this host`,
            hint: `create network "${network}" here, too, or correct the route and apply it again`,
          },
    ),
  );
}

/** Node ports that programs of this host listen on, too: clients outside do not reach them any more. */
export function listenerClashes(
  nodePorts: readonly PublishedPort[],
  ownerOf: (port: number) => string | undefined,
  find: typeof findListeners = findListeners,
): ClashReport[] {
  const found = find(nodePorts.map(({ protocol, family, hostPort }) => ({ protocol, family, l4Port: hostPort })));
  const byPort = new Map(
    nodePorts.flatMap((port, at) => (found[at] === undefined ? [] : [[portText(port), { ...port, on: found[at] }]])),
  );
  return [...byPort].map(([text, { hostPort, on }]) => ({
    detail: `${text} is the node port of service "${ownerOf(hostPort) ?? '?'}", and a program of this host listens on ${on}: clients outside come to the service`,
    hint: 'stop the program, or give the service another nodePort',
  }));
}
