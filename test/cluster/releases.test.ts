/** Endpoints whose containers are gone are deleted from the store, each as soon as that is possible. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { EndpointIndex } from '../../src/cluster/endpoint-index.ts';
import { RefusedRecords } from '../../src/cluster/refused-records.ts';
import { Releases } from '../../src/cluster/releases.ts';
import { WEFT_V1 } from '../../src/model/kinds/kind.ts';
import { endpointKind, type EndpointResource } from '../../src/model/kinds/endpoint.ts';
import { parseResource } from '../../src/model/manifest.ts';
import { openEmbeddedStore } from '../../src/store/embedded.ts';

const NAMES = ['api', 'db', 'web'] as const;

await t.test('one that was changed meanwhile does not hold back the others', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), `weft-releases-${process.pid}-`));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const store = await openEmbeddedStore({ directory, onWarning: () => {}, after: () => () => {} });
  t.teardown(() => store.close());
  const index = new EndpointIndex();
  const warnings: object[] = [];
  const refused = new RefusedRecords();
  const hosts = { isThere: (name: string) => name === 'b' };
  const releases = new Releases({
    ...{ store, index, refused: () => refused, hostName: 'a', hosts },
    warn: (_, details) => warnings.push(details),
  });
  const left = async (): Promise<string[]> => (await store.list('endpoints/')).entries.map(({ key }) => key);
  const know = (name: string, revision: number): void => {
    const spec = { network: 'blue', netns: name };
    const resource = parseResource({ apiVersion: WEFT_V1, kind: 'Endpoint', metadata: { name }, spec });
    index.set({
      name,
      resource: resource as EndpointResource,
      revision,
      addresses: [],
      mac: '02:00:00:00:00:01',
      state: 'detached',
    });
  };
  const put = NAMES.map((name) => ({ key: `endpoints/default/${name}`, value: { name } }));
  const revision = await store.transact({ put });
  for (const name of NAMES) {
    know(name, name === 'db' ? revision - 1 : revision);
    releases.add(name);
  }
  for (let times = 0; times < 2; times++) {
    await releases.run();
    t.same(await left(), ['endpoints/default/db']);
    t.match(warnings, [{ error: /"endpoints\/default\/db" has revision/ }], 'told once');
  }
  know('db', revision);
  await releases.run();
  t.same(await left(), []);

  // What this host does not accept is released as well: it has what was there before.
  const [change] = put.map(({ key, value }) => ({ key, entry: { key, value, revision: 0 } }));
  const later = await store.transact({ put: put.slice(0, 1) });
  know('api', revision);
  refused.add({ kind: endpointKind, name: 'api', revision: later, why: '', isClash: false, change: change! });
  releases.add('api');
  await releases.run();
  t.same(await left(), []);

  // But not if that says that another host has it.
  const [moved] = put.map(({ key }) => ({ key, value: { name: 'api', host: 'b' } }));
  const movedAt = await store.transact({ put: [moved!] });
  const news = { key: moved!.key, entry: { ...moved!, revision: movedAt } };
  know('api', revision);
  refused.add({ kind: endpointKind, name: 'api', revision: movedAt, why: '', isClash: false, change: news });
  releases.add('api');
  await releases.run();
  t.same(await left(), [moved!.key]);

  // Unless there is no such host.
  const nowhere = { ...news.entry, value: { name: 'api', host: 'zzz' } };
  const garbage = { key: moved!.key, entry: nowhere };
  refused.add({ kind: endpointKind, name: 'api', revision: movedAt, why: '', isClash: false, change: garbage });
  releases.add('api');
  await releases.run();
  t.same(await left(), []);
});
