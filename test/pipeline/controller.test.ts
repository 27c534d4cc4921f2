/**
 * The controller keeps the flow cache correct: decisions are made again when something they consulted changes, and at
 * the limits nobody suffers from what somebody else does.
 */
import t from 'tap';
import { REDECIDE_LIMIT } from '../../src/control/revalidator.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { formatActions } from '../../src/flow/action.ts';
import { MASK_CAP } from '../../src/flow/bounds.ts';
import { fields } from '../../src/flow/fields.ts';
import { emptyKey, maskOf, writeNumber } from '../../src/flow/key.ts';
import { Forwarding } from '../../src/forwarding.ts';
import { createSimulation } from '../../src/simulation.ts';
import { udp } from '../support/frames.ts';
import { ownerOf } from '../../src/table/fdb.ts';
import { parseIp, parseMac, type PortNo, type Vni } from '../../src/flow/types.ts';
import type { AccessPort } from '../../src/table/topology.ts';
import { buildVxlan } from '../../src/wire/vxlan.ts';

const mac = (n: number): string =>
  `02:00:00:00:${(n >> 8).toString(16).padStart(2, '0')}:${(n & 0xff).toString(16).padStart(2, '0')}`;

t.test('a flood stops when its MAC is learned, and follows it when it moves', async (t) => {
  const net = createSimulation();
  const [a, b, c] = [net.host('a', '192.0.2.1'), net.host('b', '192.0.2.2'), net.host('c', '192.0.2.3')];
  for (const host of [a, b, c]) host.createNetwork('blue', 100);
  const web = a.attach({ name: 'web', network: 'blue', mac: mac(1), addresses: ['10.0.0.1'] });
  const onB = b.attach({ name: 'db', network: 'blue', mac: mac(2), addresses: ['10.0.0.2'] });
  // Trusted: only then may it have others behind it.
  const onC = c.attach({ name: 'other', network: 'blue', mac: mac(3), addresses: ['10.0.0.3'], trust: true });
  const there = udp({ srcMac: mac(1), dstMac: mac(2) }, 1, 2);
  const back = udp({ srcMac: mac(2), dstMac: mac(1), src: '10.0.0.2', dst: '10.0.0.1' }, 2, 1);

  web.send(there);
  t.equal(onB.received.splice(0).length, 1);
  t.equal(onC.received.splice(0).length, 1, 'unknown: flooded to every host');
  onB.send(back);
  web.send(there);
  t.equal(onB.received.splice(0).length, 1);
  t.equal(onC.received.splice(0).length, 0, 'learned: sent to its host only');

  b.detach('db');
  const moved = c.attach({ name: 'db', network: 'blue', mac: mac(2), addresses: ['10.0.0.2'] });
  moved.send(back);
  web.send(there);
  t.equal(moved.received.splice(0).length, 1, 'moved: sent to its new host');
  t.equal(a.forwarding.tables.fdb.statistics().moves, 1);
  net.close();
});

t.test('a port that goes takes its flows’ decisions along', async (t) => {
  const net = createSimulation();
  const a = net.host('a', '192.0.2.1');
  a.createNetwork('blue', 100);
  const web = a.attach({ name: 'web', network: 'blue', mac: mac(1), addresses: ['10.0.0.1'] });
  const db = a.attach({ name: 'db', network: 'blue', mac: mac(2), addresses: ['10.0.0.2'] });
  const frame = udp({ srcMac: mac(1), dstMac: mac(2) }, 1, 2);
  web.send(frame);
  t.equal(db.received.length, 1);
  a.detach('db');
  web.send(frame);
  const { drops } = a.forwarding.datapath.counters();
  t.match(drops, { no_destination: 1 });
  t.notOk(drops.port_gone, 'no flow sends to a port that has gone');
  net.close();
});

