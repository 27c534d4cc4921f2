/** What a host has stored about its interfaces is newer than what the watch still reports. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { LocalRecord } from '../../src/cluster/endpoint.ts';
import { LocalRecords } from '../../src/cluster/local-records.ts';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import type { WatchEvent } from '../../src/store/store.ts';
import { until } from '../support/process.ts';

t.test('the watch is behind', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), `weft-records-${process.pid}-`));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const store = await openEmbeddedStore({ directory, onWarning: (message) => t.fail(message), after: () => () => {} });
  t.teardown(() => store.close());
  const events: Extract<WatchEvent, { kind: 'changes' }>[] = [];
  store.watch('', 1, (event) => {
    if (event.kind === 'changes') events.push(event);
  });
  const records = new LocalRecords(store);
  const numbered = (portNo: number): LocalRecord => ({
    portNo,
    netns: { path: '/n', dev: '1', ino: '2' },
    bootId: 'b',
  });
  const save = (portNo: number | undefined): Promise<void> =>
    records.save(new Map([['web', portNo === undefined ? undefined : numbered(portNo)]]));
  const last = numbered(5);

  // Each is stored, because each time the revision is the right one.
  await save(3);
  await save(undefined);
  await save(4);
  await save(5);
  await until(() => events.length === 4, { what: 'the watch' });
  for (const { changes, revision } of events.splice(0)) {
    t.same(records.see(changes, revision), []);
    t.same(records.find('web'), last);
  }

  await save(undefined);
  await until(() => events.length === 1, { what: 'the watch' });
  const [{ changes, revision }] = events.splice(0) as [(typeof events)[0]];
  t.same(records.see([{ key: 'attachments/default/web', entry: await entryOf(5) }], revision - 1), []);
  t.equal(records.find('web'), undefined, 'what it has removed does not come back');
  t.same(records.see(changes, revision), []);
  t.same(records.see([{ key: 'attachments/default/web', entry: await entryOf(6) }], revision + 1), ['web']);

  records.keep(new Set(['attachments/default/web']), revision + 9);
  t.equal(records.find('web')?.portNo, 6);
  records.keep(new Set(), revision);
  t.equal(records.find('web')?.portNo, 6, 'newer than the list');
  records.keep(new Set(), revision + 1);
  t.equal(records.find('web'), undefined);

  async function entryOf(portNo: number) {
    const at = portNo === 5 ? revision - 1 : revision + 1;
    return { key: 'attachments/default/web', value: numbered(portNo), revision: at };
  }
});
