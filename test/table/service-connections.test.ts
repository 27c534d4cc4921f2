/** Connections through services: their tuples, whom they count for, and what becomes of them after a crash. */
import t from 'tap';
import { OUTSIDE, SEEN_RST, turned, type Place, type Tuple } from '../../src/flow/connection.ts';
import { formatIp, parseIp, type Vni } from '../../src/flow/types.ts';
import { Changes } from '../../src/table/changes.ts';
import { ConnectionTable } from '../../src/table/connections.ts';
import type { ServiceOpening } from '../../src/table/openings.ts';
import { Services } from '../../src/table/services.ts';
import { Topology } from '../../src/table/topology.ts';
import { IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';
import { connectionMemoryFor, stores } from '../support/connections.ts';
import { backend, service, servicePort, VIP } from '../support/services.ts';

const [RED, BLUE] = [100 as Vni, 200 as Vni];
const other = parseIp('10.96.0.2');
const TRANSIT = parseIp('169.254.77.2');

function tuple(sourcePort: number, destination = VIP): Tuple {
  return { source: parseIp('10.1.0.2'), sourcePort, destination, destinationPort: 80 };
}

for (const [kind, openStore] of Object.entries(stores)) {
  function lab(memory = connectionMemoryFor(8), quota = 8) {
    const changes = new Changes();
    const topology = new Topology(new Uint8Array(6), changes);
    topology.setNetwork({
      name: 'red',
      vni: RED,
      outside: true,
      routes: [{ prefix: { ip: parseIp('10.1.0.0'), length: 16 }, kind: 'network', network: 'red' }],
    });
    const services = new Services(topology, changes);
    const connections = new ConnectionTable({
      store: openStore(8, memory),
      quota,
      unprovenQuota: quota,
      addressesWith: (_, ip) => [ip],
      natKey: new Uint8Array(8),
      isReserved: () => false,
      services,
    });
    const opening = (sourcePort: number, vip = VIP, replies = RED): ServiceOpening => {
      const original = tuple(sourcePort, vip);
      const found = services.find(vip, IP_TCP, 80)!;
      const choice = services.choose(found, RED, { protocol: IP_TCP, ...original });
      if (choice.kind === 'none') throw new Error('there is no backend');
      return { vni: RED, protocol: IP_TCP, original, choice, replies };
    };
    const openingFromOutside = (sourcePort: number, nodePort = 30_080): ServiceOpening => {
      const original = { source: parseIp('203.0.113.9'), sourcePort, destination: TRANSIT, destinationPort: nodePort };
      const found = services.findPublished(IP_TCP, nodePort)!;
      const choice = services.choose(found, OUTSIDE, { protocol: IP_TCP, ...original });
      if (choice.kind === 'none') throw new Error('there is no backend');
      return { vni: RED, protocol: IP_TCP, original, choice, replies: RED, isFromOutside: true };
    };
    const entries = () => [...connections.entries()];
    /** Ends the connections to backends that are gone. Returns how many. */
    const endGone = (nowMs: number): number => {
      const gone = connections.pinned(services.ended(nowMs));
      for (const { slot } of gone) connections.retire(slot, nowMs);
      return gone.length;
    };
    return { memory, services, connections, opening, openingFromOutside, entries, endGone };
  }
  const one = (address: string) => service({ vips: [VIP], backends: [backend(address, { vni: RED })] });
  const published = (address: string) => ({ ...one(address), ports: [servicePort(1, { nodePort: 30_080 })] });

  t.test(`${kind}: the client keeps address and port, and its replies are found where they come in`, async (t) => {
    const { services, connections, opening, entries } = lab();
    services.set(one('10.1.0.9'), 0);
    services.loaded(0);
    connections.open(opening(1, VIP, BLUE), 0);
    const [{ translated, places, pin }] = entries() as [ReturnType<typeof entries>[0]];
    t.same(translated, { ...tuple(1), destination: parseIp('10.1.0.9'), destinationPort: 8080 });
    t.same(places, [RED, BLUE]);
    t.equal(services.pinned(pin!)?.connections, 1);
    const reply = {
      source: translated.destination,
      sourcePort: 8080,
      destination: translated.source,
      destinationPort: 1,
    };
    t.match(connections.lookup(BLUE, IP_TCP, reply), { slot: 0, reply: true });
    t.equal(connections.lookup(RED, IP_TCP, reply), undefined);
    t.same(
      [RED, BLUE, 300 as Place].map((place) => connections.hasAnyIn(place)),
      [true, true, false],
    );
  });

  t.test(`${kind}: connections to backends are looked for among some slots at a time`, async (t) => {
    const { services, connections, opening, openingFromOutside } = lab();
    services.set(published('10.1.0.9'), 0);
    services.loaded(0);
    for (const one of [opening(1), openingFromOutside(2), opening(3)]) connections.open(one, 0);
    const pins = new Set([connections.tuples(0).pin!]);
    const found = (from: number, to: number, limit?: number) =>
      connections.pinned(pins, limit, { from, to }).map(({ slot }) => slot);
    t.same([found(0, 2), found(2, 8), found(0, 8, 1), found(3, 8)], [[0, 1], [2], [0], []]);
    connections.retire(1, 0);
    t.same(found(0, 8), [0, 2], 'one that has ended is not looked for');
    t.ok(connections.slots >= 3);
  });

  t.test(
    `${kind}: connections follow their backend to the place where its replies come in, also after a crash`,
    async (t) => {
      const { memory, services, connections, opening, openingFromOutside, entries } = lab();
      const on = (host: string | undefined) => ({
        ...published('10.1.0.9'),
        backends: [backend('10.1.0.9', { vni: RED, endpoint: 'default/a', host })],
      });
      services.setHost('here', undefined);
      services.set(on('here'), 0);
      services.loaded(0);
      const blue = { ...opening(1), vni: BLUE, original: { ...tuple(1), source: parseIp('10.2.0.2') } };
      for (const one of [blue, opening(2), openingFromOutside(3)]) connections.open(one, 0);
      const placesOf = (all: ReturnType<typeof entries>) => all.map(({ places }) => places.join()).sort();
      const before = placesOf(entries());
      services.set(on(undefined), 0);
      t.equal(connections.follow(services.moved, 0).followed.length, 0, 'it is attached nowhere: nobody knows');
      services.set(on('there'), 0);
      const [one, ...others] = connections.follow(services.moved, 0).followed;
      t.same(others, []);
      t.same([one!.places, one!.original], [[BLUE, BLUE], blue.original]);
      t.match(connections.lookup(BLUE, IP_TCP, turned(one!.translated)), { slot: one!.slot, reply: true });
      t.equal(connections.lookup(RED, IP_TCP, turned(one!.translated)), undefined);
      t.equal(services.pinned(one!.pin!)?.connections, 3);
      t.same(connections.follow(services.moved, 0).followed, [], 'each once');
      services.moved.clear();
      t.equal(services.moved.size, 0);

      const again = lab(memory);
      again.connections.recover(500);
      again.services.setHost('here', undefined);
      again.services.set(on('here'), 500);
      again.services.loaded(0);
      t.same(
        again.connections.follow(again.services.moved, 500).followed.map(({ original }) => original),
        [blue.original],
        'it has come back meanwhile',
      );
      t.same(placesOf(again.entries()), before);
      for (const { slot } of again.entries()) again.connections.retire(slot, 500);
      t.equal(
        again.services.connectionsOf(on('here').id, (backend) => backend?.connections ?? 0)[0],
        0,
        'and all have counted',
      );
    },
  );

  t.test(`${kind}: a client outside keeps address and port, and counts for the backend`, async (t) => {
    const { services, connections, openingFromOutside, entries } = lab(undefined, 2);
    services.set(published('10.1.0.9'), 0);
    services.loaded(0);
    connections.open(openingFromOutside(1), 0);
    const [{ translated, places, pin, original }] = entries() as [ReturnType<typeof entries>[0]];
    t.same(places, [OUTSIDE, RED]);
    t.same(translated, { ...original, destination: parseIp('10.1.0.9'), destinationPort: 8080 });
    t.match(connections.lookup(RED, IP_TCP, turned(translated)), { reply: true });
    t.match(connections.lookup(OUTSIDE, IP_TCP, original), { reply: false });
    t.equal(services.pinned(pin!)?.connections, 1);
    for (const port of [2, 3]) connections.open(openingFromOutside(port), 0);
    t.equal(connections.size, 2, 'half-open ones give way');
    t.equal(connections.forget(RED, parseIp('10.1.0.9')).length, 4);
    t.equal(services.pinned(pin!)?.connections, 0);
  });

  t.test(
    `${kind}: what another host brings counts for the backend, and remembers that host over a crash`,
    async (t) => {
      const { memory, connections, entries } = lab(undefined, 2);
      const [A, C] = ['192.0.2.1', '2001:db8::3'].map(parseIp) as [Uint8Array, Uint8Array];
      const original = (sourcePort: number): Tuple => ({
        source: parseIp('203.0.113.9'),
        ...{ sourcePort, destination: parseIp('10.1.0.9'), destinationPort: 8080 },
      });
      const from = (via: Uint8Array, port: number) => ({ vni: RED, protocol: IP_TCP, original: original(port), via });
      connections.open(from(A, 1), 0);
      const [{ slot, places, translated, via }] = entries() as [ReturnType<typeof entries>[0]];
      t.same({ places, translated, via }, { places: [RED, RED], translated: original(1), via: A });
      t.match(connections.lookup(RED, IP_TCP, original(1)), { reply: false });
      t.match(connections.lookup(RED, IP_TCP, turned(original(1))), { reply: true });
      connections.open(from(C, 1), 0);
      t.same(
        entries().map(({ via }) => via),
        [C],
        'who begins anew by another host, since nobody has answered',
      );
      const { records } = openStore(8, memory);
      const [{ slot: second }] = entries() as [ReturnType<typeof entries>[0]];
      for (const reply of [false, true]) {
        records.writeHalf(second, reply, { ...records.half(second, reply), packets: 1, seen: 2 });
      }
      t.equal(connections.refusal(from(A, 1)), 'nat_ports', 'an open connection stays where it is');
      t.not(second, slot);
      const again = lab(memory.slice(), 2);
      again.connections.recover(500);
      t.same(
        again.entries().map(({ via }) => via),
        [C],
      );
      t.equal(again.connections.enteredBy(A).length, 0);
      t.match(again.connections.enteredBy(C), [{ via: C, translated: original(1) }]);
      for (const port of [2, 3]) again.connections.open(from(A, port), 500);
      t.equal(again.connections.size, 2, 'the quota is that of the backend');
      for (const { slot } of again.connections.enteredBy(C)) again.connections.retire(slot, 1000);
      t.equal(again.connections.enteredBy(C).length, 0);
      t.ok(
        again.entries().some(({ kind }) => kind === 'ended'),
        'it is remembered',
      );
      t.ok(again.connections.forget(RED, parseIp('10.1.0.9')).length > 0);
      t.equal(again.connections.size, 0);
    },
  );

  t.test(`${kind}: a client outside that asks for one backend by two ports, from one of its own`, async (t) => {
    const { services, connections, openingFromOutside, entries } = lab();
    services.set(published('10.1.0.9'), 0);
    const others = { id: 'default/other', vips: [other], ports: [servicePort(1, { nodePort: 30_081 })] };
    services.set({ ...published('10.1.0.9'), ...others }, 0);
    for (const nodePort of [30_080, 30_081]) connections.open(openingFromOutside(5000, nodePort), 0);
    const ports = entries().map(({ translated }) => translated.sourcePort);
    t.equal(new Set(ports).size, 2);
  });

  t.test(`${kind}: a client outside that begins anew gets another choice in place of the old one`, async (t) => {
    const { services, connections, openingFromOutside, entries, memory } = lab();
    services.set(published('10.1.0.9'), 0);
    services.loaded(0);
    connections.open(openingFromOutside(1), 0);
    const { records } = openStore(8, memory);
    const [{ slot, original }] = entries() as [ReturnType<typeof entries>[0]];
    t.equal(connections.isOverWithChoice(slot), false);
    records.writeHalf(slot, true, { ...records.half(slot, true), packets: 1, seen: SEEN_RST });
    t.equal(connections.isOverWithChoice(slot), true);
    services.set(published('10.1.0.7'), 0);
    connections.open(openingFromOutside(1), 0);
    t.same(
      entries().map(({ translated }) => translated),
      [{ ...original, destination: parseIp('10.1.0.7'), destinationPort: 8080 }],
    );
  });

  t.test(`${kind}: after a crash, a client outside keeps its backend`, async (t) => {
    const { memory, services, connections, openingFromOutside } = lab();
    services.set(published('10.1.0.9'), 0);
    connections.open(openingFromOutside(1), 0);
    for (const [value, isKept] of [
      [published('10.1.0.9'), true],
      [published('10.1.0.7'), false],
    ] as const) {
      const again = lab(memory.slice());
      again.connections.recover(500);
      again.services.set(value, 500);
      again.services.loaded(0);
      t.equal(again.endGone(500), isKept ? 0 : 1);
    }
  });

  t.test(`${kind}: a node port of a range leads to its own port, also after a crash`, async (t) => {
    const { memory, services, connections, openingFromOutside, entries } = lab();
    const range = servicePort(1, { lastL4Port: 84, nodePort: 31_000 });
    services.set({ ...one('10.1.0.9'), ports: [range] }, 0);
    connections.open(openingFromOutside(1, 31_002), 0);
    t.match(entries(), [{ translated: { destinationPort: 8082 } }]);
    const again = lab(memory.slice());
    again.connections.recover(500);
    again.services.set({ ...one('10.1.0.9'), ports: [range] }, 500);
    again.services.loaded(0);
    t.equal(again.endGone(500), 0);
    t.equal(again.services.pinned(again.entries()[0]!.pin!)?.connections, 1);
  });

  t.test(`${kind}: a client that is its own backend comes from the service`, async (t) => {
    const { services, connections, opening, entries } = lab();
    services.set(one('10.1.0.2'), 0);
    connections.open(opening(1), 0);
    t.same(entries()[0]!.translated.source, VIP);
  });

  t.test(`${kind}: two services with one backend, asked from one port, stay apart`, async (t) => {
    const { services, connections, opening, entries } = lab();
    services.set(one('10.1.0.9'), 0);
    services.set({ ...one('10.1.0.9'), id: 'default/other', vips: [other] }, 0);
    connections.open(opening(5000), 0);
    connections.open(opening(5000, other), 0);
    const ports = entries().map(({ translated }) => translated.sourcePort);
    t.equal(ports.length, 2);
    t.equal(ports[0], 5000);
    t.not(ports[1], 5000);
  });

  t.test(
    `${kind}: who begins anew gets another choice in place of the old one, and nobody does before it is over`,
    async (t) => {
      const { services, connections, opening, entries, memory } = lab();
      services.set(one('10.1.0.9'), 0);
      services.loaded(0);
      connections.open(opening(1), 0);
      const { records } = openStore(8, memory);
      const slot = connections.lookup(RED, IP_TCP, tuple(1))!.slot;
      for (const reply of [false, true]) {
        records.writeHalf(slot, reply, { ...records.half(slot, reply), packets: 1, seen: 2 });
      }
      t.equal(connections.isOverWithChoice(slot), false);
      t.equal(connections.refusal(opening(1)), 'nat_ports');
      records.writeHalf(slot, true, { ...records.half(slot, true), seen: SEEN_RST });
      t.equal(connections.isOverWithChoice(slot), true);
      services.set(one('10.1.0.7'), 0);
      connections.open(opening(1), 0);
      t.same(
        entries().map(({ translated }) => translated.destination),
        [parseIp('10.1.0.7')],
      );
      t.equal(services.pinned(entries()[0]!.pin!)?.connections, 1);
    },
  );

  t.test(`${kind}: a client uses up its own quota, and connections to a backend that is gone end`, async (t) => {
    const { services, connections, opening, entries, endGone } = lab(undefined, 2);
    services.set(one('10.1.0.9'), 0);
    services.loaded(0);
    for (let port = 1; port <= 3; port++) connections.open(opening(port), 0);
    t.same(new Set(entries().map(({ original }) => original.sourcePort)), new Set([2, 3]), 'half-open ones give way');
    t.equal(endGone(0), 0);
    services.set(one('10.1.0.7'), 0);
    t.equal(endGone(0), 2);
    t.equal(endGone(0), 0, 'once');
    t.same(
      entries().map(({ kind, state }) => `${kind} ${state}`),
      ['ended time_wait', 'ended time_wait'],
      'they are remembered',
    );
    t.equal(connections.ended.has(entries()[0]!.slot), true);
    for (let port = 4; port <= 5; port++) connections.open(opening(port), 1);
    t.same(
      entries().map(({ kind }) => kind),
      ['translated', 'translated'],
      'and give way to new ones',
    );
    t.equal(services.pinned(entries()[0]!.pin!)?.connections, 2);
  });

  t.test(
    `${kind}: one that has ended is remembered for 240 s and over a crash, and the replies of UDP for 30 s`,
    async (t) => {
      const { memory, services, connections, opening, entries, endGone } = lab();
      services.set(one('10.1.0.9'), 0);
      services.loaded(0);
      connections.open(opening(1), 0);
      connections.open({ ...opening(2), protocol: IP_UDP }, 0);
      services.set(one('10.1.0.7'), 1000);
      t.equal(endGone(1000), 2);
      for (const { slot } of entries()) connections.ended.told(slot);
      t.same(
        entries().map(({ protocol, kind }) => ({ protocol, kind })),
        [IP_TCP, IP_UDP].map((protocol) => ({ protocol, kind: 'ended' })),
      );
      const late = { ...tuple(2), source: parseIp('10.1.0.9'), sourcePort: 8080, destination: tuple(2).source };
      const isKnown = ({ connections }: typeof again): readonly boolean[] => [
        connections.lookup(RED, IP_TCP, tuple(1)) !== undefined,
        connections.lookup(RED, IP_UDP, tuple(2)) !== undefined,
        connections.lookup(RED, IP_UDP, { ...late, destinationPort: 2 }) !== undefined,
      ];
      const again = lab(memory.slice());
      again.connections.recover(2000);
      again.services.set(one('10.1.0.9'), 2000);
      again.services.loaded(0);
      t.equal(again.endGone(2000), 0, 'nobody is told twice');
      t.equal(again.entries()[0]!.kind, 'ended');
      t.same(isKnown(again), [true, false, true]);
      again.connections.expire(31_999);
      t.same(isKnown(again), [true, false, true]);
      again.connections.expire(32_000);
      t.same(isKnown(again), [true, false, false]);
      again.connections.expire(241_999);
      t.equal(again.connections.size, 1);
      again.connections.expire(242_000);
      t.equal(again.connections.size, 0);
    },
  );

  t.test(`${kind}: one of which not all ends know is remembered until they have given up by themselves`, async (t) => {
    const { services, connections, opening, endGone } = lab();
    services.set(one('10.1.0.9'), 0);
    services.loaded(0);
    connections.open(opening(1), 0);
    services.set(one('10.1.0.7'), 1000);
    t.equal(endGone(1000), 1);
    connections.expire(8_300_999);
    t.equal(connections.size, 1);
    connections.expire(8_301_000);
    t.equal(connections.size, 0);
  });

  t.test(`${kind}: a datagram goes to another backend at once, and to the same one with its own port`, async (t) => {
    const { services, connections, opening, entries, endGone } = lab();
    services.set(one('10.1.0.9'), 0);
    services.loaded(0);
    const open = (): void => void connections.open({ ...opening(2), protocol: IP_UDP }, 0);
    open();
    services.set(one('10.1.0.7'), 0);
    endGone(0);
    open();
    const ends = (): readonly (readonly [string, string, number])[] =>
      entries().map(({ kind, translated }) => [kind, formatIp(translated.destination), translated.sourcePort] as const);
    t.same(ends(), [
      ['ended', '10.1.0.9', 2],
      ['translated', '10.1.0.7', 2],
    ]);
    services.set(one('10.1.0.9'), 0);
    endGone(0);
    open();
    t.same(
      ends().toSorted(([one], [other]) => (one < other ? -1 : 1)),
      [
        ['ended', '10.1.0.7', 2],
        ['translated', '10.1.0.9', 2],
      ],
    );
  });

  t.test(`${kind}: a crash before the client of one that has ended was told is noticed`, (t) => {
    const { memory, services, connections, opening, endGone } = lab();
    services.set(one('10.1.0.9'), 0);
    services.loaded(0);
    for (let port = 1; port <= 3; port++) connections.open(opening(port), 0);
    services.set(one('10.1.0.7'), 1000);
    t.equal(endGone(1000), 3);
    const told = [...connections.entries()].find(({ original }) => original.sourcePort === 2)!;
    connections.ended.told(told.slot);
    t.same(connections.ended.untold(), [], 'while it lives, it knows itself');
    const again = lab(memory.slice());
    again.connections.recover(2000);
    const ports = (limit: number) => again.connections.ended.untold(limit).map(({ original }) => original.sourcePort);
    t.same(
      [ports(1), ports(5), ports(5)].map((each) => each.length),
      [1, 1, 0],
      'each is found once',
    );
    const third = lab(memory.slice());
    third.connections.recover(3000);
    const untold = third.connections.ended.untold();
    t.same(new Set(untold.map(({ original }) => original.sourcePort)), new Set([1, 3]));
    third.services.set(one('10.1.0.7'), 3000);
    third.services.loaded(3000);
    third.connections.open(third.opening(4), 3000);
    const fresh = third.entries().find(({ kind }) => kind === 'translated')!;
    const ended = third.entries().filter(({ kind }) => kind === 'ended');
    t.equal(ended.length, 3);
    for (const { pin } of ended) t.not(pin, fresh.pin, 'the number of a backend that is gone means no other one');
    t.end();
  });

  t.test(`${kind}: after a crash, connections go on with their backends, whose service has them again`, async (t) => {
    const { memory, services, connections, opening, entries } = lab();
    services.set(one('10.1.0.9'), 0);
    services.loaded(0);
    connections.open(opening(1), 0);
    const [{ pin }] = entries() as [ReturnType<typeof entries>[0]];
    for (const [address, isKept] of [
      ['10.1.0.9', true],
      ['10.1.0.7', false],
    ] as const) {
      const again = lab(memory.slice());
      again.connections.recover(500);
      t.equal(again.entries()[0]!.pin, pin);
      again.services.set(one(address), 500);
      t.equal(again.endGone(500), 0, 'not before all services are known');
      again.services.loaded(0);
      again.endGone(500);
      t.equal(again.entries()[0]!.kind, isKept ? 'translated' : 'ended', address);
      t.equal(again.services.pinned(pin!)?.connections, isKept ? 1 : undefined);
    }
  });
}