t.test('a MAC flood stays within its owner’s quota and evicts nobody else', async (t) => {
  const quota = 100;
  const net = createSimulation({ fdbQuota: quota, flowCap: 500 });
  const [a, b] = [net.host('a', '192.0.2.1'), net.host('b', '192.0.2.2')];
  for (const host of [a, b]) host.createNetwork('blue', 100);
  const router = a.attach({ name: 'router', network: 'blue', mac: mac(1), addresses: ['10.0.0.1'], trust: true });
  const remote = b.attach({ name: 'remote', network: 'blue', mac: mac(2), addresses: ['10.0.0.2'] });
  a.attach({ name: 'web', network: 'blue', mac: mac(3), addresses: ['10.0.0.3'] });
  remote.send(udp({ srcMac: mac(2), dstMac: mac(3), src: '10.0.0.2', dst: '10.0.0.3' }, 1, 2));

  for (let n = 1000; n < 11_000; n++) {
    router.send(udp({ srcMac: mac(n), dstMac: mac(3) }, 1, 2));
    // As many as the rate of upcalls allows.
    if (n % 500 === 499) net.advance(1000);
  }
  const { learned, evicted } = a.forwarding.tables.fdb.statistics();
  t.equal(learned.get(ownerOf({ kind: 'port', port: router.portNo })), quota);
  t.equal(evicted, 10_000 - quota);
  t.equal(learned.get(ownerOf({ kind: 'vtep', vtep: parseIp('192.0.2.2') })), 1, 'the VTEP keeps its entry');
  const { flows } = a.forwarding.datapath.counters();
  t.ok(flows <= quota + 2, `flows go with their entries (${flows})`);
  net.close();
});

t.test('at the flow cap the port with the most flows gives way', async (t) => {
  const net = createSimulation({ flowCap: 200 });
  const a = net.host('a', '192.0.2.1');
  a.createNetwork('blue', 100);
  const web = a.attach({ name: 'web', network: 'blue', mac: mac(1), addresses: ['10.0.0.1'] });
  const db = a.attach({ name: 'db', network: 'blue', mac: mac(2), addresses: ['10.0.0.2'] });
  db.send(udp({ srcMac: mac(2), dstMac: mac(1), src: '10.0.0.2', dst: '10.0.0.1' }, 1, 2));
  const { controller } = a.forwarding;
  const [kept] = [...controller.flows.dump()].map(({ flow }) => flow.id);
  for (let n = 1000; n < 2000; n++) web.send(udp({ srcMac: mac(1), dstMac: mac(n) }, 1, 2));
  t.ok(controller.flows.size <= 200);
  t.ok(controller.flows.evicted > 0);
  t.ok(controller.flows.get(kept!), 'the quiet port keeps its flow');
  net.close();
});

t.test('entries of live flows do not age, those of others do', async (t) => {
  const net = createSimulation();
  const [a, b] = [net.host('a', '192.0.2.1'), net.host('b', '192.0.2.2')];
  for (const host of [a, b]) host.createNetwork('blue', 100);
  const web = a.attach({ name: 'web', network: 'blue', mac: mac(1), addresses: ['10.0.0.1'] });
  const remote = b.attach({ name: 'remote', network: 'blue', mac: mac(2), addresses: ['10.0.0.2'] });
  const frame = udp({ srcMac: mac(2), dstMac: mac(1), src: '10.0.0.2', dst: '10.0.0.1' }, 1, 2);
  const learned = (): number => a.forwarding.tables.fdb.statistics().learned.get('vtep/192.0.2.2') ?? 0;
  for (let second = 0; second < 400; second += 5) {
    remote.send(frame);
    net.advance(5000);
  }
  t.equal(learned(), 1, 'seen all the time');
  net.advance(301_000);
  t.equal(learned(), 0, 'not seen for the ageing time');
  t.equal(web.received.length, 80);
  net.close();
});

