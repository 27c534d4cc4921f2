/** 30,000 services with 3 backends each: what they take, also when clients have asked for them. */
import t from 'tap';
import { SCOPES_BYTES } from '../../src/table/scopes.ts';
import { bytesInUse } from '../support/heap.ts';
import { manyServices, tupleTo } from '../support/many-services.ts';
import { chosenFor, serviceTable } from '../support/services.ts';

const SERVICES = 30_000;
const MIB = 1024 * 1024;

t.test('all of them fit into 256 MiB, with what is made for clients, which has a limit of its own', async (t) => {
  const before = bytesInUse();
  const { services, changes } = serviceTable();
  for (const service of manyServices(SERVICES)) {
    services.set(service, 0);
    changes.drain();
  }
  const loaded = bytesInUse() - before;
  t.comment(`${(loaded / MIB).toFixed(0)} MiB loaded`);
  t.ok(loaded < 100 * MIB);
  for (let n = 0; n < SERVICES; n++) chosenFor(services, tupleTo(n, 0));
  const used = bytesInUse() - before;
  t.comment(`${(used / MIB).toFixed(0)} MiB in use, ${(services.scopesBytes / MIB).toFixed(0)} MiB of these counted`);
  t.ok(used < 256 * MIB);
  t.ok(services.scopesBytes <= SCOPES_BYTES);
  t.ok(used - loaded < 2.5 * services.scopesBytes, 'they are counted about as large as they are');
});
