/**
 * A journal of format 1 as `weft up` wrote it (fixtures/format-1): two networks, a host, an endpoint of that host, two
 * of this host with their leases, and one that was detached.
 */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import { decode } from '../../src/store/journal.ts';
import type { Store } from '../../src/store/store.ts';

const fixture = fileURLToPath(new URL('fixtures/format-1/journal', import.meta.url));

t.test('it opens with everything, and is written anew in the format of today', async (t) => {
  const parent = mkdtempSync(join(tmpdir(), `weft-old-${process.pid}-`));
  t.teardown(() => rmSync(parent, { recursive: true, force: true }));
  const directory = join(parent, 'state');
  mkdirSync(directory);
  copyFileSync(fixture, join(directory, 'journal'));
  const open = (): Promise<Store> =>
    openEmbeddedStore({ directory, onWarning: (message) => t.fail(message), after: () => () => {} });

  t.match(decode(readFileSync(fixture)), { kind: 'sound', format: 1 });
  const store = await open();
  const listed = await store.list('');
  const { revision, entries } = listed;
  t.equal(revision, 12);
  t.same(
    entries.map(({ key }) => key),
    ['endpoints/api', 'endpoints/db', 'endpoints/web', 'hosts/beta', 'identity', 'networks/blue', 'networks/green'],
  );
  await store.close();
  t.match(decode(readFileSync(join(directory, 'journal'))), { kind: 'sound', format: 2 });
  const again = await open();
  t.same(await again.list(''), listed);
  await again.close();
});
