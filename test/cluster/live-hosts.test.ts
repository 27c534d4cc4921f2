/** What is remembered of hosts and networks that are gone does not grow with how many there were. */
import t from 'tap';
import { Holdings } from '../../src/cluster/addresses/holdings.ts';
import { LiveHosts } from '../../src/cluster/membership/live-hosts.ts';
import type { LiveRecord } from '../../src/model/records.ts';

t.test('since when hosts are gone is known of the last ones', async (t) => {
  let nowMs = 0;
  const live = new LiveHosts({ host: 'here', wallClock: () => ++nowMs });
  const record: LiveRecord = {
    ...{ host: 'there', id: '00'.repeat(16), version: '1', capabilities: [], startedAt: '', clock: 0 },
    process: { bootId: '', pidNamespace: '', pid: 1, startTicks: '', stateDirectory: '' },
  };
  const count = 5000;
  for (let n = 0; n < count; n++) {
    const key = `live/h${n}`;
    live.see([{ key, entry: { key, value: record, revision: 2 * n + 1 } }]);
    live.see([{ key, entry: undefined }]);
  }
  const known = Array.from({ length: count }, (_, n) => live.goneSinceMs(`h${n}`) !== undefined);
  t.equal(known.indexOf(true), count - 4096);
  t.equal(known.lastIndexOf(false), count - 4097);
});

t.test('of networks without blocks, nothing is kept', async (t) => {
  const holdings = new Holdings('here');
  const nothing = holdings.known('none', 0n);
  const first = 0x0a00_0000n;
  const holding = holdings.find('blue', first);
  t.equal(holdings.known('blue', first).get(first), holding);
  t.equal(holdings.find('blue', first), holding);
  t.same([...holdings.all()], [holding]);
  holdings.delete(holding);
  t.equal(holdings.known('blue', first), nothing);
});
