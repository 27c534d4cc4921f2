/** Tables by which the datapath balances: what is known of those that were removed, as long as connections have them. */
import t from 'tap';
import { BalancingTables } from '../../src/table/balancing-tables.ts';
import { backends, BLUE, chosenFor, service, serviceTable, tuple } from '../support/services.ts';

const REMOVED = 3000;
const MOST_ASKED = 1024;

t.test('one call asks about some removed tables, and some calls about all of them', async (t) => {
  const { services } = serviceTable();
  services.set(service({ backends: backends(2) }), 0);
  const { selection } = chosenFor(services, tuple(1));
  const asked: number[] = [];
  let connections = 1;
  const tables = new BalancingTables();
  tables.use({
    ...{ quota: 1, unprovenQuota: 1 },
    store: {
      addTable: () => undefined,
      removeTable: () => undefined,
      balancedTo: () => 0,
      balancedBy: (id) => {
        asked.push(id);
        return connections;
      },
    },
  });
  const ids = Array.from({ length: REMOVED }, () => {
    const id = tables.add(
      { selection, table: undefined, tableOf: undefined, position: 0, balancing: undefined },
      BLUE,
    )!;
    tables.remove(id);
    return id;
  });
  const { pin } = selection.candidates[0]!.pinned;
  const known = (): number => ids.filter((id) => tables.choiceOf(id, pin)).length;
  const calls = Math.ceil(REMOVED / MOST_ASKED);
  for (let call = 0; call < calls; call++) {
    const before = asked.length;
    tables.expire();
    t.ok(asked.length - before <= MOST_ASKED);
  }
  t.same(new Set(asked), new Set(ids));
  t.equal(known(), REMOVED);
  connections = 0;
  for (let call = 0; call <= calls; call++) tables.expire();
  t.equal(known(), 0);
});
