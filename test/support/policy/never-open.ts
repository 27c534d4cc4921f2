/**
 * What is denied stays denied, whatever happens to daemons, policies, labels, endpoints and the store.
 *
 *   ┌ a ─────────────────────┐   ┌ b ───────────────┐     db admits whoever has the label role: client.
 *   │ web guest mute ── weft │   │ weft ── db near  │     web has it. guest and near have not, and mute, which has it, may send
 *   └──────────┴── .1 ───────┘   └── .2 ─┴──────────┘     nothing by its own policy.
 *              └──── bridge ─────────────┴── etcd
 *
 * All of them send datagrams to db without a pause. None of those that are denied may arrive, ever. Those of web all arrive, unless
 * a daemon is not there to carry them.
 */
import type { Test } from 'tap';
import { parseResource } from '../../../src/model/manifest.ts';
import { etcdCluster } from '../cluster.ts';
import { exchanged } from '../exchanges.ts';
import type { Lab, Namespace } from '../lab.ts';
import { seesOthers } from '../mesh.ts';
import { until, type Background } from '../process.ts';
import { overlay, overlayIps } from '../topology.ts';
import { python } from '../traffic.ts';
import type { DatapathKind, Weft } from '../weft.ts';

const [PORT, TCP_PORT] = [7200, 7201];
const WAIT_MS = 60_000;
/** After which datagrams that are still under way are lost. */
const ARRIVES_WITHIN_MS = 10_000;
/** How often the same number has to be seen before it is what has arrived. */
const SAME_LOOKS = 20;
/** TCP connections of web, which exchange data without a pause. */
const ESTABLISHED = 4;
const NAMESPACE = 'shop';

export interface NeverOpenOptions {
  readonly datapath: DatapathKind;
  /** Datagrams a second of guest; each of the others sends a tenth of that. */
  readonly rate: number;
  /** How often each thing happens. */
  readonly times: number;
  /** Datagrams of guest that have to be sent after each event. */
  readonly after: number;
  /** On a busy machine, a daemon may take over so slowly that other hosts take it for dead for a moment. */
  readonly isBusy?: boolean;
}

const senders = ['web', 'guest', 'mute', 'near'] as const;
type Sender = (typeof senders)[number];

