/** The connection table: lookups, ports, quotas, timeouts, and what a crash leaves. */
import t from 'tap';
import {
  ConnectionRecords,
  INTERNAL,
  OUTSIDE,
  recordAt,
  SEEN_ACK,
  SEEN_FIN,
  SEEN_RST,
  SEEN_SYN,
  type ProtocolTuple,
  type Tuple,
} from '../../src/flow/connection.ts';
import { formatIp, parseIp, type Vni } from '../../src/flow/types.ts';
import { ConnectionTable, type ConnectionOptions } from '../../src/table/connections.ts';
import { connectionObject } from '../../src/table/connection-ways.ts';
import type { Opening } from '../../src/table/openings.ts';
import { connectionMemoryFor, noServices, stores } from '../support/connections.ts';

const RED = 100 as Vni;
const [TCP, UDP, ICMP] = [6, 17, 1];
const transit = parseIp('169.254.77.2');
const endpoint = parseIp('10.1.0.2');

function tuple(source: string, sourcePort: number, destination: string, destinationPort: number): Tuple {
  return { source: parseIp(source), sourcePort, destination: parseIp(destination), destinationPort };
}

function leaving(source: string, sourcePort: number, protocol = UDP, destinationPort = 443): Opening {
  const original = tuple(source, sourcePort, '203.0.113.9', protocol === ICMP ? sourcePort : destinationPort);
  return { vni: RED, protocol, original, address: transit };
}

const nobody: Pick<ConnectionOptions, 'addressesWith' | 'natKey' | 'isReserved' | 'services'> = {
  addressesWith: (_, ip) => [ip],
  natKey: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8),
  isReserved: () => false,
  services: noServices,
};

