/**
 *            ┌ wire ─────────── br0 ────────────────┐
 *            │     │        │        │        │     │
 *          host a  host b  host c  etcd m0  etcd m1 …
 *
 * Hosts on one Ethernet, with weft and containers on each, and etcd on machines of its own. Any of them can be cut off
 * from any other, in one direction or both, with nftables rules that drop what arrives.
 */
import { etcdCluster } from './cluster.ts';
import type { Etcd } from './etcd.ts';
import type { Lab, Namespace } from './lab.ts';
import type { Talker } from './tagged.ts';
import { overlay } from './topology.ts';
import type { DatapathKind, Weft } from './weft.ts';

export interface ManyHostsOptions {
  readonly datapath: DatapathKind;
  /** How many hosts; they are named a, b, c …. */
  readonly hosts: number;
  readonly containersPerHost: number;
  /** How many members etcd has. */
  readonly members: number;
}

/** A machine on the wire. */
export interface Machine {
  readonly name: string;
  readonly namespace: Namespace;
  readonly ip: string;
}

export interface LabHost extends Machine {
  readonly weft: Weft;
}

const TABLE = 'inet cuts';

export class ManyHosts {
  readonly hosts: readonly LabHost[];
  readonly etcd: Etcd;
  /** Where the members of etcd run. */
  readonly stores: readonly Machine[];
  readonly containers: readonly Talker[];

  private constructor(
    hosts: readonly LabHost[],
    etcd: Etcd,
    stores: readonly Machine[],
    containers: readonly Talker[],
  ) {
    this.hosts = hosts;
    this.etcd = etcd;
    this.stores = stores;
    this.containers = containers;
  }

  static async open(lab: Lab, options: ManyHostsOptions): Promise<ManyHosts> {
    const cluster = await etcdCluster(lab, options.hosts, { memberCount: options.members });
    const wefts = await cluster.up(options.datapath);
    const hosts = cluster.hosts.map(
      ({ name, namespace, underlay }, at): LabHost => ({ name, namespace, ip: underlay, weft: wefts[at]! }),
    );
    const stores = cluster.etcd.members.map(
      ({ name, namespace, address }): Machine => ({ name, namespace: namespace!, ip: address }),
    );
    for (const { namespace } of [...hosts, ...stores]) await namespace.run(['nft', '-f', '-'], { input: emptyTable });
    await hosts[0]!.weft.createNetwork(overlay.create);
    const containers: Talker[] = [];
    for (const { name, weft } of hosts) {
      for (let at = 0; at < options.containersPerHost; at++) {
        const role = `${name}${at}`;
        const namespace = await lab.namespace(role);
        const { addresses } = await weft.attach(namespace, { network: overlay.network });
        containers.push({ name: role, namespace, ip4: addresses[0]! });
      }
    }
    return new ManyHosts(hosts, cluster.etcd, stores, containers);
  }

  /** From now on nothing that `from` sends arrives at `at`. */
  async cutOneWay(at: Machine, from: Machine): Promise<void> {
    await at.namespace.run(['nft', 'add', 'element', ...TABLE.split(' '), 'from', `{ ${from.ip} }`]);
  }

  async cut(a: Machine, b: Machine): Promise<void> {
    await this.cutOneWay(a, b);
    await this.cutOneWay(b, a);
  }

  async heal(): Promise<void> {
    for (const { namespace } of [...this.hosts, ...this.stores]) {
      await namespace.run(['nft', 'flush', 'set', ...TABLE.split(' '), 'from']);
    }
  }
}

const emptyTable = `
table ${TABLE} {
  set from { type ipv4_addr; }
  chain arrive {
    type filter hook prerouting priority raw; policy accept;
    ip saddr @from drop
  }
}
`;
