/** Staging on a store that fails, as far as `conformance.ts` does not cover it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { WeftError } from '../../src/error.ts';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import { unlimited } from '../../src/store/staged.ts';
import type { WatchEvent } from '../../src/store/store.ts';
import { until } from '../support/process.ts';
import { Hooked } from '../support/switch.ts';

t.test('a watch whose store cannot be read ends, as one that has lost its place', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), `weft-staged-${process.pid}-`));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const embedded = await openEmbeddedStore({
    directory,
    onWarning: (message) => t.fail(message),
    after: () => () => {},
    operationLimit: 8,
  });
  t.teardown(() => embedded.close());
  const hooked = new Hooked(embedded, 8);
  const store = unlimited(hooked);
  hooked.beforeList = () => Promise.reject(new WeftError('unreachable', 'the store is away'));
  const events: WatchEvent[] = [];
  store.watch('', 1, (event) => events.push(event));
  await until(() => events.length > 0, { what: 'the end of the watch' });
  t.same(events, [{ kind: 'compacted' }]);
});
