/**
 * Several hosts on one underlay, and etcd beside them, as an operator would set that up:
 *
 *   ┌ a ──────┐  ┌ b ──────┐  ┌ c ──────┐
 *   │  weft   │  │  weft   │  │  weft   │
 *   └── .1 ───┘  └── .2 ───┘  └── .3 ───┘
 *        └── 192.0.2.0/24: one bridge ──┴── etcd (.100, and .101 … with more members)
 */
import { startEtcd, type Etcd, type EtcdOptions } from './etcd.ts';
import type { Lab, Namespace } from './lab.ts';
import { underlayLink } from './topology.ts';
import { Weft, type DatapathKind, type UpOptions } from './weft.ts';

export const hostNames = ['a', 'b', 'c', 'd', 'e'] as const;
export type HostName = (typeof hostNames)[number];

export interface ClusterHost {
  readonly name: string;
  readonly namespace: Namespace;
  readonly underlay: string;
}

export interface EtcdCluster {
  readonly etcd: Etcd;
  /** The bridge between them. The end of host `a` there is called `to-a`. */
  readonly wire: Namespace;
  readonly hosts: readonly ClusterHost[];
  /** The arguments of `weft up` on a host. */
  options(host: ClusterHost, datapath: DatapathKind, more?: readonly string[]): UpOptions;
  /** Starts a daemon on each host. */
  up(datapath: DatapathKind): Promise<Weft[]>;
  /** Cuts a host off from everything on the wire, or mends that: the link looks alive, and nothing arrives. */
  cut(host: ClusterHost, from: readonly string[]): Promise<void>;
  mend(host: ClusterHost): Promise<void>;
}

const PREFIX = '192.0.2';
const ETCD = `${PREFIX}.100`;

/** @param memberCount how many machines etcd has */
export async function etcdCluster(
  lab: Lab,
  count: number,
  { memberCount = 1, ...options }: Omit<EtcdOptions, 'members'> & { readonly memberCount?: number } = {},
): Promise<EtcdCluster> {
  const wire = await lab.namespace('wire');
  await wire.ip('link add br0 type bridge');
  await wire.ip('link set br0 up');
  const join = async (name: string, address: string): Promise<Namespace> => {
    const namespace = await lab.namespace(name);
    await lab.cable(namespace, underlayLink, wire, `to-${name}`);
    await wire.ip(`link set to-${name} master br0`);
    await namespace.ip(`addr add ${address}/24 dev ${underlayLink}`);
    return namespace;
  };
  const hosts: ClusterHost[] = [];
  for (const [at, name] of hostNames.slice(0, count).entries()) {
    const underlay = `${PREFIX}.${at + 1}`;
    hosts.push({ name, underlay, namespace: await join(name, underlay) });
  }
  const members: { readonly namespace: Namespace; readonly address: string }[] = [];
  for (let n = 0; n < memberCount; n++) {
    const address = n === 0 ? ETCD : `${PREFIX}.${100 + n}`;
    members.push({ namespace: await join(n === 0 ? 'etcd' : `etcd${n}`, address), address });
  }
  const etcd = await startEtcd(lab, { members, ...options });
  const upOptions = (host: ClusterHost, datapath: DatapathKind, more: readonly string[] = []): UpOptions => ({
    datapath,
    underlay: host.underlay,
    arguments: ['--store', etcd.url, ...more],
  });
  return {
    etcd,
    wire,
    hosts,
    options: upOptions,
    up: (datapath) =>
      Promise.all(hosts.map((host) => Weft.up(lab, host.namespace, host.name, upOptions(host, datapath)))),
    cut: async ({ namespace }, from) => {
      const addresses = from.join(', ');
      const rules = `table ip cut {
        chain in { type filter hook input priority -300
          ip saddr { ${addresses} } drop
        }
        chain out { type filter hook output priority -300
          ip daddr { ${addresses} } drop
        }
      }`;
      await namespace.run(['nft', rules]);
    },
    mend: async ({ namespace }) => void (await namespace.run(['nft', 'delete table ip cut'])),
  };
}

export const etcdAddress = ETCD;
