/**
 * Connections that threads of the datapath open and close by themselves, at any moment: what the table of connections does
 * with those that it finds. Such a thread is played by what happens while a record is read.
 */
import t from 'tap';
import { CONNECTION_TABLE, recordAt, type ConnectionTuples } from '../../src/flow/connection.ts';
import { FIRST_FREE_OWNER } from '../../src/flow/connection-store.ts';
import { parseIp, type Vni } from '../../src/flow/types.ts';
import { ConnectionTable } from '../../src/table/connections.ts';
import { IP_TCP } from '../../src/wire/ipv4.ts';
import { noServices, stores } from '../support/connections.ts';
import { VIP } from '../support/services.ts';

const BLUE = 1 as Vni;
const [TABLE, OWNER] = [7, FIRST_FREE_OWNER];
const [GONE, STAYS] = [11, 12];

/** As the datapath opens it. */
function balanced(sourcePort: number, pin: number): ConnectionTuples {
  const original = { source: parseIp('10.0.0.2'), sourcePort, destination: VIP, destinationPort: 80 };
  const translated = { ...original, destination: parseIp(`10.0.1.${pin}`), destinationPort: 8080 };
  return { kind: 'translated', places: [BLUE, BLUE], protocol: IP_TCP, original, translated, pin, table: TABLE };
}

for (const [kind, openStore] of Object.entries(stores)) {
  function lab() {
    const store = openStore(8);
    const closed: number[] = [];
    const connections = new ConnectionTable({
      ...{ store, quota: 8, unprovenQuota: 8, natKey: new Uint8Array(8) },
      addressesWith: (_, ip) => [ip],
      isReserved: () => false,
      services: { ...noServices, closed: (_, pin) => void closed.push(pin) },
    });
    const open = (sourcePort: number, pin: number): number => store.open(balanced(sourcePort, pin), OWNER, 0);
    return { store, connections, closed, open };
  }

  t.test(`${kind}: who is looked for is not who has its slot by now`, async (t) => {
    const { store, connections, open } = lab();
    const { records } = store;
    const slot = open(1, GONE);
    const next = records.nextPinned.bind(records);
    records.nextPinned = (...given) => {
      const found = next(...given);
      // At this moment, a thread of the datapath closes it, and opens another one there.
      if (found === slot && records.pin(slot) === GONE) {
        store.close(slot);
        t.equal(open(2, STAYS), slot);
      }
      return found;
    };
    t.same(connections.pinned(new Set([GONE])), []);
    t.equal(store.balancedTo(STAYS), 1);
    t.equal(records.table(slot), TABLE, 'nobody has claimed it');
  });

  t.test(`${kind}: the same for those that another host has let in`, async (t) => {
    const { store, connections, open } = lab();
    const { records } = store;
    const via = parseIp('192.0.2.9');
    const { table: _, pin: __, ...entered } = balanced(1, GONE);
    const slot = store.open({ ...entered, translated: entered.original, via }, OWNER, 0);
    const next = records.nextVia.bind(records);
    records.nextVia = (...given) => {
      const found = next(...given);
      if (found === slot && records.via(slot)) {
        store.close(slot);
        t.equal(open(2, STAYS), slot);
      }
      return found;
    };
    t.same(connections.enteredBy(via), []);
    t.equal(records.table(slot), TABLE);
  });

  t.test(`${kind}: what a thread is writing is not taken for one whose end is to be noted`, async (t) => {
    const { store, connections, closed, open } = lab();
    const { records } = store;
    const opening = { vni: BLUE, ...balanced(9, STAYS) };
    const [slot] = Array.from({ length: 8 }, (_, n) => open(1 + n, GONE));
    const read = records.read.bind(records);
    records.read = (at) => {
      const view = new DataView(records.memory.buffer, records.memory.byteOffset);
      const [generation, table] = [records.generation(at), records.table(at)];
      if (at !== slot || generation % 2 === 1) return read(at);
      // Everything is written but the table.
      view.setUint32(recordAt(at), generation + 1, true);
      records.clearTable(at);
      const connection = read(at);
      view.setUint32(recordAt(at), generation + 2, true);
      view.setUint32(recordAt(at) + CONNECTION_TABLE, table, true);
      return connection;
    };
    connections.open({ ...opening, socket: parseIp('10.0.0.1'), client: 1 }, 0);
    t.same(closed, []);
  });

  t.test(`${kind}: a flow is given to the connection that was found, and to no other one in its slot`, async (t) => {
    const { store, connections, open } = lab();
    const slot = open(1, GONE);
    const { original } = balanced(1, GONE);
    const found = connections.lookup(BLUE, IP_TCP, original)!;
    t.same(found, { slot, generation: store.records.generation(slot), reply: false });
    connections.setFlow(found, 5);
    t.equal(connections.flow(found), 5);
    store.close(slot);
    t.equal(open(1, STAYS), slot);
    connections.setFlow(found, 6);
    t.equal(store.records.flow(slot, false), 0);
    t.equal(connections.flow(found), 0);
  });
}
