/** Tracked connections end with the address, the network or the port of one of their ends, some in each turn. */
import t, { type Test } from 'tap';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { connectionBytes, type Place } from '../../src/flow/connection.ts';
import { linkLocalOf, parseIp, type PortNo, type Vni } from '../../src/flow/types.ts';
import { connectionSlots, Forwarding } from '../../src/forwarding.ts';
import { IP_UDP } from '../../src/wire/ipv4.ts';

const [RED, BLUE] = [100 as Vni, 200 as Vni];
const [A, B, C] = ['10.0.0.1', '10.0.0.2', '10.0.0.3'].map((ip) => parseIp(ip)) as [Uint8Array, Uint8Array, Uint8Array];

function openSwitch(t: Test, limit: number) {
  const turns: (() => void)[] = [];
  const forwarding = new Forwarding(openReferenceDatapath, {
    hostId: Uint8Array.of(0, 0, 1),
    ...{ fdbQuota: 10, neighborQuota: 64, fdbAgeingMs: 300_000, flowCap: 100, flowIdleMs: 10_000 },
    connections: new Uint8Array(connectionBytes(connectionSlots(limit))),
    connectionQuota: limit,
    natKey: new Uint8Array(8),
    clock: () => 0,
    wallClock: () => 0,
    later: (work) => void turns.push(work),
    onPortLost: () => {},
    onError: (error) => {
      throw error;
    },
  });
  t.teardown(() => forwarding.close());
  const { connections } = forwarding.datapath;
  let sourcePort = 0;
  const begin = (source: Uint8Array, destination: Uint8Array, place: number = RED, owner = 1): number => {
    const tuple = { source, destination, sourcePort: ++sourcePort, destinationPort: 53 };
    const places = [place as Place, place as Place] as const;
    const one = { kind: 'tracked', protocol: IP_UDP, places, original: tuple, translated: tuple } as const;
    return connections.open(one, owner, 0);
  };
  const isOpen = (slot: number): boolean => connections.records.generation(slot) !== 0;
  return { forwarding, endings: forwarding.controller.endings, connections, turns, begin, isOpen };
}

t.test('those of an address or of a network end, and no others', async (t) => {
  const { endings, connections, turns, begin, isOpen } = openSwitch(t, 64);
  const slots = [begin(A, B), begin(B, A), begin(A, C), begin(A, B, BLUE), begin(C, A, BLUE)];
  endings.endTracked(RED, [B]);
  t.same(slots.map(isOpen), [false, false, true, true, true]);
  endings.endTracked(BLUE, undefined);
  while (turns.length > 0) turns.shift()!();
  t.same(slots.map(isOpen), [false, false, true, false, false]);
  t.equal(connections.tracked, 1);
});

t.test('many end some in each turn, with what has gone in the meantime, and what has begun since stays', async (t) => {
  const { endings, connections, turns, begin, isOpen } = openSwitch(t, 40_000);
  const first = begin(A, B);
  while (connections.size < 36_000) begin(A, C);
  const last = begin(A, B);
  const ofC = begin(C, A);
  endings.endTracked(RED, [B]);
  t.same([isOpen(first), isOpen(last)], [false, true], 'the first ones end at once');
  const since = begin(A, B);
  endings.endTracked(RED, [C]);
  let searched = 0;
  for (; turns.length > 0; searched++) turns.shift()!();
  t.same([isOpen(last), isOpen(since), isOpen(ofC), connections.size], [false, true, false, 1]);
  t.ok(searched > 3, `${searched} turns`);
});

t.test('those that began with packets of a port end with it, whatever their addresses', async (t) => {
  const { endings, turns, begin, isOpen } = openSwitch(t, 4096);
  const others = begin(A, B, RED, 2);
  const owned = Array.from({ length: 3000 }, (_, n) => begin(parseIp(`10.9.${n >> 8}.${n & 255}`), B, RED, 7));
  endings.endOfPort(7 as PortNo);
  t.equal(owned.filter(isOpen).length, 3000 - 2048);
  t.equal(turns.length, 1);
  const since = begin(A, B, RED, 7);
  while (turns.length > 0) turns.shift()!();
  t.same([owned.filter((slot) => slot !== since && isOpen(slot)), isOpen(others)], [[], true]);
  t.ok(isOpen(since), 'another port has the number by now');
});