for (const [kind, openStore] of Object.entries(stores)) {
  function table(count: number, quota = count, more: Partial<ConnectionOptions> = {}) {
    const memory = connectionMemoryFor(count);
    const store = openStore(count, memory);
    const { records } = store;
    const connections = new ConnectionTable({ store, quota, unprovenQuota: quota, ...nobody, ...more });
    const openedPorts = (): number[] => [...connections.entries()].map(({ original }) => original.sourcePort);
    /** Lets both sides send something. */
    const answer = (slot: number): void => {
      for (const reply of [false, true]) records.writeHalf(slot, reply, { ...records.half(slot, reply), packets: 1 });
    };
    return { memory, store, records, connections, openedPorts, answer };
  }

  /** The port of the first connection. */
  const natPortOf = (connections: ConnectionTable): number => [...connections.entries()][0]!.translated.sourcePort;

  t.test(`${kind}: a connection is found from both sides, and names what a decision about it consulted`, (t) => {
    const { connections } = table(8);
    const opening = leaving('10.1.0.2', 40_000);
    const changed = connections.open(opening, 0);
    const answer = tuple('203.0.113.9', 443, '169.254.77.2', natPortOf(connections));
    t.same(changed, [connectionObject(RED, UDP, opening.original), connectionObject(OUTSIDE, UDP, answer)]);
    t.match(connections.lookup(RED, UDP, opening.original), { slot: 0, reply: false });
    t.match(connections.lookup(OUTSIDE, UDP, answer), { slot: 0, reply: true });
    t.equal(connections.lookup(OUTSIDE, UDP, opening.original), undefined, 'a tuple means something in one place only');
    t.equal(connections.lookup(RED, TCP, opening.original), undefined);
    const sent = { protocol: UDP, ...tuple('169.254.77.2', natPortOf(connections), '203.0.113.9', 443) };
    t.ok(connections.isOpenOutside(sent));
    t.notOk(connections.isOpenOutside({ ...sent, protocol: TCP }));
    t.same(connections.forget(RED, endpoint), changed);
    t.notOk(connections.isOpenOutside(sent));
    t.equal(connections.size, 0);
    t.end();
  });

  t.test(`${kind}: ports are of the range, each once for a destination`, (t) => {
    const { connections } = table(600);
    for (let n = 0; n < 300; n++) {
      const source = `10.1.${n >> 8}.${n & 255}`;
      t.equal(connections.refusal(leaving(source, 40_000)), undefined);
      connections.open(leaving(source, 40_000), 0);
      connections.open(leaving(source, 80, TCP), 0);
    }
    const ports = new Set<number>();
    for (const { protocol, translated } of connections.entries()) {
      const isOfRange = translated.sourcePort >= 52_000 && translated.sourcePort <= 65_535;
      if (formatIp(translated.source) !== '169.254.77.2' || !isOfRange) t.fail('a port of its own');
      if (protocol === UDP) ports.add(translated.sourcePort);
    }
    t.equal(ports.size, 300);
    t.end();
  });

  t.test(`${kind}: no port is left: refused, with that reason`, (t) => {
    const { connections } = table(20_000);
    let opened = 0;
    const next = (): Opening => leaving(`10.${opened >> 16}.${(opened >> 8) & 255}.${opened & 255}`, 20_000);
    while (opened < 15_000 && !connections.refusal(next())) {
      connections.open(next(), 0);
      opened++;
    }
    t.ok(opened > 12_000 && opened <= 13_536, `after ${opened} to one destination`);
    t.equal(connections.refusal(next()), 'nat_ports');
    t.end();
  });

  t.test(`${kind}: of two conversations with the same ends, one that nobody has answered gives way`, (t) => {
    const { connections, answer } = table(8);
    const out = tuple('10.1.0.2', 80, '203.0.113.9', 999);
    const outbound: Opening = { vni: RED, protocol: UDP, original: out, address: transit };
    const original = tuple('203.0.113.9', 999, '169.254.77.2', 8080);
    const translated = tuple('203.0.113.9', 999, '10.1.0.2', 80);
    const published: Opening = { vni: RED, protocol: UDP, original, translated };
    connections.open(outbound, 0);
    answer(0);
    t.equal(connections.refusal(published), 'nat_ports');
    t.same(connections.open(published, 0), []);
    t.match(connections.lookup(RED, UDP, out), { reply: false });

    connections.forget(RED, endpoint);
    connections.open(outbound, 0);
    t.equal(connections.refusal(published), undefined);
    t.ok(connections.open(published, 0).includes(connectionObject(RED, UDP, out)));
    t.match(connections.lookup(RED, UDP, out), { reply: true });
    t.equal(connections.size, 1);
    t.end();
  });

  t.test(`${kind}: the addresses of one workload share its quota`, (t) => {
    const addresses = ['10.1.0.2', '10.1.0.3'].map(parseIp);
    const { connections, answer } = table(8, 2, { addressesWith: () => addresses });
    connections.open(leaving('10.1.0.2', 1), 0);
    connections.open(leaving('10.1.0.3', 1), 0);
    t.equal(connections.refusal(leaving('10.1.0.3', 2)), undefined, 'one of them is given up');
    answer(0);
    answer(1);
    t.equal(connections.refusal(leaving('10.1.0.3', 2)), 'connection_limit');
    t.end();
  });

  t.test(`${kind}: of the addresses of one workload, what was opened first is given up first`, (t) => {
    const addresses = ['10.1.0.2', '10.1.0.3'].map(parseIp);
    const { connections, openedPorts } = table(8, 3, { addressesWith: () => addresses });
    connections.open(leaving('10.1.0.3', 1), 0);
    connections.open(leaving('10.1.0.2', 2), 0);
    for (let port = 3; port <= 5; port++) {
      connections.open(leaving('10.1.0.3', port), 0);
      t.same(new Set(openedPorts()), new Set([port - 2, port - 1, port]));
    }
    t.end();
  });

  t.test(`${kind}: many that are in use do not hide one that can be given up`, (t) => {
    const USED = 1000;
    const { connections, answer } = table(2000, USED + 10);
    for (let port = 1; port <= USED; port++) connections.open(leaving('10.1.0.2', port), 0);
    for (let slot = 0; slot < USED; slot++) answer(slot);
    for (let port = 1; port <= 10; port++) connections.open(leaving('10.1.0.2', USED + port), 0);
    let refused = 0;
    for (let port = 2000; port < 3000; port++) {
      if (connections.refusal(leaving('10.1.0.2', port))) refused++;
      else connections.open(leaving('10.1.0.2', port), 0);
    }
    t.ok(refused <= 4, `${refused} of 1000 are refused`);
    t.end();
  });

  t.test(`${kind}: where every place is taken, the latest are not given up for each other`, (t) => {
    const { connections } = table(100, 50);
    for (const ip of ['10.1.0.2', '10.1.0.3']) {
      for (let port = 1; port <= 50; port++) connections.open(leaving(ip, port), 0);
    }
    t.equal(connections.size, connections.limit);
    const latest = Array.from({ length: 40 }, (_, n) => leaving('10.1.0.4', n + 1));
    for (const each of latest) connections.open(each, 0);
    t.ok(
      latest.every((each) => connections.lookup(RED, UDP, each.original)),
      'all of them are there',
    );
    t.end();
  });

  t.test(`${kind}: asking changes nothing`, (t) => {
    const { connections } = table(4, 2);
    for (let port = 1; port <= 2; port++) connections.open(leaving('10.1.0.2', port), 0);
    const before = [...connections.entries()];
    for (let n = 0; n < 5; n++) connections.refusal(leaving('10.1.0.2', 9));
    t.same([...connections.entries()], before);
    connections.open(leaving('10.1.0.2', 9), 0);
    t.equal(connections.lookup(RED, UDP, leaving('10.1.0.2', 1).original), undefined, 'still the oldest goes');
    t.end();
  });

  t.test(`${kind}: a port that is published is nobody else’s`, (t) => {
    // Everything except 1,000 of the range; all ports below the range too.
    const isReserved = (protocol: number, port: number): boolean =>
      protocol === UDP && (port < 60_000 || port > 61_000);
    const { connections } = table(300, 300, { isReserved });
    for (let n = 0; n < 200; n++) connections.open(leaving('10.1.0.2', n), 0);
    const ports = [...connections.entries()].map(({ translated }) => translated.sourcePort);
    t.equal(new Set(ports).size, 200);
    t.ok(ports.every((port) => !isReserved(UDP, port)));
    const none = table(300, 300, { isReserved: () => true });
    t.equal(none.connections.refusal(leaving('10.1.0.2', 50_000)), 'nat_ports');
    t.end();
  });

  t.test(`${kind}: as many as there is room for, and of each endpoint its quota`, (t) => {
    const { connections, answer } = table(4, 3);
    for (let port = 1; port <= 3; port++) connections.open(leaving('10.1.0.2', port), 0);
    for (let slot = 0; slot < 3; slot++) answer(slot);
    t.equal(connections.refusal(leaving('10.1.0.2', 9)), 'connection_limit');
    t.same(connections.open(leaving('10.1.0.2', 9), 0), []);
    connections.open(leaving('10.1.0.3', 1), 0);
    answer(3);
    t.equal(connections.refusal(leaving('10.1.0.4', 1)), 'connection_limit');
    connections.forget(RED, endpoint);
    t.equal(connections.size, 1);
    t.equal(connections.refusal(leaving('10.1.0.4', 1)), undefined);
    t.end();
  });

  t.test(`${kind}: a check of an endpoint that has used up its quota`, async (t) => {
    const { connections, answer } = table(3, 1);
    connections.open(leaving('10.1.0.2', 1), 0);
    answer(0);
    t.equal(connections.refusal(leaving('10.1.0.2', 2)), 'connection_limit');
    const check = (sourcePort: number): Opening => ({
      ...{ vni: RED, protocol: UDP, from: INTERNAL },
      original: tuple('169.254.77.6', sourcePort, '16.0.0.1', 8080),
      translated: tuple('10.1.0.1', sourcePort, '10.1.0.2', 8080),
    });
    for (const sourcePort of [1, 2]) {
      t.equal(connections.refusal(check(sourcePort)), undefined);
      connections.open(check(sourcePort), 0);
      answer(sourcePort);
    }
    t.equal(connections.refusal(check(3)), 'connection_limit', 'the table is full');
    connections.forget(RED, endpoint);
    t.equal(connections.size, 0, 'they go with the endpoint');
  });

  t.test(`${kind}: at the quota, the oldest that nobody has answered is given up for a new one`, (t) => {
    const { connections, openedPorts, answer } = table(8, 3);
    for (let port = 1; port <= 3; port++) connections.open(leaving('10.1.0.2', port), 0);
    connections.open(leaving('10.1.0.3', 1), 0);
    answer(0);
    const given = leaving('10.1.0.2', 2);
    t.equal(connections.refusal(leaving('10.1.0.2', 4)), undefined);
    const changed = connections.open(leaving('10.1.0.2', 4), 0);
    t.ok(changed.includes(connectionObject(RED, UDP, given.original)), 'who consulted the old one hears of it');
    t.same(new Set(openedPorts()), new Set([1, 3, 4]), 'the others, and another endpoint’s, stay');
    connections.open(leaving('10.1.0.2', 5), 0);
    t.same(new Set(openedPorts()), new Set([1, 4, 5]));
    t.end();
  });

  t.test(`${kind}: where every place is taken, one that nobody has answered is given up, whosever it is`, (t) => {
    const { connections, openedPorts, answer } = table(4, 4);
    for (let port = 1; port <= 4; port++) connections.open(leaving('10.1.0.2', port), 0);
    for (const slot of [0, 1, 3]) answer(slot);
    connections.open(leaving('10.1.0.3', 9), 0);
    t.same(openedPorts(), [1, 2, 4, 9], 'in a place of its own: flows may still refer to the other');
    answer(4);
    t.equal(connections.refusal(leaving('10.1.0.3', 8)), 'connection_limit');
    t.end();
  });

  t.test(`${kind}: what nobody takes has a quota of its own; what is answered does not count towards it`, (t) => {
    const { connections, openedPorts, answer } = table(200, 100, { unprovenQuota: 10 });
    const openTo = (from: number, to: number): void => {
      for (let port = from; port <= to; port++) {
        t.equal(connections.refusal(leaving('10.1.0.2', port)), undefined);
        connections.open(leaving('10.1.0.2', port), 0);
      }
    };
    openTo(1, 30);
    t.same(new Set(openedPorts()), new Set(Array.from({ length: 10 }, (_, n) => n + 21)), 'the latest are there');
    for (const { slot } of connections.entries()) answer(slot);
    openTo(31, 40);
    t.equal(connections.size, 20);
    for (const { slot, original } of connections.entries()) if (original.sourcePort !== 31) answer(slot);
    openTo(41, 49);
    t.equal(connections.size, 29, 'the one that is not answered does not go while there are few of its kind');
    t.ok(openedPorts().includes(31));
    openTo(50, 50);
    t.equal(connections.size, 29);
    t.notOk(openedPorts().includes(31), 'then it goes first');
    t.end();
  });

  t.test(`${kind}: TCP that was refused counts as what nobody takes`, (t) => {
    const { connections, records, openedPorts } = table(20, 20, { unprovenQuota: 2 });
    for (let port = 1; port <= 3; port++) {
      connections.open(leaving('10.1.0.2', port, TCP), 0);
      const { slot } = [...connections.entries()].find(({ original }) => original.sourcePort === port)!;
      records.writeHalf(slot, false, { ...records.half(slot, false), packets: 1, seen: SEEN_SYN });
      records.writeHalf(slot, true, { ...records.half(slot, true), packets: 1, seen: SEEN_RST });
    }
    t.same(new Set(openedPorts()), new Set([2, 3]));
    t.end();
  });

  t.test(`${kind}: TCP that is over makes room, what is established does not`, (t) => {
    const { connections, records, openedPorts } = table(4, 2);
    for (let port = 1; port <= 2; port++) connections.open(leaving('10.1.0.2', port, TCP), 0);
    const seen = (slot: number, flags: number): void => {
      for (const reply of [false, true]) {
        records.writeHalf(slot, reply, { ...records.half(slot, reply), packets: 2, seen: flags });
      }
    };
    seen(0, SEEN_SYN | SEEN_ACK);
    seen(1, SEEN_SYN | SEEN_ACK);
    t.equal(connections.refusal(leaving('10.1.0.2', 3, TCP)), 'connection_limit');
    seen(1, SEEN_SYN | SEEN_ACK | SEEN_FIN);
    connections.open(leaving('10.1.0.2', 3, TCP), 0);
    t.same(openedPorts(), [1, 3]);
    t.end();
  });

  t.test(`${kind}: time-outs by protocol and state`, (t) => {
    const { connections } = table(8);
    for (const [n, protocol] of [UDP, TCP, ICMP].entries()) connections.open(leaving('10.1.0.2', n, protocol), 1000);
    connections.open(leaving('10.1.0.2', 9, UDP, 53), 1000);
    const expiries = [...connections.entries()].map(({ expiresAtMs }) => expiresAtMs);
    t.same(expiries, [121_000, 241_000, 61_000, 31_000], 'of a question to a name server a short one');
    for (const [nowMs, left] of [
      [31_000, 3],
      [60_999, 3],
      [61_000, 2],
      [121_000, 1],
      [241_000, 0],
    ] as const) {
      connections.expire(nowMs);
      t.equal(connections.size, left, `${nowMs} ms`);
    }
    t.end();
  });

  t.test(`${kind}: what ends is told as it left, whoever opened it`, (t) => {
    const ended: string[] = [];
    const onClosed = ({ protocol, source, sourcePort, destination, destinationPort }: ProtocolTuple): void =>
      void ended.push(`${protocol} ${formatIp(source)}:${sourcePort} ${formatIp(destination)}:${destinationPort}`);
    const { connections } = table(8, 1, { onClosed });
    const original = tuple('203.0.113.7', 999, '169.254.77.2', 8080);
    connections.open({ vni: RED, protocol: TCP, original, translated: { ...original, destination: endpoint } }, 0);
    connections.forget(RED, endpoint);
    t.same(ended, ['6 169.254.77.2:8080 203.0.113.7:999']);
    connections.open(leaving('10.1.0.2', 1), 0);
    const natPort = natPortOf(connections);
    connections.open(leaving('10.1.0.2', 2), 0);
    t.same(ended.slice(1), [`17 169.254.77.2:${natPort} 203.0.113.9:443`], 'given up for another one');
    connections.expire(120_000);
    t.equal(ended.length, 3);
    t.end();
  });

  t.test(`${kind}: a place that is taken again has another generation`, (t) => {
    const { memory, connections } = table(1);
    const records = new ConnectionRecords(memory);
    connections.open(leaving('10.1.0.2', 1), 0);
    const first = records.generation(0);
    connections.forget(RED, endpoint);
    t.equal(records.generation(0), 0);
    connections.open(leaving('10.1.0.2', 1), 0);
    t.not(records.generation(0), first);
    t.equal(records.generation(0) % 2, 0);
    t.end();
  });

  t.test(`${kind}: the host is not told of the end of connections to weft's own sockets`, (t) => {
    const told: ProtocolTuple[] = [];
    const { connections } = table(2, 2, { onClosed: (outside) => told.push(outside) });
    const original = tuple('10.1.0.2', 1, '10.1.0.1', 53);
    connections.open({ vni: RED, protocol: UDP, original, socket: parseIp('169.254.77.6'), client: 7 }, 0);
    connections.open(leaving('10.1.0.2', 2), 0);
    connections.forget(RED, endpoint);
    t.equal(connections.size, 0);
    t.match(told, [{ destinationPort: 443 }]);
    t.end();
  });

  t.test(`${kind}: after a crash, connections to weft's own sockets are gone, and their places are free`, (t) => {
    const { memory, connections } = table(2);
    const original = tuple('10.1.0.2', 1, '10.1.0.1', 53);
    connections.open({ vni: RED, protocol: UDP, original, socket: parseIp('169.254.77.6'), client: 7 }, 0);
    connections.open(leaving('10.1.0.2', 2), 0);
    t.match(connections.lookup(RED, UDP, original), { slot: 0 });
    const again = new ConnectionTable({ store: openStore(2, memory), quota: 2, unprovenQuota: 2, ...nobody });
    again.recover(500);
    t.same(
      [...again.entries()].map(({ original: { sourcePort } }) => sourcePort),
      [2],
    );
    again.open(leaving('10.1.0.2', 3), 500);
    t.equal(again.size, 2);
    t.end();
  });

  t.test(`${kind}: after a crash: what is whole goes on, what is torn or nonsense is free`, (t) => {
    const { memory, connections } = table(6);
    for (let port = 1; port <= 5; port++) connections.open(leaving('10.1.0.2', port), 1e9);
    const torn = new DataView(memory.buffer);
    torn.setUint32(recordAt(1), 0xffff_ffff, true);
    memory[recordAt(2) + 4] = 99;
    memory.copyWithin(recordAt(3), recordAt(4), recordAt(5));
    const again = new ConnectionTable({ store: openStore(6, memory), quota: 6, unprovenQuota: 6, ...nobody });
    again.recover(500);
    const found = [...again.entries()];
    t.same(
      found.map(({ slot, original }) => [slot, original.sourcePort]),
      [
        [0, 1],
        [3, 5],
      ],
    );
    t.same(new Set(found.map(({ lastSeenMs }) => lastSeenMs)), new Set([500]), 'their time-outs begin anew');
    t.match(again.lookup(RED, UDP, leaving('10.1.0.2', 1).original), { slot: 0, reply: false });
    for (let port = 11; port <= 14; port++) again.open(leaving('10.1.0.2', port), 500);
    t.equal(again.size, 6, 'the free places are taken');
    t.end();
  });
}
