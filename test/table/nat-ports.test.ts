/** Which source ports connections from inside get, and what containers can do about them. */
import t from 'tap';
import type { Tuple } from '../../src/flow/connection.ts';
import { parseIp, type Vni } from '../../src/flow/types.ts';
import { keyedHash } from '../../src/flow/keyed-hash.ts';
import type { ConnectionEntry } from '../../src/table/connection-entries.ts';
import { ConnectionTable } from '../../src/table/connections.ts';
import type { Opening } from '../../src/table/openings.ts';
import { connectionMemoryFor, noServices, stores } from '../support/connections.ts';

const [TCP, UDP, ICMP] = [6, 17, 1];
const OF_ONE = 13_536 / 4;
const transit = { 4: parseIp('169.254.77.2'), 6: parseIp('fd77::2') } as const;

function table(count = 32_000, key = 1, addressesWith = (_: Vni, ip: Uint8Array): readonly Uint8Array[] => [ip]) {
  const memory = connectionMemoryFor(count);
  const store = stores.reference(count, memory);
  const natKey = new Uint8Array(8).fill(key);
  return {
    memory,
    connections: new ConnectionTable({
      store,
      quota: count,
      unprovenQuota: count,
      addressesWith,
      natKey,
      isReserved,
      services: noServices,
    }),
  };
}
const isReserved = (): boolean => false;

function leaving(source: string, sourcePort: number, to = '203.0.113.9:443', protocol = UDP, vni = 100): Opening {
  const [, destination, port] = /^(.*):(\d+)$/.exec(to)!;
  const original: Tuple = {
    ...{ source: parseIp(source), sourcePort },
    ...{ destination: parseIp(destination!), destinationPort: protocol === ICMP ? sourcePort : Number(port) },
  };
  return { vni: vni as Vni, protocol, original, address: transit[source.includes(':') ? 6 : 4] };
}

/** Opens it, and returns the port that it got. */
function portOf(connections: ConnectionTable, opening: Opening): number | undefined {
  if (connections.refusal(opening)) return undefined;
  connections.open(opening, 0);
  const { slot } = connections.lookup(opening.vni, opening.protocol, opening.original)!;
  return connections.tuples(slot).translated.sourcePort;
}

const portsOf = (entries: Iterable<ConnectionEntry>): number[] =>
  [...entries].map(({ translated }) => translated.sourcePort);

t.test('the hash is HalfSipHash-2-4: the first vectors of its reference implementation', (t) => {
  const upTo = (length: number): Uint8Array => Uint8Array.from({ length }, (_, n) => n);
  const hashes = Array.from({ length: 8 }, (_, length) => keyedHash(upTo(8), upTo(length)));
  const [empty, one, two, three] = [0x5b9f35a9, 0xb85a4727, 0x03a662fa, 0x04e7fe8a];
  t.same(hashes, [empty, one, two, three, 0x89466e2a, 0x69b6fac5, 0x23fc6358, 0xc563cf8b]);
  t.end();
});

t.test('one source has one port, to wherever it sends (RFC 4787 REQ-1)', (t) => {
  const { connections } = table();
  for (const [source, protocol] of [
    ['10.1.0.2', UDP],
    ['10.1.0.2', TCP],
    ['fd01::2', UDP],
  ] as const) {
    const far = source.includes(':') ? '2001:db8::9' : '198.51.100.9';
    const all = Array.from({ length: 50 }, (_, n) =>
      portOf(connections, leaving(source, 40_000, `${far}:${7000 + n}`, protocol)),
    );
    t.equal(new Set(all).size, 1, `${source}, protocol ${protocol}`);
    t.not(
      portOf(connections, leaving(source, 40_001, `${far}:7000`, protocol)),
      all[0],
      'another source, another port',
    );
  }
  t.not(
    portOf(connections, leaving('10.1.0.2', 40_000, '198.51.100.9:1', UDP, 200)),
    portOf(connections, leaving('10.1.0.2', 40_000, '198.51.100.9:1')),
    'the same address in another network is another source',
  );
  t.equal(
    portOf(connections, leaving('10.1.0.5', 7, '203.0.113.9:0', ICMP)),
    portOf(connections, leaving('10.1.0.5', 7, '203.0.113.8:0', ICMP)),
    'of pings the identifier',
  );
  t.end();
});