/** A switch with a port `web` that sends to an unknown destination, and the turns that the switch waits for. */
function floodingSwitch() {
  const turns: (() => void)[] = [];
  const forwarding = new Forwarding(openReferenceDatapath, {
    hostId: Uint8Array.of(0, 0, 1),
    fdbQuota: 10,
    neighborQuota: 64,
    fdbAgeingMs: 300_000,
    flowCap: 100_000,
    flowIdleMs: 10_000,
    connections: new Uint8Array(),
    connectionQuota: 1,
    wallClock: () => 0,
    natKey: new Uint8Array(8),
    clock: () => 1000,
    later: (work) => turns.push(work),
    onPortLost: () => {},
    onError: (error) => {
      throw error;
    },
  });
  const port: AccessPort = {
    portNo: 2 as PortNo,
    name: 'web',
    vni: 100 as Vni,
    mac: parseMac(mac(1)),
    addresses: [parseIp('10.0.0.1')],
    allowedAddresses: [],
    allowedEtherTypes: [],
    trust: false,
  };
  const sent: string[] = [];
  forwarding.openUnderlay(1 as PortNo, {
    kind: 'memory-vxlan',
    name: 'underlay',
    local: parseIp('192.0.2.1'),
    transmit: ({ destination }) => sent.push(ownerOf({ kind: 'vtep', vtep: destination })),
  });
  forwarding.setNetwork({ name: 'blue', vni: port.vni });
  forwarding.addPort(port, { kind: 'memory', name: 'web', transmit: () => {} });
  forwarding.remote.addVtep(parseIp('192.0.2.2'));
  /** A frame to one of many destinations, each of which has a flow of its own. */
  const send = (n: number): string[] => {
    forwarding.datapath.inject(port.portNo, udp({ srcMac: mac(1), dstMac: mac(0x1000 + n) }, 1, 2));
    return sent.splice(0);
  };
  const fill = (flows: number): void => {
    for (let n = 0; n < flows; n++) send(1000 + n);
  };
  /** How many cached flows have each list of actions. */
  const actions = (): Record<string, number> => {
    const counts: Record<string, number> = {};
    for (const flow of forwarding.datapath.flowDump()) {
      const text = formatActions(flow.actions);
      counts[text] = (counts[text] ?? 0) + 1;
    }
    return counts;
  };
  return { forwarding, turns, send, fill, actions };
}

const toOne = 'track, encap(vni=100,vtep=192.0.2.2)';
const toBoth = 'track, encap(vni=100,vtep=192.0.2.2), encap(vni=100,vtep=192.0.2.3)';

/** What is done with the packets behind the first one of a conversation, whose flow is cached with that of the first one. */
const known = (actions: string): string => actions.replace('track', 'count');

t.test('what is added comes to cached flows in turns, all of which stay', async (t) => {
  const flows = REDECIDE_LIMIT + 1000;
  const { forwarding, turns, send, fill, actions } = floodingSwitch();
  fill(flows);
  forwarding.remote.addVtep(parseIp('192.0.2.3'));
  t.ok((actions()[toOne] ?? 0) > 0, 'not all at once');
  t.same(send(900), ['vtep/192.0.2.2', 'vtep/192.0.2.3'], 'who comes meanwhile is answered as of now');
  let most = 0;
  for (let before = actions()[toOne] ?? 0; turns.length > 0; ) {
    turns.shift()!();
    const after = actions()[toOne] ?? 0;
    most = Math.max(most, before - after);
    before = after;
  }
  t.ok(most < flows / 4, `at most ${most} in a turn`);
  t.same(actions(), { [toBoth]: flows + 1, [known(toBoth)]: flows + 1 });
  forwarding.datapath.close();
});

