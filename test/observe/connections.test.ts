/** The report of connections: whose they are, and how long it occupies the event loop. */
import t from 'tap';
import { parseIp, type Vni } from '../../src/flow/types.ts';
import { endpointSchema } from '../../src/model/kinds/endpoint.ts';
import { reportConnections, TURN_CONNECTIONS, type ConnectionsQuestion } from '../../src/observe/connections.ts';
import { ConnectionTable } from '../../src/table/connections.ts';
import { Changes } from '../../src/table/changes.ts';
import { Services } from '../../src/table/services.ts';
import { Topology } from '../../src/table/topology.ts';
import { noServices, stores } from '../support/connections.ts';

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
  t.same(await namesOf(question(4, { of: 'db' })), ['db', 'db']);
  for await (const report of reportConnections(question(1, { of: 'web' }))) {
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

t.test('many of them do not hold up everything else', async (t) => {
  const count = TURN_CONNECTIONS * 4;
  for (const more of [{}, { of: 'nobody' }]) {
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
