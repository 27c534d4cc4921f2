/** Connections that exchange data without a pause, over every way that a packet may take through one host. */
import type { Lab, Namespace } from './lab.ts';
import type { Background } from './process.ts';
import { outsideHost, outsideIps, routedShop, type OutsideHost } from './topology.ts';
import { python } from './traffic.ts';
import type { DatapathKind } from './weft.ts';

const PORT = 7100;

/** What has happened on all connections of one way since the last time. */
export interface Exchanged {
  readonly exchanges: number;
  /** The longest time between two exchanges on one connection. */
  readonly longestMs: number;
  /** What ended the connections that have broken, ever since they began. */
  readonly broken: readonly string[];
}

export interface Exchanges extends OutsideHost {
  /** By way: switched, routed, translated, published. */
  readonly report: () => Promise<ReadonlyMap<string, Exchanged>>;
}

/**
 * A host with an outside, where `connections` TCP connections on each way exchange data until the lab ends.
 *
 *   ┌ client ┐ eth0 ── eth0 ┌ host ──────────────────────────┐
 *   │        │              │ weft0 ── weft ─┬─ web, db: blue│
 *   └────────┘              │                └─ shop: red    │
 *                           └────────────────────────────────┘
 */
export async function startExchanges(lab: Lab, datapath: DatapathKind, connections: number): Promise<Exchanges> {
  const host = await outsideHost(lab, datapath, [`${PORT}:${PORT}`]);
  const { client, web, db } = host;
  const { shop, ip: shopIp } = await routedShop(lab, host);
  for (const namespace of [db.namespace, shop, client, web.namespace]) {
    await namespace.start(python('exchange.py', 'serve', PORT)).says('ready');
  }
  const ways = new Map<string, Background>();
  const start = async (way: string, from: Namespace, to: string): Promise<void> => {
    const asking = from.start(python('exchange.py', 'ask', to, PORT, connections));
    await asking.says('ready');
    ways.set(way, asking);
  };
  await start('switched', web.namespace, db.ip4);
  await start('routed', web.namespace, shopIp);
  await start('translated', web.namespace, outsideIps.client.ip4);
  await start('published', client, outsideIps.host.ip4);
  return {
    ...host,
    report: async () =>
      new Map(await Promise.all([...ways].map(async ([way, asking]) => [way, await exchanged(asking)] as const))),
  };
}

/** What has happened on the connections of one `exchange.py ask`. */
export async function exchanged(asking: Background): Promise<Exchanged> {
  const { length } = asking.lines;
  asking.write('report\n');
  while (asking.lines.length === length) {
    if (!asking.isRunning) throw new Error(`connections have ended: ${asking.stderr}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return JSON.parse(asking.lines[length]!.text) as Exchanged;
}