t.test('what is taken away is in force at once for all cached flows, which come back in turns', async (t) => {
  const flows = REDECIDE_LIMIT + 1000;
  const { forwarding, turns, send, fill, actions } = floodingSwitch();
  fill(flows);
  forwarding.remote.addVtep(parseIp('192.0.2.3'));
  // Some flows know the second VTEP and some do not yet. None may know it after this.
  forwarding.remote.removeVtep(parseIp('192.0.2.3'));
  t.notOk(actions()[toBoth], 'no flow is stale');
  t.ok((actions()[toOne] ?? 0) < flows, 'those that were not decided yet are out of the datapath');
  t.same(send(1000 + flows - 1), ['vtep/192.0.2.2'], 'and decided when a frame comes');
  while (turns.length > 0) turns.shift()!();
  t.same(actions(), { [toOne]: flows, [known(toOne)]: flows });
  t.equal(forwarding.controller.flows.size, 2 * flows);

  forwarding.remote.addVtep(parseIp('192.0.2.3'));
  forwarding.removePort(2 as PortNo);
  while (turns.length > 0) turns.shift()!();
  t.same(actions(), {}, 'a port takes all its flows along');
  t.equal(forwarding.controller.flows.size, 0);
  forwarding.datapath.close();
});

t.test('what moves while flows are swept stays where it moved to', async (t) => {
  const { forwarding, turns, fill } = floodingSwitch();
  const { controller, datapath, tables } = forwarding;
  const seenBehind = (vtep: string): void => {
    const frame = udp({ srcMac: mac(9), dstMac: mac(1), src: '10.0.0.9', dst: '10.0.0.1' }, 1, 2);
    const [source, destination] = [parseIp(vtep), parseIp('192.0.2.1')];
    datapath.injectDatagram(1 as PortNo, {
      source,
      destination,
      sourcePort: 50_000,
      payload: buildVxlan({ vni: 100, frame }),
    });
  };
  const where = (): string => ownerOf(tables.fdb.lookup(100 as Vni, parseMac(mac(9)))!.where);
  forwarding.remote.addVtep(parseIp('192.0.2.3'));
  seenBehind('192.0.2.2');
  t.equal(where(), 'vtep/192.0.2.2');
  fill(2500);
  controller.tick();
  t.equal(turns.length, 1, 'the sweep takes more than a turn');
  seenBehind('192.0.2.3');
  turns.shift()!();
  t.equal(turns.length, 0);
  t.equal(where(), 'vtep/192.0.2.3');
  datapath.close();
});

t.test('the flows of a mask that gives way go some a turn, and frames meanwhile come through', async (t) => {
  const flows = 1200;
  const { forwarding, turns, send } = floodingSwitch();
  const { controller, datapath } = forwarding;
  const decision = { ...controller.decide(emptyKey()), reason: undefined, actions: [{ op: 'consume' } as const] };
  const put = (port: number, mask: number, flow: number): void => {
    const key = emptyKey();
    writeNumber(key, fields.in_port, port);
    writeNumber(key, fields.nd_lla, flow);
    const used = maskOf(1 | (1 << fields.nd_lla.number) | (mask << 1));
    controller.flows.put(key, { ...decision, mask: used }, 1000);
  };
  for (let flow = 0; flow < flows; flow++) put(99, 0, flow);
  for (let mask = 1; mask < MASK_CAP; mask++) for (const port of [98, 99]) put(port, mask, 0);
  const others = 2 * (MASK_CAP - 1);
  send(1);
  send(2);
  controller.tick();
  let turn = 0;
  for (let before = flows; turns.length > 0; turn++) {
    const { flows: after } = datapath.counters();
    t.ok(before - (after - others) <= 500, 'a turn does not take long');
    before = after - others;
    t.same(send(3 + turn), ['vtep/192.0.2.2']);
    put(99, 0, flows + turn);
    turns.shift()!();
  }
  t.ok(turn > 1, `${turn} turns`);
  t.match(datapath.counters(), { masks: MASK_CAP, flows: others + 1 }, 'the place is taken with the last of them');
  t.equal(controller.flows.size, others + 1);
  t.match(controller.flows.masks, { evicted: 1, refusedLeaving: turn });
  const { upcalls } = datapath.counters();
  send(2);
  t.equal(datapath.counters().upcalls, upcalls);
  datapath.close();
});
