/**
 * Policies change under connections that exchange data without a pause: those that are allowed before and after do not notice,
 * and one that is not allowed any more ends at once.
 *
 *   ┌ host ────────────────────────────────┐
 *   │ web   (role: client) ─┐              │     web has many connections to db, and guest has one. All policies admit web;
 *   │ guest                ─┴─ weft ── db  │     the last one does not admit guest.
 *   └──────────────────────────────────────┘
 */
import type { Test } from 'tap';
import { parseResource } from '../../../src/model/manifest.ts';
import { exchanged } from '../exchanges.ts';
import type { Lab } from '../lab.ts';
import { monotonicMs, until } from '../process.ts';
import { attachContainer, overlay } from '../topology.ts';
import { python } from '../traffic.ts';
import { Weft, type DatapathKind } from '../weft.ts';

const PORT = 7100;
/** Exchanges on all connections before policies change, and after. */
const SETTLED = 1000;
/** A connection on which nothing is exchanged for so long is cut: it paused for less, whatever happened before. */
const SILENT_MS = 5000;

export interface ChangeOptions {
  readonly datapath: DatapathKind;
  readonly connections: number;
  readonly changes: number;
}

/** @returns how many milliseconds after `apply` has returned something of guest still passed, at most */
export async function changeUnderLoad(t: Test, lab: Lab, options: ChangeOptions): Promise<number> {
  const { datapath, connections, changes } = options;
  const weft = await Weft.up(lab, await lab.namespace('host'), 'host', { datapath });
  await weft.createNetwork(overlay.create);
  const web = await attachContainer(lab, weft, 'web', 11, ['--label', 'role=client']);
  const guest = await attachContainer(lab, weft, 'guest', 12);
  const db = await attachContainer(lab, weft, 'db', 13, ['--label', 'app=db']);
  await db.namespace.start(python('exchange.py', 'serve', PORT)).says('ready');
  const apply = (spec: object, annotations: object = {}) =>
    weft.client.apply([
      parseResource({
        ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name: 'db', annotations } },
        spec: { podSelector: { matchLabels: { app: 'db' } }, ...spec },
      }),
    ]);
  await apply({ ingress: [{}] });
  const allowed = web.namespace.start(python('exchange.py', 'ask', db.ip4, PORT, connections));
  await allowed.says('ready');
  const forbidden = guest.namespace.start(python('exchange.py', 'ask', db.ip4, PORT, 1));
  await forbidden.says('ready');
  const broken: string[] = [];
  let longestMs = 0;
  const settled = async (): Promise<void> => {
    let exchanges = 0;
    await until(
      async () => {
        const report = await exchanged(allowed);
        longestMs = Math.max(longestMs, report.longestMs);
        exchanges += report.exchanges;
        broken.splice(0, Infinity, ...report.broken);
        return exchanges >= SETTLED || broken.length > 0;
      },
      { what: 'data on the connections' },
    );
  };
  await settled();
  for (let change = 0; change < changes; change++) await apply(admittingAll(change));
  await settled();
  t.same(broken, [], `none of ${connections} connections breaks while policies change ${changes} times`);
  t.same((await exchanged(forbidden)).broken, [], 'nor does the one of guest');
  t.comment(`the longest time between two exchanges was ${longestMs.toFixed(0)} ms`);

  await apply({ ingress: [admitsClients] }, { 'weft.dev/on-deny': 'reject' });
  const appliedMs = monotonicMs();
  let [tookMs, isTold] = [0, false];
  await until(
    async () => {
      const { exchanges, longestMs: silentMs, broken: ended } = await exchanged(forbidden);
      isTold = ended.length > 0;
      if (exchanges > 0) tookMs = monotonicMs() - appliedMs;
      return isTold || (exchanges === 0 && silentMs > SILENT_MS);
    },
    { what: 'the connection of guest carries nothing any more' },
  );
  await until(
    async () => {
      isTold ||= (await exchanged(forbidden)).broken.length > 0;
      return isTold;
    },
    { what: 'guest to be told that its connection has ended' },
  );
  await settled();
  t.same(broken, [], 'and none of web');
  return tookMs;
}

const admitsClients = { from: [{ podSelector: { matchLabels: { role: 'client' } } }] };
const admitsGuest = { from: [{ ipBlock: { cidr: '10.44.0.12/32' } }] };

/** They all admit both, each in other words. */
function admittingAll(change: number): object {
  switch (change % 4) {
    case 0:
      return { ingress: [{ ...admitsClients, ports: [{ port: PORT }] }, admitsGuest] };
    case 1:
      return { ingress: [{ from: [{ podSelector: {} }], ports: [{ port: PORT - change, endPort: PORT + change }] }] };
    case 2:
      return { ingress: [{ from: [{ ipBlock: { cidr: '10.44.0.0/24', except: ['10.44.0.128/25'] } }] }] };
    default:
      return { policyTypes: ['Ingress', 'Egress'], ingress: [{}], egress: [] };
  }
}
