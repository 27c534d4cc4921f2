/**
 * Two hosts with weft that are one cluster: with static peers, where each is told of the other and of each network, or with
 * a shared store (etcd on the left host), where each finds the other there and one of them is told of a network.
 *
 *   for (const mode of modes) {
 *     await t.test(modeName(mode), async (t) => {
 *       const lab = openLab(t);
 *       const under = await underlay(lab, 'ipv4');
 *       const { left, right, createNetwork } = await twoHosts(lab, under, mode);
 *       await createNetwork(overlay.create);
 */
import type { StatusReport } from '../../src/model/report.ts';
import { startEtcd, type Etcd } from './etcd.ts';
import type { Lab } from './lab.ts';
import { until } from './process.ts';
import type { Underlay } from './topology.ts';
import { datapathKinds, Weft, type DatapathKind, type UpOptions } from './weft.ts';

export const storeKinds = ['static peers', 'etcd'] as const;
export type StoreKind = (typeof storeKinds)[number];

export interface Mode {
  readonly datapath: DatapathKind;
  readonly store: StoreKind;
}

/**
 * Both datapaths with static peers, and one with etcd: the decisions are the same for both, and `hosts-etcd.test.ts` and
 * `two-hosts.test.ts` have what a shared store changes on both.
 */
export const modes: readonly Mode[] = [
  ...datapathKinds.map((datapath) => ({ datapath, store: 'static peers' }) as const),
  { datapath: 'native', store: 'etcd' },
];

export const modeName = ({ datapath, store }: Mode): string => `${datapath}, with ${store}`;

export interface TwoHosts {
  readonly left: Weft;
  /** It finds its own address by the route to its peer, or to the store. */
  readonly right: Weft;
  readonly hosts: readonly [left: Weft, right: Weft];
  /** Of the shared store. */
  readonly etcd: Etcd | undefined;
  /**
   * Creates a network by the words of `network create`; returns when both hosts have it.
   * @param onRight more words, with static peers, for the right host
   */
  readonly createNetwork: (words: string, onRight?: string) => ReturnType<Weft['createNetwork']>;
  /** Applies a file; returns when both hosts have what is in it. */
  readonly apply: (file: string) => Promise<void>;
}

/** @param options of both daemons */
export async function twoHosts(
  lab: Lab,
  under: Underlay,
  { datapath, store }: Mode,
  options: Pick<UpOptions, 'arguments' | 'collectable'> = {},
): Promise<TwoHosts> {
  const etcd =
    store === 'etcd'
      ? await startEtcd(lab, { members: [{ namespace: under.left, address: under.leftIp }] })
      : undefined;
  const shared = etcd ? ['--store', etcd.url] : [];
  const both = { ...options, datapath, arguments: [...(options.arguments ?? []), ...shared] };
  const peers = (ip: string): string[] => (etcd ? [] : [ip]);
  const left = await Weft.up(lab, under.left, 'left', { ...both, underlay: under.leftIp, peers: peers(under.rightIp) });
  const right = await Weft.up(lab, under.right, 'right', { ...both, peers: peers(under.leftIp) });
  const hosts = [left, right] as const;
  if (etcd) {
    for (const weft of hosts) {
      const isUp = async (): Promise<boolean> => (await weft.client.hosts())[0]?.state === 'up';
      await until(isUp, { what: 'each host has heard the other’s probes' });
    }
  }
  return {
    left,
    right,
    hosts,
    etcd,
    createNetwork: async (words, onRight = '') => {
      const report = await left.createNetwork(words);
      if (!etcd) await right.createNetwork(`${words} ${onRight}`.trim());
      else
        await until(async () => (await right.client.networks()).some(({ name }) => name === report.name), {
          what: `the right host has network ${report.name}`,
        });
      return report;
    },
    apply: async (file) => {
      if (etcd) await left.run('apply', '-f', file, '--wait=60s');
      else for (const weft of hosts) await weft.run('apply', '-f', file);
    },
  };
}

/**
 * What a host has dropped, by reason. With a shared store, the neighbor discovery that containers start by themselves, to
 * announce an address or to look for a router, goes to nobody.
 */
export function dropsOf({ datapath: { drops } }: StatusReport, { store }: Mode): Record<string, number> {
  const expected = store === 'etcd' ? ['no_destination'] : [];
  return Object.fromEntries(Object.entries(drops).filter(([reason]) => !expected.includes(reason)));
}
