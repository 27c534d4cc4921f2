/**
 * Policies change while connections are open: those that are denied now end, whichever way they were opened, and are named;
 * none of their packets is taken for the beginning of another one; and what is allowed is not touched.
 */
import t from 'tap';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import type { Datapath, DatapathOptions, Injectable } from '../../src/datapath/datapath.ts';
import { Sweep, type Cut } from '../../src/control/sweep.ts';
import { INTERNAL, OUTSIDE, type Place } from '../../src/flow/connection.ts';
import { ctState, fields } from '../../src/flow/fields.ts';
import { readNumber } from '../../src/flow/key.ts';
import { formatIp, parseIp, type PortNo, type Vni } from '../../src/flow/types.ts';
import { createSimulation } from '../../src/simulation.ts';
import { Changes } from '../../src/table/changes.ts';
import { identityOf, policyOf } from '../support/policy/tables.ts';
import type { NetworkPolicy, Pod, World } from '../support/policy/world.ts';
import { tcp, udp } from '../support/frames.ts';
import { parsePacket } from '../support/packets.ts';

const BLUE = 100 as Vni;
const [TCP, UDP, SCTP, GRE] = [6, 17, 132, 47] as const;
const [SYN, ACK, RST] = [2, 16, 4];

const kinds: Record<string, (options: DatapathOptions) => Datapath & Injectable> = {
  reference: openReferenceDatapath,
  native: (options) => openNativeDatapath({ ...options, threads: 0 }),
};

const pods = ['web', 'api', 'db'].map(
  (name, n): Pod => ({
    ...{ name, namespace: 'shop', labels: { app: name }, ports: [] },
    addresses: [`10.0.0.${n + 2}`],
  }),
);
const world: World = { namespaces: [{ name: 'shop', labels: {} }], pods, policies: [] };

/** Admits these to db, with the reaction that is given to all others. */
function admitting(apps: readonly string[], onDeny = 'drop'): NetworkPolicy {
  return {
    kind: 'NetworkPolicy',
    metadata: { name: 'db', namespace: 'shop', annotations: { 'weft.dev/on-deny': onDeny } },
    spec: {
      podSelector: { matchLabels: { app: 'db' } },
      ingress: apps.map((app) => ({ from: [{ podSelector: { matchLabels: { app } } }] })),
    },
  };
}

interface OpenOptions {
  readonly protocol?: number;
  readonly port?: number;
  readonly places?: readonly [Place, Place];
  readonly via?: string;
  /** By which its first packet came in. */
  readonly owner?: PortNo;
}