t.test('what workers open until no flow is left that does also ends', async (t) => {
  const { forwarding, connections, turns, begin } = openSwitch(t, 64);
  const { controller, remote } = forwarding;
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 1);
  const addresses = [B];
  const portNo = 5 as PortNo;
  const endpoint = { vni: RED, mac, addresses, vtep: parseIp('192.0.2.1'), trust: false };
  const enforce = controller.enforce.bind(controller);
  const isLeft = (remove: () => void): number => {
    controller.enforce = () => (begin(A, B), enforce());
    remove();
    controller.enforce = enforce;
    while (turns.length > 0) turns.shift()!();
    return connections.size;
  };
  forwarding.setNetwork({ name: 'red', vni: RED });
  forwarding.addPort(
    { name: 'b', portNo, vni: RED, mac, addresses, allowedAddresses: [], allowedEtherTypes: [], trust: false },
    { kind: 'memory', name: 'm5', transmit: () => {} },
  );
  t.equal(
    isLeft(() => forwarding.removePort(portNo)),
    0,
  );
  remote.addEndpoint(endpoint);
  t.equal(
    isLeft(() => remote.addEndpoint({ ...endpoint, addresses: [C] })),
    0,
  );
  remote.addEndpoint(endpoint);
  t.equal(
    isLeft(() => remote.removeEndpoint(endpoint)),
    0,
  );
  t.equal(
    isLeft(() => forwarding.removeNetwork(RED)),
    0,
  );
});

t.test('those that are routed end with an end on another host, in whichever network they come in here', async (t) => {
  const { forwarding, endings, turns, begin, isOpen } = openSwitch(t, 64);
  const of = (ip: string) => ({ ip: parseIp(ip), length: 24 });
  const D = parseIp('10.0.1.2');
  forwarding.setNetwork({ name: 'blue', vni: BLUE, subnets: [of('10.0.1.0')] });
  forwarding.setNetwork({
    ...{ name: 'red', vni: RED, subnets: [of('10.0.0.0')] },
    routes: [{ prefix: of('10.0.1.0'), kind: 'network', network: 'blue' }],
  });
  const slots = [begin(A, D), begin(D, A), begin(A, C), begin(A, D, 300)];
  endings.endTracked(BLUE, [A]);
  while (turns.length > 0) turns.shift()!();
  t.same(slots.map(isOpen), [true, true, true, true]);
  endings.endTracked(BLUE, [D]);
  while (turns.length > 0) turns.shift()!();
  t.same(slots.map(isOpen), [false, false, true, true]);
});

t.test('a turn ends no more than some', async (t) => {
  const { endings, connections, turns, begin } = openSwitch(t, 8192);
  while (connections.size < 5000) begin(A, B);
  endings.endTracked(RED, [B]);
  t.equal(connections.size, 5000 - 2048);
  while (turns.length > 0) turns.shift()!();
  t.equal(connections.size, 0);
});

t.test('a turn reads no more than some of those that look like it, in another network', async (t) => {
  const { endings, connections, turns, begin } = openSwitch(t, 8192);
  while (connections.size < 5000) begin(A, B, BLUE);
  const last = begin(A, B);
  endings.endTracked(RED, [B]);
  let more = 0;
  for (; connections.records.generation(last) !== 0; more++) turns.shift()!();
  t.equal(more, 2, 'turns behind the first one');
  while (turns.length > 0) turns.shift()!();
  t.equal(connections.size, 5000);
});

t.test('with an endpoint of another host, those of all addresses end that it could send from', async (t) => {
  const { forwarding, connections, turns, begin } = openSwitch(t, 64);
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 1);
  const other = Uint8Array.of(2, 0, 0, 0, 0, 2);
  const endpoint = { vni: RED, mac, addresses: [B], allowedAddresses: [C], vtep: parseIp('192.0.2.1'), trust: false };
  forwarding.setNetwork({ name: 'red', vni: RED });
  forwarding.remote.addEndpoint(endpoint);
  forwarding.remote.addEndpoint({ ...endpoint, mac: other, addresses: [] });
  for (const address of [B, C, linkLocalOf(mac)]) begin(A, address);
  forwarding.remote.removeEndpoint(endpoint);
  while (turns.length > 0) turns.shift()!();
  t.equal(connections.size, 1, 'somebody else may send from the allowed one');
  forwarding.remote.removeEndpoint({ vni: RED, mac: other });
  while (turns.length > 0) turns.shift()!();
  t.equal(connections.size, 0);
});
