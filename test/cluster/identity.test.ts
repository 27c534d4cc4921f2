/** The identity of a host is created once and kept with its state. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { hostIdentity, IDENTITY_BYTES } from '../../src/cluster/membership/identity.ts';
import { openEmbeddedStore } from '../../src/store/embedded.ts';

t.test('a state directory has one identity, two have two', async (t) => {
  const parent = mkdtempSync(join(tmpdir(), 'weft-identity-'));
  t.teardown(() => rmSync(parent, { recursive: true, force: true }));
  const identityOf = async (name: string): Promise<string> => {
    const store = await openEmbeddedStore({
      directory: join(parent, name),
      onWarning: (message) => t.fail(message),
      after: () => () => {},
    });
    const identity = await hostIdentity(store, () => randomBytes(IDENTITY_BYTES));
    await store.close();
    t.equal(identity.length, IDENTITY_BYTES);
    return Buffer.from(identity).toString('hex');
  };
  const first = await identityOf('a');
  t.equal(await identityOf('a'), first, 'the same after a restart');
  t.not(await identityOf('b'), first);
});