for (const [kind, open] of Object.entries(kinds)) {
  function lab() {
    const net = createSimulation({ open });
    t.teardown(() => net.close());
    const host = net.host('a', '192.0.2.1');
    host.createNetwork('blue', BLUE, { subnets: ['10.0.0.0/24'] });
    const ports = pods.map(({ name, addresses }, n) =>
      host.attach({ name: `shop/${name}`, network: 'blue', mac: `02:00:00:00:00:0${n + 2}`, addresses }),
    );
    const { controller, datapath, tables } = host.forwarding;
    const { policies, connections } = tables;
    const labelled = new Map(pods.map((pod) => [pod.addresses[0]!, pod]));
    policies.workloadsFrom((address) => {
      const pod = labelled.get(formatIp(address));
      return pod && { endpoint: `shop/${pod.name}`, identity: identityOf(world, pod) };
    });
    const cuts: Cut[] = [];
    controller.sweep.onCuts = (all) => cuts.push(...all);
    /** What db receives, from now on; no policy if there are no manifests. */
    const put = (...manifests: NetworkPolicy[]): void => {
      policies.setSubject('shop/db', {
        ...{ identity: identityOf(world, pods[2]!), onDeny: 'drop', policies: manifests.map(policyOf) },
      });
      controller.enforce();
    };
    const portOf = (address: string): number =>
      ports[pods.findIndex(({ addresses }) => addresses[0] === address)]?.portNo ?? 0;
    /** A connection that is only tracked, unless it is opened to another address than it goes to. */
    const opened = (
      from: string,
      sourcePort: number,
      { protocol = TCP, port = 80, places = [BLUE, BLUE], via = '10.0.0.4', owner }: OpenOptions = {},
    ): number => {
      const original = { source: parseIp(from), sourcePort, destination: parseIp(via), destinationPort: port };
      const translated = { ...original, destination: parseIp('10.0.0.4') };
      const isTracked = via === '10.0.0.4' && !places.includes(OUTSIDE) && !places.includes(INTERNAL);
      const store = datapath.connections;
      const slot = store.open(
        { kind: isTracked ? 'tracked' : 'translated', places, protocol, original, translated, port: owner },
        isTracked ? (owner ?? portOf(from)) : 70_000,
        net.nowMs,
      );
      for (const reply of [false, true]) {
        const half = { ...store.records.half(slot, reply), packets: 1, seen: SYN | ACK, end: reply ? 900 : 500 };
        store.records.writeHalf(slot, reply, half);
      }
      return slot;
    };
    const kindOf = (slot: number): string =>
      datapath.connections.records.generation(slot) === 0 ? 'none' : datapath.connections.records.kind(slot);
    const drops = (reason: string): number => datapath.counters().drops[reason as 'policy_ingress'] ?? 0;
    return {
      net,
      host,
      ports,
      controller,
      datapath,
      tables,
      connections,
      policies,
      labelled,
      cuts,
      put,
      opened,
      kindOf,
      drops,
    };
  }

  t.test(`${kind}: what is denied by now ends and is named; what is allowed is not touched`, (t) => {
    const { connections, cuts, put, opened, kindOf } = lab();
    const denied = [
      opened('10.0.0.2', 40_000),
      opened('10.0.0.2', 40_001),
      opened('10.0.0.2', 40_000, { protocol: UDP }),
    ];
    const sctp = opened('10.0.0.2', 40_000, { protocol: SCTP });
    const gre = opened('10.0.0.2', 0, { protocol: GRE, port: 0 });
    const allowed = [opened('10.0.0.3', 40_000), opened('10.0.0.4', 40_000, { via: '10.0.0.4' })];
    connections.setFlow(
      {
        slot: allowed[0]!,
        generation: connections.lookup(BLUE, TCP, connections.tuples(allowed[0]!).original)!.generation,
        reply: false,
      },
      77,
    );
    put(admitting(['api']));
    t.same(denied.map(kindOf), ['ended', 'ended', 'ended']);
    t.equal(kindOf(sctp), 'ended');
    t.equal(
      kindOf(gre),
      'none',
      'that of a protocol without ports is not remembered: its answers are what any packet is',
    );
    t.same(allowed.map(kindOf), ['tracked', 'tracked']);
    t.equal(connections.entry(allowed[0]!)!.flow, 77);
    const named = cuts.map(({ direction, protocol, l4Port, from, to, connections: count }) =>
      [direction, protocol, l4Port, from.endpoint, to.endpoint, count].join(' '),
    );
    t.same(named.sort(), [
      'ingress 132 80 shop/web shop/db 1',
      'ingress 17 80 shop/web shop/db 1',
      'ingress 47 0 shop/web shop/db 1',
      'ingress 6 80 shop/web shop/db 2',
    ]);
    t.match(cuts[0]!.judgement.because, { kind: 'isolated', policies: [{ name: 'shop/db' }] });
    t.end();
  });

  t.test(`${kind}: its packets meet the policy in both directions, and it may begin again when that allows it`, (t) => {
    const { ports, controller, cuts, put, opened, kindOf, drops, tables } = lab();
    const [web, , db] = ports;
    const [slot, datagrams] = [opened('10.0.0.2', 40_000), opened('10.0.0.2', 40_000, { protocol: UDP })];
    put(admitting([]));
    const ends = { srcMac: '02:00:00:00:00:02', dstMac: '02:00:00:00:00:04', src: '10.0.0.2', dst: '10.0.0.4' };
    const back = { srcMac: ends.dstMac, dstMac: ends.srcMac, src: ends.dst, dst: ends.src };
    const segment = {
      sourcePort: 40_000,
      destinationPort: 80,
      sequence: 500,
      acknowledgment: 900,
      flags: ACK,
      window: 1,
    };
    web!.send(tcp(ends, segment));
    db!.send(tcp(back, { ...segment, sourcePort: 80, destinationPort: 40_000 }));
    db!.send(udp(back, 80, 40_000));
    t.equal(drops('policy_ingress'), 3);
    t.same([web!.received.length, db!.received.length], [0, 0], 'nothing passes, and nobody is told');
    t.same([kindOf(slot), kindOf(datagrams)], ['ended', 'ended']);
    const { flows } = controller;
    const ofEnded = [...flows.all()].filter(({ key }) => readNumber(key, fields.ct_state) === ctState.reply);
    t.same(
      ofEnded,
      [],
      'nor is it dropped by a flow that outlasts the record: the next connection may have these ends',
    );
    put(admitting(['web']));
    t.same([kindOf(slot), kindOf(datagrams)], ['none', 'none']);
    web!.send(tcp(ends, { ...segment, flags: SYN }));
    t.equal(db!.received.length, 1);
    t.equal(cuts.length, 2);
    t.equal(tables.policies.hasConcerned, false);
    t.end();
  });

  t.test(`${kind}: if the policy rejects, both ends of TCP are reset`, (t) => {
    const { ports, put, opened } = lab();
    const [web, , db] = ports;
    opened('10.0.0.2', 40_000);
    put(admitting([], 'reject'));
    const resets = [web!, db!].map(({ received }) => received.map(parsePacket));
    const told = resets.map((packets) =>
      packets.map(({ sourcePort, destinationPort, sequence, acknowledgment, flags }) =>
        [sourcePort, destinationPort, sequence, acknowledgment, flags].join(' '),
      ),
    );
    t.same(told, [[`80 40000 900 500 ${RST | ACK}`], [`40000 80 500 900 ${RST | ACK}`]]);
    t.end();
  });

  t.test(
    `${kind}: a connection through a service ends by what it goes to, and none of its packets passes as it is`,
    (t) => {
      const { ports, cuts, put, opened, kindOf } = lab();
      const [web, , db] = ports;
      const slot = opened('10.0.0.2', 40_000, { via: '10.96.0.1' });
      put(admitting(['api']));
      t.equal(kindOf(slot), 'ended');
      t.match(cuts, [{ from: { endpoint: 'shop/web' }, to: { endpoint: 'shop/db' }, connections: 1 }]);
      const answer = {
        sourcePort: 80,
        destinationPort: 40_000,
        sequence: 900,
        acknowledgment: 500,
        flags: ACK,
        window: 1,
      };
      db!.send(
        tcp({ srcMac: '02:00:00:00:00:04', dstMac: '02:00:00:00:00:02', src: '10.0.0.4', dst: '10.0.0.2' }, answer),
      );
      t.same(web!.received, []);
      t.end();
    },
  );

  t.test(`${kind}: what comes from outside is judged by its client, and what weft’s sockets open is not`, (t) => {
    const { cuts, put, opened, kindOf } = lab();
    const published = opened('203.0.113.9', 40_000, { places: [OUTSIDE, BLUE], via: '169.254.77.2' });
    const checks = opened('169.254.77.9', 40_000, { places: [INTERNAL, BLUE], via: '169.254.77.10' });
    put(admitting(['api']));
    t.same([kindOf(published), kindOf(checks)], ['ended', 'translated']);
    t.match(cuts, [{ direction: 'ingress', from: { address: parseIp('203.0.113.9') }, l4Port: 80 }]);
    t.end();
  });

  t.test(`${kind}: an address that is routed to another network is that of who has it there`, (t) => {
    const { host, controller, policies, cuts, opened, kindOf } = lab();
    const RED = 200 as Vni;
    host.createNetwork('red', RED, {
      subnets: ['10.1.0.0/24'],
      routes: [{ to: '10.0.0.0/24', network: 'blue' }],
    });
    const client: Pod = { ...pods[0]!, name: 'client', labels: { app: 'client' }, addresses: ['10.1.0.2'] };
    policies.workloadsFrom((address, vni) => {
      const all = vni === RED ? [client] : pods;
      const pod = all.find(({ addresses }) => addresses[0] === formatIp(address));
      return pod && { endpoint: `shop/${pod.name}`, identity: identityOf(world, pod) };
    });
    const put = (app: string): void => {
      const manifest: NetworkPolicy = {
        kind: 'NetworkPolicy',
        metadata: { name: 'client', namespace: 'shop' },
        spec: {
          podSelector: {},
          policyTypes: ['Egress'],
          egress: [{ to: [{ podSelector: { matchLabels: { app } } }] }],
        },
      };
      const subject = { identity: identityOf(world, client), onDeny: 'drop' as const };
      policies.setSubject('shop/client', { ...subject, policies: [policyOf(manifest)] });
      controller.enforce();
    };
    // The host of its destination routes its replies, so both come in in the network of its sender.
    const slot = opened('10.1.0.2', 40_000, { places: [RED, RED] });
    put('db');
    t.equal(kindOf(slot), 'tracked', 'db is allowed, which is in the other network');
    put('api');
    t.equal(kindOf(slot), 'ended');
    t.match(cuts, [{ direction: 'egress', from: { endpoint: 'shop/client' }, to: { endpoint: 'shop/db' } }]);
    t.end();
  });

  t.test(`${kind}: what a router forwards is judged by its policies, wherever it comes from and goes to`, (t) => {
    const { host, controller, policies, opened, kindOf, ports, tables } = lab();
    const router = host.attach({
      ...{ name: 'shop/router', network: 'blue', mac: '02:00:00:00:00:09', addresses: ['10.0.0.9'], trust: true },
    });
    host.createNetwork('blue', BLUE, {
      subnets: ['10.0.0.0/24'],
      routes: [{ to: '10.8.0.0/16', network: 'blue', via: ['10.0.0.9'] }],
    });
    const identity = identityOf(world, { ...pods[0]!, name: 'router', labels: { app: 'router' } });
    const put = (direction: 'Egress' | 'Ingress'): void => {
      const manifest: NetworkPolicy = {
        ...{ kind: 'NetworkPolicy', metadata: { name: 'router', namespace: 'shop' } },
        spec: { podSelector: {}, policyTypes: [direction] },
      };
      policies.setSubject('shop/router', { identity, onDeny: 'drop', policies: [policyOf(manifest)] });
      controller.enforce();
    };
    const from = opened('10.8.0.5', 1, { owner: router.portNo });
    const others = opened('10.0.0.2', 1);
    const store = tables.connections;
    const tuple = { source: parseIp('10.0.0.2'), sourcePort: 7, destination: parseIp('10.8.0.5'), destinationPort: 80 };
    const to = host.forwarding.datapath.connections.open(
      { kind: 'tracked', places: [BLUE, BLUE], protocol: TCP, original: tuple, translated: tuple },
      ...([ports[0]!.portNo, 0] as const),
    );
    put('Egress');
    t.same([from, to, others].map(kindOf), ['ended', 'tracked', 'tracked']);
    put('Ingress');
    t.same([to, others].map(kindOf), ['ended', 'tracked']);
    t.equal(store.size, 2);
    t.end();
  });

  t.test(`${kind}: whoever is behind a trusted endpoint has no identity but its own`, (t) => {
    const { host, put, opened, kindOf, cuts } = lab();
    const router = host.attach({
      ...{ name: 'shop/router', network: 'blue', mac: '02:00:00:00:00:09', addresses: ['10.0.0.9'], trust: true },
    });
    const [own, spoofed] = [opened('10.0.0.2', 1), opened('10.0.0.2', 2, { owner: router.portNo })];
    put(admitting(['web']));
    t.same([own, spoofed].map(kindOf), ['tracked', 'ended']);
    t.match(cuts, [{ from: { address: parseIp('10.0.0.2'), endpoint: 'shop/router' } }]);
    t.end();
  });

  const ways: Readonly<Record<string, OpenOptions>> = {
    'as it is': {},
    'through a service': { via: '10.0.0.50' },
    'to outside': { places: [BLUE, OUTSIDE], via: '10.0.0.50' },
  };
  for (const [way, options] of Object.entries(ways)) {
    t.test(
      `${kind}: what comes from an address that two share, ${way}, is judged by the policies of who has sent it`,
      (t) => {
        const { host, controller, policies, opened, kindOf } = lab();
        const sharing = [8, 9].map((last) =>
          host.attach({
            ...{
              name: `shop/vip${last}`,
              network: 'blue',
              mac: `02:00:00:00:00:0${last}`,
              addresses: [`10.0.0.${last}`],
            },
            allowedAddresses: ['10.0.0.100'],
          }),
        );
        const slots = sharing.map(({ portNo }, n) => opened('10.0.0.100', 1 + n, { ...options, owner: portNo }));
        const areOpen = (): boolean[] => slots.map((slot) => ['tracked', 'translated'].includes(kindOf(slot)));
        for (const [n, expected] of [
          [true, false],
          [false, false],
        ].entries()) {
          const manifest: NetworkPolicy = {
            ...{ kind: 'NetworkPolicy', metadata: { name: 'closed', namespace: 'shop' } },
            spec: { podSelector: {}, policyTypes: ['Egress'] },
          };
          const subject = { identity: identityOf(world, pods[0]!), onDeny: 'drop' as const };
          policies.setSubject(`shop/vip${n === 0 ? 9 : 8}`, { ...subject, policies: [policyOf(manifest)] });
          controller.enforce();
          t.same(areOpen(), expected);
        }
        t.end();
      },
    );
  }

  t.test(
    `${kind}: who has the port number of an endpoint that is gone is not judged for its translated connections`,
    (t) => {
      const { host, controller, policies, opened, kindOf, cuts } = lab();
      const { portNo } = host.attach({
        ...{ name: 'shop/next', network: 'blue', mac: '02:00:00:00:00:08', addresses: ['10.0.0.8'] },
      });
      // Another endpoint may send from this address, too, so the connection has not ended with the one that opened it.
      const slot = opened('10.0.0.100', 1, { via: '10.0.0.50', owner: portNo });
      const manifest: NetworkPolicy = {
        ...{ kind: 'NetworkPolicy', metadata: { name: 'closed', namespace: 'shop' } },
        spec: { podSelector: {}, policyTypes: ['Egress'] },
      };
      const subject = { identity: identityOf(world, pods[0]!), onDeny: 'drop' as const };
      policies.setSubject('shop/next', { ...subject, policies: [policyOf(manifest)] });
      controller.enforce();
      t.equal(kindOf(slot), 'translated');
      t.same(cuts, []);
      t.end();
    },
  );

  t.test(`${kind}: what a defect keeps from being judged ends, and the others are judged`, (t) => {
    const { policies, connections, put, opened, kindOf } = lab();
    const [slot, other] = [opened('10.0.0.2', 40_000), opened('10.0.0.3', 40_000)];
    const setOf = policies.setOf.bind(policies);
    policies.setOf = (...asked) => {
      const set = setOf(...asked);
      return (
        set && {
          ...{ object: set.object, asksIdentity: set.asksIdentity, portsFor: set.portsFor.bind(set) },
          judge: (peer, ...more) => {
            if (peer.endpoint === 'shop/web') throw new Error('a defect');
            return set.judge(peer, ...more);
          },
        }
      );
    };
    put(admitting(['web', 'api']));
    t.same([kindOf(slot), kindOf(other)], ['ended', 'tracked']);
    connections.ended.recover(slot);
    t.same(connections.ended.untold(), [], 'its ends are not reset at the next start');
    t.end();
  });

  t.test(`${kind}: other labels of a namespace concern all that are in it`, (t) => {
    const { controller, policies, labelled, put, opened, kindOf } = lab();
    put(admitting(['web']));
    const slots = [opened('10.0.0.2', 1), opened('203.0.113.9', 1)];
    labelled.set('10.0.0.2', { ...pods[0]!, labels: { app: 'other' } });
    policies.namespaceChanged('ops', {});
    controller.enforce();
    t.same(slots.map(kindOf), ['tracked', 'tracked'], 'not of another one');
    policies.namespaceChanged('shop', {});
    controller.enforce();
    t.same(slots.map(kindOf), ['ended', 'ended']);
    t.end();
  });

  t.test(`${kind}: other labels, and a start`, async (t) => {
    const { controller, policies, connections, labelled, put, opened, kindOf } = lab();
    put(admitting(['web']));
    const slots = [opened('10.0.0.2', 1), opened('10.0.0.3', 1)];
    labelled.set('10.0.0.2', { ...pods[0]!, labels: { app: 'other' } });
    policies.workloadsChanged([parseIp('10.0.0.2')]);
    controller.enforce();
    t.same(slots.map(kindOf), ['ended', 'tracked'], 'the other one is not concerned, and would not be allowed');
    controller.sweep.startAll();
    await controller.sweep.done();
    t.same(slots.map(kindOf), ['ended', 'ended']);
    t.equal(connections.size, 2);
    t.end();
  });

  t.test(`${kind}: records of those that have ended survive a crash, and go when their ends have given up`, (t) => {
    const { net, connections, put, opened, kindOf } = lab();
    const slot = opened('10.0.0.2', 40_000);
    put(admitting([]));
    t.equal(connections.ended.deniedBy(slot), 'ingress');
    net.advance(8_299_000);
    t.equal(kindOf(slot), 'ended');
    net.advance(2000);
    t.equal(kindOf(slot), 'none');
    t.equal(connections.size, 0);
    t.end();
  });

  for (const via of ['10.0.0.4', '10.96.0.1'])
    t.test(`${kind}: what is sent to ${via} until the record has ended is in the numbers of the resets`, (t) => {
      const { tables, policies, datapath, opened } = lab();
      const { records } = datapath.connections;
      const slot = opened('10.0.0.2', 40_000, { via });
      const frames: Uint8Array[] = [];
      let latest: readonly number[] = [];
      const sweep = new Sweep({
        ...{ tables, changes: new Changes(), records, later: undefined },
        // A thread of the datapath forwards more of both ends, just before the record ends.
        clock: () => {
          for (const reply of [false, true]) {
            const half = records.half(slot, reply);
            records.writeHalf(slot, reply, { ...half, end: half.end + 1000 });
          }
          latest = [records.half(slot, false).end, records.half(slot, true).end];
          return 0;
        },
        send: (frame) => frames.push(frame),
        wayOf: () => (frame) => frames.push(frame),
        farResets: { add: () => false },
        enforce: () => {},
      });
      const subject = { identity: identityOf(world, pods[2]!), onDeny: 'drop' as const };
      policies.setSubject('shop/db', { ...subject, policies: [policyOf(admitting([], 'reject'))] });
      sweep.start();
      t.same(
        frames.map(parsePacket).map(({ sequence, acknowledgment }) => [sequence, acknowledgment]),
        [latest, latest.toReversed()],
      );
      // Nothing translates the one to the far end any more.
      t.same(
        frames.map((frame) => frame.subarray(30, 34).join('.')),
        ['10.0.0.4', '10.0.0.2'],
      );
      t.end();
    });

  t.test(`${kind}: a sweep ends, and says what it has ended, though endpoints come and go all the time`, async (t) => {
    const { tables, policies, datapath, labelled, opened, kindOf } = lab();
    const turns: (() => void)[] = [];
    const cuts: Cut[] = [];
    const sweep = new Sweep({
      ...{ tables, changes: new Changes(), records: datapath.connections.records, clock: () => 0 },
      later: (work) => turns.push(work),
      farResets: { add: () => false },
      send: () => {},
      wayOf: () => () => {},
      enforce: () => {
        policies.workloadsChanged([parseIp('10.9.9.9')]);
        if (turns.length < 100) sweep.start();
      },
    });
    sweep.onCuts = (all) => cuts.push(...all);
    const slots = Array.from({ length: 1000 }, (_, n) => opened('10.0.0.2', 1000 + n));
    const throughService = opened('10.0.0.2', 999, { via: '10.96.0.1' });
    const others = opened('10.0.0.3', 1000);
    const subject = { identity: identityOf(world, pods[2]!), onDeny: 'drop' as const };
    policies.setSubject('shop/db', { ...subject, policies: [policyOf(admitting(['api']))] });
    sweep.start();
    let isDone = false;
    const done = sweep.done().then(() => (isDone = true));
    for (let turn = 0; turn < 20 && !isDone; turn++) {
      turns.shift()?.();
      await Promise.resolve();
    }
    await done;
    t.same(new Set([...slots, throughService].map(kindOf)), new Set(['ended']));
    t.equal(kindOf(others), 'tracked');
    t.equal(
      cuts.reduce((sum, { connections }) => sum + connections, 0),
      1001,
    );
    // What is concerned by who has an address is found, though the records of others are passed over.
    labelled.set('10.0.0.3', { ...pods[1]!, labels: { app: 'other' } });
    policies.workloadsChanged([parseIp('10.0.0.3')]);
    sweep.start();
    for (let turn = 0; turn < 5; turn++) turns.shift()?.();
    t.equal(kindOf(others), 'ended');
    t.end();
  });

  t.test(
    `${kind}: the policies change again while a sweep is at work: in the end all is as the last ones have it`,
    async (t) => {
      const { tables, policies, datapath, opened, kindOf } = lab();
      const turns: (() => void)[] = [];
      const cuts: Cut[] = [];
      const sweep = new Sweep({
        ...{ tables, changes: new Changes(), records: datapath.connections.records, clock: () => 0 },
        later: (work) => turns.push(work),
        farResets: { add: () => false },
        send: () => {},
        wayOf: () => () => {},
        enforce: () => {},
      });
      sweep.onCuts = (all) => cuts.push(...all);
      const put = (apps: readonly string[]): void => {
        const subject = { identity: identityOf(world, pods[2]!), onDeny: 'drop' as const };
        policies.setSubject('shop/db', { ...subject, policies: [policyOf(admitting(apps))] });
        sweep.start();
      };
      const ofWeb = Array.from({ length: 700 }, (_, n) => opened('10.0.0.2', 1000 + n));
      const ofApi = Array.from({ length: 700 }, (_, n) => opened('10.0.0.3', 1000 + n));
      put(['api']);
      t.equal(turns.length, 1);
      const ended = ofWeb.filter((slot) => kindOf(slot) === 'ended').length;
      t.ok(ended > 0 && ended < ofWeb.length, `${ended} have ended in the first turn`);
      put(['web']);
      t.equal(turns.length, 1, 'it goes on');
      let isDone = false;
      const done = sweep.done().then(() => (isDone = true));
      for (let turn = turns.pop(); turn; turn = turns.pop()) {
        t.notOk(isDone);
        turn();
      }
      await done;
      t.same(new Set(ofApi.map(kindOf)), new Set(['ended']));
      t.equal(ofWeb.filter((slot) => kindOf(slot) === 'tracked').length, ofWeb.length - ended);
      t.equal(ofWeb.filter((slot) => kindOf(slot) === 'none').length, ended, 'and these may begin again');
      t.same(
        cuts
          .map(({ from, connections }) => [from.endpoint, connections] as const)
          .sort(([a = ''], [b = '']) => (a < b ? -1 : 1)),
        [
          ['shop/api', 700],
          ['shop/web', ended],
        ],
      );
      t.end();
    },
  );
}