export async function neverOpen(t: Test, lab: Lab, options: NeverOpenOptions): Promise<void> {
  const { cluster, a, b, attach, sink, programs, exchange } = await open(lab, options);
  const arrived = async (): Promise<Record<Sender, number>> => {
    const counted = (await asked(sink)) as Record<string, number>;
    return Object.fromEntries(senders.map((name, at) => [name, counted[overlayIps(11 + at)[0]] ?? 0])) as never;
  };
  const sent = async (name: Sender): Promise<number> => ((await asked(programs[name])) as { sent: number }).sent;
  /** Until everybody has sent enough since, and web’s arrive. */
  const goesOn = async (what: string): Promise<void> => {
    const before = new Map<Sender, number>();
    for (const name of senders) before.set(name, await sent(name));
    const webBefore = (await arrived()).web;
    const enough = (name: Sender): number => (name === 'guest' ? options.after : options.after / 10);
    await until(
      async () => {
        for (const name of senders) if ((await sent(name)) < before.get(name)! + enough(name)) return false;
        return (await arrived()).web > webBefore + options.after / 20;
      },
      { what: `${what}: datagrams go on` },
    );
    const { web, ...denied } = await arrived();
    t.same(denied, { guest: 0, mute: 0, near: 0 }, `${what}: nothing that is denied arrives (${web} of web have)`);
  };
  let lostSoFar = 0;
  /** @param mayLose a daemon is not there for a while */
  const event = async (what: string, happens: () => Promise<unknown>, mayLose = false): Promise<void> => {
    await happens();
    await goesOn(what);
    const lost = await lostOfWeb(mayLose);
    if (mayLose) t.comment(`${what}: ${lost - lostSoFar} of web's datagrams are lost`);
    else t.equal(lost - lostSoFar, 0, `${what}: none of web's datagrams is lost`);
    lostSoFar = lost;
    t.same((await exchanged(exchange)).broken, [], `${what}: no connection of web breaks`);
  };
  /** How many of all that web has sent have not arrived. It pauses, so that none is under way. */
  const lostOfWeb = async (mayLose: boolean): Promise<number> => {
    const { sent: all } = (await asked(programs.web, 'stop')) as { sent: number };
    let [lost, looks] = [Infinity, 0];
    await until(
      async () => {
        const now = all - (await arrived()).web;
        looks = now === lost ? looks + 1 : 0;
        lost = now;
        return mayLose ? looks >= SAME_LOOKS : lost <= lostSoFar;
      },
      { what: 'all of web’s datagrams to arrive', timeoutMs: ARRIVES_WITHIN_MS },
    ).catch(() => {});
    await asked(programs.web, 'go');
    return lost;
  };
  await goesOn('at first');

  for (let time = 1; time <= options.times; time++) {
    for (const [name, weft] of Object.entries({ a, b })) {
      await event(`host ${name} is killed and starts (${time})`, () => weft.kill().then(() => weft.start()), true);
      await event(`host ${name} stops and starts (${time})`, () => weft.stop().then(() => weft.start()), true);
      await event(`host ${name} is taken over (${time})`, () => weft.takeOver(), options.isBusy);
    }
    for (const [name, specs] of Object.entries(replacements)) {
      await event(`policies are replaced: ${name} (${time})`, () => apply(a, specs));
    }
    await event(`guest has another label (${time})`, () => label(b, 'guest', { role: 'other' }));
    await event(`guest has none again (${time})`, () => label(a, 'guest', { role: null }));
    await event(`db is selected by another policy (${time})`, () => label(a, 'db', { app: 'store' }));
    await event(`and by the first one again (${time})`, () => label(b, 'db', { app: 'db' }));
    await event(`the namespace has another label (${time})`, () =>
      a.client.label('Namespace', NAMESPACE, { team: `t${time}` }),
    );
    await event(`guest is removed and comes back (${time})`, async () => {
      await a.client.detach('guest', { namespace: NAMESPACE });
      await attach(a, 'guest');
    });
    await event(
      `db is removed and comes back (${time})`,
      async () => {
        await b.client.detach('db', { namespace: NAMESPACE });
        await attach(b, 'db');
      },
      true,
    );
    await event(`etcd goes away (${time})`, async () => {
      await cluster.etcd.kill();
      await until(async () => !(await b.client.status()).sharedStore!.reachable, { what: 'that to be known' });
    });
    await event(`host b is killed and starts without etcd (${time})`, () => b.kill().then(() => b.start()), true);
    await event(`etcd is back (${time})`, async () => {
      await cluster.etcd.start();
      await until(async () => (await b.client.status()).sharedStore!.reachable, { what: 'that to be known' });
      await until(async () => (await a.client.status()).sharedStore!.reachable, { what: 'that to be known' });
    });
  }
  await apply(a, { db: { podSelector: {}, ingress: [{}] }, mute: { podSelector: {}, ingress: [{}] } });
  await until(async () => Object.values(await arrived()).every((count) => count > 0), {
    what: 'everything arrives when policies allow it',
  });
  const figures = await Promise.all(senders.map(async (name) => `${name} ${await sent(name)}`));
  t.comment(`sent: ${figures.join(', ')}`);
}

