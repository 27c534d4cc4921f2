/** The hosts that run: what is told of their clocks, and what is remembered of hosts and networks that are gone. */
import t from 'tap';
import { Holdings } from '../../src/cluster/addresses/holdings.ts';
import { LiveHosts } from '../../src/cluster/membership/live-hosts.ts';
import type { LiveRecord } from '../../src/model/records.ts';

const RECORD: LiveRecord = {
  ...{ host: 'there', id: '00'.repeat(16), version: '1', capabilities: [], startedAt: '', clock: 0 },
  process: { bootId: '', pidNamespace: '', pid: 1, startTicks: '', stateDirectory: '' },
};

t.test('since when hosts are gone is known of the last ones', async (t) => {
  let nowMs = 0;
  const live = new LiveHosts({ host: 'here', wallClock: () => ++nowMs, onOwnGone: () => {} });
  const count = 5000;
  for (let n = 0; n < count; n++) {
    const key = `live/h${n}`;
    live.see([{ key, entry: { key, value: RECORD, revision: 2 * n + 1, lease: 'l' } }]);
    live.see([{ key, entry: undefined }]);
  }
  const known = Array.from({ length: count }, (_, n) => live.goneSinceMs(`h${n}`) !== undefined);
  t.equal(known.indexOf(true), count - 4096);
  t.equal(known.lastIndexOf(false), count - 4097);
});

t.test('a clock that is off is told, whenever its host wrote that, and one that is right never is', async (t) => {
  const nowMs = Date.UTC(2026, 0, 1);
  const told = (aheadMs: number, ageMs: number): string[] => {
    const live = new LiveHosts({ host: 'here', wallClock: () => nowMs, onOwnGone: () => {} });
    const value = { ...RECORD, clock: nowMs + aheadMs - ageMs };
    live.see([{ key: 'live/there', entry: { key: 'live/there', value, revision: 1, lease: 'l' } }]);
    live.listed(new Set(['live/there']));
    return live.differences(undefined).map(({ detail }) => detail);
  };
  for (const ageMs of [0, 30_000, 65_000]) {
    t.same(told(0, ageMs), []);
    t.match(told(3_600_000, ageMs), [/^the clock of host "there" is (?:59|60) min ahead of the one here$/]);
    t.match(told(-3_600_000, ageMs), [/^the clock of host "there" is (?:60|61) min behind the one here$/]);
  }
});

t.test('a record without a lease, as a dump has it, says nothing of a host', async (t) => {
  let isGone = 0;
  const live = new LiveHosts({ host: 'here', wallClock: () => 0, onOwnGone: () => void isGone++ });
  const see = (name: string, lease?: string): void => {
    const key = `live/${name}`;
    live.see([{ key, entry: { key, value: RECORD, revision: 1, ...(lease !== undefined && { lease }) } }]);
  };
  see('there');
  t.equal(live.find('there'), undefined);
  t.same(live.expectation('there'), { key: 'live/there', revision: 1 }, 'it is there, and can be deleted');
  see('there', '1');
  t.ok(live.find('there'));
  see('there');
  t.equal(live.find('there'), undefined, 'also not if it comes instead of the right one');
  see('here', '2');
  t.equal(isGone, 0);
  see('here');
  t.equal(isGone, 1, 'this host writes its own again');
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