t.test('the container’s own port does not count, and another key gives other ports', (t) => {
  const ports = [1, 2].map((key) => {
    const { connections } = table(200, key);
    for (let port = 60_000; port < 60_100; port++) portOf(connections, leaving('10.1.0.2', port));
    return portsOf(connections.entries());
  });
  // By chance, one of 13,536 is the same.
  t.ok(ports.every((each) => each.filter((port, n) => port === 60_000 + n).length < 3));
  t.ok(ports[0]!.filter((port, n) => port === ports[1]![n]).length < 3);
  t.end();
});

t.test('an endpoint has a quarter to itself; beyond it, ports are shared by destination', (t) => {
  const addresses = ['10.1.0.2', '10.1.0.3'].map(parseIp);
  const { connections } = table(32_000, 1, (_, ip) => (ip[15]! <= 3 ? addresses : [ip]));
  // From two addresses, which share the quota.
  for (let n = 0; n < 6000; n++) portOf(connections, leaving(`10.1.0.${2 + (n % 2)}`, 1000 + n));
  t.equal(connections.size, 6000);
  const mapped = (n: number, to: string): number | undefined =>
    portOf(connections, leaving(`10.1.0.${2 + (n % 2)}`, 1000 + n, to));
  const before = portsOf(connections.entries());
  const keeps = (n: number): boolean => mapped(n, '198.51.100.1:1') === before[n];
  t.ok(
    Array.from({ length: OF_ONE }, (_, n) => n).every((n) => keeps(n)),
    'the first have ports of their own',
  );
  const later = Array.from({ length: 1000 }, (_, n) => OF_ONE + n).filter((n) => keeps(n));
  t.ok(later.length < 10, 'the others another one for each destination');
  // 10,152 are left for everybody else, whatever that endpoint does.
  const others = Array.from({ length: 2000 }, (_, n) => portOf(connections, leaving('10.1.0.9', n, '198.51.100.7:7')));
  const same = others.filter((port, n) => port === portOf(connections, leaving('10.1.0.9', n, '198.51.100.8:8')));
  t.equal(same.length, others.length, 'another endpoint has ports of its own, too');
  t.end();
});

t.test('many connections through shared ports, none twice', (t) => {
  const { connections } = table();
  let opened = 0;
  for (let n = 0; n < 30_000; n++) {
    if (portOf(connections, leaving('10.1.0.2', 1 + (n % 10_000), `203.0.113.${n % 3}:53`)) !== undefined) opened++;
  }
  t.equal(opened, 30_000);
  const outside = [...connections.entries()].map(
    ({ translated }) => `${translated.sourcePort}-${translated.destination.join('.')}`,
  );
  t.equal(new Set(outside).size, 30_000);
  t.end();
});

t.test('a port is given back with the last connection that uses it', (t) => {
  const { connections } = table();
  for (let round = 0; round < 3; round++) {
    for (let n = 0; n < OF_ONE; n++) portOf(connections, leaving('10.1.0.2', 1000 + n));
    const first = portOf(connections, leaving('10.1.0.2', 1000, '198.51.100.1:1'));
    t.equal(first, portsOf(connections.entries())[0], 'all of them are its own');
    connections.forget(100 as Vni, parseIp('10.1.0.2'));
    t.equal(connections.size, 0);
  }
  t.end();
});

t.test('after a crash, sources keep the ports that they have', (t) => {
  const { memory, connections } = table(100);
  const before = Array.from({ length: 50 }, (_, n) => portOf(connections, leaving('10.1.0.2', 1000 + n)));
  const natKey = new Uint8Array(8).fill(9);
  const addressesWith = (_: Vni, ip: Uint8Array): readonly Uint8Array[] => [ip];
  const store = stores.reference(100, memory);
  const again = new ConnectionTable({
    store,
    quota: 100,
    unprovenQuota: 100,
    addressesWith,
    natKey,
    isReserved,
    services: noServices,
  });
  again.recover(0);
  t.same(
    before.map((_, n) => portOf(again, leaving('10.1.0.2', 1000 + n, '198.51.100.1:1'))),
    before,
  );
  t.end();
});