async function open(lab: Lab, { datapath, rate }: NeverOpenOptions) {
  const cluster = await etcdCluster(lab, 2);
  const [a, b] = (await cluster.up(datapath)) as [Weft, Weft];
  for (const weft of [a, b]) await seesOthers(weft, 1);
  const namespaces = new Map<string, Namespace>();
  for (const name of [...senders, 'db']) namespaces.set(name, await lab.namespace(name));
  /** Adds an endpoint, again with the same address. */
  const attach = async (weft: Weft, name: string): Promise<void> => {
    const at = name === 'db' ? 10 : 11 + senders.indexOf(name as Sender);
    await weft.client.apply([
      resource('weft.dev/v1', 'Endpoint', name, labels[name] ?? {}, {
        ...{ network: overlay.network, netns: namespaces.get(name)!.name, addresses: overlayIps(at) },
      }),
    ]);
  };
  await a.client.apply([
    parseResource({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } }),
    parseResource({
      ...{ apiVersion: 'weft.dev/v1', kind: 'Network', metadata: { name: overlay.network } },
      spec: { subnets: overlay.subnets, vni: overlay.vni },
    }),
  ]);
  await apply(a, replacements['by label']!);
  await apply(a, { store: { podSelector: { matchLabels: { app: 'store' } }, ingress: fromClients } });
  const db = namespaces.get('db')!;
  const sink = db.start(python('never_open.py', 'sink', PORT));
  await sink.says('ready');
  await db.start(python('exchange.py', 'serve', TCP_PORT)).says('ready');
  const [dbIp] = overlayIps(10);
  const programs = {} as Record<Sender, Background>;
  for (const name of senders) {
    const each = name === 'guest' ? rate : rate / 10;
    programs[name] = namespaces.get(name)!.start(python('never_open.py', 'send', dbIp, PORT, each));
    await programs[name].says('ready');
  }
  // They send before their ports, and that of db, open.
  await attach(b, 'db');
  for (const name of senders) await attach(name === 'near' ? b : a, name);
  await inForce(a);
  const web = namespaces.get('web')!;
  const exchange = web.start(python('exchange.py', 'ask', dbIp, TCP_PORT, ESTABLISHED));
  await exchange.says('ready');
  return {
    cluster,
    a,
    b,
    attach,
    sink,
    programs,
    exchange,
  };
}

const labels: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  db: { app: 'db' },
  web: { role: 'client' },
  mute: { role: 'client', app: 'mute' },
};
const fromClients = [{ from: [{ podSelector: { matchLabels: { role: 'client' } } }] }];
const muted = { podSelector: { matchLabels: { app: 'mute' } }, policyTypes: ['Egress'] };
const byAddress = [{ from: [{ ipBlock: { cidr: `${overlayIps(11)[0]}/32` } }] }];
/** Each denies the same, in other words. */
const replacements: Readonly<Record<string, Readonly<Record<string, object>>>> = {
  'by port': {
    db: {
      podSelector: {},
      ingress: [{ ...fromClients[0], ports: [{ protocol: 'UDP', port: PORT }, { port: TCP_PORT }] }],
    },
    mute: muted,
  },
  'by address': { db: { podSelector: {}, ingress: byAddress }, mute: { ...muted, egress: [] } },
  'by label': { db: { podSelector: { matchLabels: { app: 'db' } }, ingress: fromClients }, mute: muted },
};

async function apply(weft: Weft, specs: Readonly<Record<string, object>>): Promise<void> {
  await weft.client.apply(
    Object.entries(specs).map(([name, spec]) => resource('networking.k8s.io/v1', 'NetworkPolicy', name, {}, spec)),
  );
  await inForce(weft);
}

async function label(weft: Weft, name: string, change: Readonly<Record<string, string | null>>): Promise<void> {
  await weft.client.label('Endpoint', name, change, { namespace: NAMESPACE });
  await inForce(weft);
}

async function inForce(weft: Weft): Promise<void> {
  const { hosts } = await weft.client.wait(WAIT_MS);
  if (hosts.some(({ state }) => state !== 'in force')) throw new Error(`not in force: ${JSON.stringify(hosts)}`);
}

function resource(apiVersion: string, kind: string, name: string, of: object, spec: object) {
  return parseResource({ apiVersion, kind, metadata: { name, namespace: NAMESPACE, labels: of }, spec });
}

/** What a program has counted by now. @param word what it is told first */
async function asked(program: Background, word: 'report' | 'stop' | 'go' = 'report'): Promise<unknown> {
  const { length } = program.lines;
  program.write(`${word}\n`);
  const line = await until(() => program.lines[length], { what: `a report\n${program.stderr}` });
  return JSON.parse(line.text);
}
