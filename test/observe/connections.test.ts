/** The report of connections: whose they are, and how long it occupies the event loop. */
import t from 'tap';
import { OUTSIDE } from '../../src/flow/connection.ts';
import { parseIp, type Vni } from '../../src/flow/types.ts';
import { endsText } from '../../src/cli/connections.ts';
import { endpointSchema } from '../../src/model/kinds/endpoint.ts';
import type { ConnectionReport } from '../../src/model/report.ts';
import { reportConnections, TURN_CONNECTIONS, type ConnectionsQuestion } from '../../src/observe/connections.ts';
import { ConnectionTable } from '../../src/table/connections.ts';
import { Changes } from '../../src/table/changes.ts';
import { Services } from '../../src/table/services.ts';
import { Topology } from '../../src/table/topology.ts';
import { noServices, stores } from '../support/connections.ts';
import { backend, service, servicePort } from '../support/services.ts';

const UDP = 17;

/** Connections of two endpoints in turns, and one of nobody. */
function question(count: number, more: Partial<ConnectionsQuestion> = {}): ConnectionsQuestion {
  const connections = new ConnectionTable({
    store: stores.reference(count + 1),
    quota: count,
    unprovenQuota: count,
    addressesWith: (_, ip) => [ip],
    natKey: new Uint8Array(8),
    services: noServices,
    isReserved: () => false,
  });
  const topology = new Topology(new Uint8Array(6), new Changes());
  topology.setNetwork({ name: 'blue', vni: 100 as Vni });
  const open = (source: string, sourcePort: number): void => {
    const [destination, destinationPort] = [parseIp('203.0.113.9'), 53];
    const original = { source: parseIp(source), sourcePort, destination, destinationPort };
    connections.open({ vni: 100 as Vni, protocol: UDP, original, address: parseIp('169.254.77.2') }, 0);
  };
  for (let n = 0; n < count; n++) open(n % 2 === 0 ? '10.0.0.10' : '10.0.0.11', 20_000 + n);
  open('10.0.0.99', 20_000 + count);
  const tables = { connections, topology, services: new Services(topology, new Changes()) };
  return { tables, endpoints: [web, db], clock: () => 1000, ...more };
}

function endpoint(name: string, address: string): ConnectionsQuestion['endpoints'][number] {
  const resource = endpointSchema.parse({
    apiVersion: 'weft.dev/v1',
    kind: 'Endpoint',
    metadata: { name },
    spec: { network: 'blue', netns: name },
  });
  return { name, addresses: [address], resource };
}
const [web, db] = [endpoint('web', '10.0.0.10'), endpoint('db', '10.0.0.11')];

t.test('all of them, or those of one endpoint', async (t) => {
  const namesOf = async (asked: ConnectionsQuestion): Promise<(string | null)[]> => {
    const names: (string | null)[] = [];
    for await (const { endpoint } of reportConnections(asked)) names.push(endpoint);
    return names;
  };
  t.same(await namesOf(question(4)), ['web', 'db', 'web', 'db', null]);
  t.same(await namesOf(question(4, { of: { endpoint: 'db' } })), ['db', 'db']);
  t.equal((await namesOf(question(4, { of: { network: 'blue' } }))).length, 5);
  t.same(await namesOf(question(4, { of: { network: 'red' } })), []);
  t.same(await namesOf(question(4, { of: { service: 'default/web' } })), []);
  for await (const report of reportConnections(question(1, { of: { endpoint: 'web' } }))) {
    t.match(report, {
      id: 'c0',
      from: 'default/web',
      to: null,
      service: null,
      protocol: 'udp',
      state: 'new',
      direction: 'outbound',
      network: 'blue',
      source: '10.0.0.10:20000',
      translatedSource: /^169\.254\.77\.2:(5[2-9]|6[0-5])\d{3}$/,
      idleMs: 1000,
    });
  }
});

t.test('one from outside to a node port: its service, the port there, and the backend', async (t) => {
  const topology = new Topology(new Uint8Array(6), new Changes());
  topology.setNetwork({ name: 'blue', vni: 100 as Vni, outside: true });
  const services = new Services(topology, new Changes());
  const connections = new ConnectionTable({
    store: stores.reference(4),
    quota: 4,
    unprovenQuota: 4,
    addressesWith: (_, ip) => [ip],
    natKey: new Uint8Array(8),
    services,
    isReserved: () => false,
  });
  const ports = [servicePort(1, { l4Port: 53, protocol: UDP, nodePort: 30_053 })];
  services.set(service({ ports, backends: [backend('10.0.0.10', { endpoint: 'default/web' })] }), 0);
  const [source, destination] = [parseIp('203.0.113.9'), parseIp('169.254.77.2')];
  const original = { source, sourcePort: 5555, destination, destinationPort: 30_053 };
  const found = services.findPublished(UDP, 30_053)!;
  const choice = services.choose(found, OUTSIDE, { protocol: UDP, ...original });
  if (choice.kind === 'none') throw new Error('there is no backend');
  const vni = 100 as Vni;
  connections.open({ vni, protocol: UDP, original, choice, replies: vni, isFromOutside: true }, 0);
  const tables = { connections, topology, services };
  const asked = { tables, endpoints: [web, db], clock: () => 1000 };
  for await (const { id } of reportConnections({ ...asked, of: { service: 'default/other' } })) t.fail(`${id} is none`);
  let count = 0;
  for await (const report of reportConnections({ ...asked, of: { service: 'default/web', network: 'blue' } })) {
    count++;
    t.match(report, {
      direction: 'published',
      ...{ from: null, to: 'default/web', endpoint: 'web', network: 'blue' },
      service: { name: 'default/web', port: '53' },
      source: '203.0.113.9:5555',
      destination: '169.254.77.2:30053',
      translatedDestination: '10.0.0.10:8080',
    });
  }
  t.equal(count, 1);
});

t.test('one from outside that came in by another host says by which one', async (t) => {
  const asked = question(2);
  const [source, destination] = [parseIp('203.0.113.9'), parseIp('10.0.0.10')];
  const original = { source, sourcePort: 5555, destination, destinationPort: 8080 };
  asked.tables.connections.open({ vni: 100 as Vni, protocol: UDP, original, via: parseIp('192.0.2.1') }, 0);
  const found: ConnectionReport[] = [];
  for await (const report of reportConnections({ ...asked, of: { endpoint: 'web' } })) found.push(report);
  t.match(found, [{ direction: 'published', from: null, to: 'default/web', service: null, via: '192.0.2.1' }]);
  t.equal(
    endsText(found[0]!).split('\n').slice(1, 3).join('\n'),
    'From: 203.0.113.9:5555, by host 192.0.2.1\nTo: default/web 10.0.0.10:8080',
  );
  for await (const report of reportConnections({ ...asked, of: undefined })) {
    if (report.from !== 'default/web' && report.to !== 'default/web') t.notOk('via' in report);
  }
});

t.test('many of them do not hold up everything else', async (t) => {
  const count = TURN_CONNECTIONS * 4;
  for (const more of [{}, { of: { endpoint: 'nobody' } }]) {
    let turns = 0;
    const ids = new Set<string>();
    let isDone = false;
    const turn = (): void => {
      turns++;
      if (!isDone) setImmediate(turn);
    };
    setImmediate(turn);
    for await (const { id } of reportConnections(question(count, more))) ids.add(id);
    isDone = true;
    t.equal(ids.size, 'of' in more ? 0 : count + 1);
    t.ok(turns >= 4, `${turns} turns`);
  }
});
