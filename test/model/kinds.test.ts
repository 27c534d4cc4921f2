/** A kind needs only its own file and one line in the registry; everything else follows from its definition. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import t from 'tap';
import { parseKind } from '../../src/api/requests.ts';
import { loadKinds, parseTarget, withKinds } from '../../src/cli/kind.ts';
import { resourceTable } from '../../src/cli/resource-table.ts';
import { Cluster } from '../../src/cluster/cluster.ts';
import { LocalFeed } from '../../src/cluster/feed/local-feed.ts';
import { Declarations, Namespaces } from '../../src/cluster/declarations.ts';
import type { Reconciler } from '../../src/cluster/reconciler.ts';
import { jsonSchemas } from '../../src/model/json-schema.ts';
import { findKind, kinds } from '../../src/model/kinds/registry.ts';
import { idOf, nameOf } from '../../src/model/name.ts';
import { parseManifests } from '../../src/model/manifest.ts';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import { gadgetKind } from './gadget.ts';

// The line in the registry.
kinds.push(gadgetKind);

const text = `apiVersion: weft.dev/v1
kind: Gadget
metadata: { name: g, namespace: shop, labels: { app: x } }
spec: { network: blue }
---
apiVersion: weft.dev/v1
kind: Network
metadata: { name: blue }
spec: { subnets: [10.0.0.0/24] }
---
apiVersion: v1
kind: Namespace
metadata: { name: shop }
`;

t.test('kinds are known by name, plural and short name, in any case', async (t) => {
  for (const [word, kind] of [
    ['Network', 'Network'],
    ['networks', 'Network'],
    ['NET', 'Network'],
    ['ep', 'Endpoint'],
    ['Endpoints', 'Endpoint'],
    ['ns', 'Namespace'],
    ['host', 'Host'],
    ['gg', 'Gadget'],
    ['pod', undefined],
  ] as const) {
    t.equal(findKind(word)?.kind, kind, word);
  }
  const words = kinds.flatMap(({ kind, plural, shortNames }) => [kind.toLowerCase(), plural, ...shortNames]);
  t.equal(new Set(words).size, words.length, 'no two kinds have a name in common');
});

t.test('names', async (t) => {
  for (const id of ['web', 'shop/web']) t.equal(idOf(nameOf(id)), id);
  t.equal(idOf(nameOf('default/web')), 'web');
  t.equal(idOf(nameOf('a/default/web')), 'a/default/web', 'what is no name is not the end of it');
});

t.test('a made-up kind: manifests, API, command line, help, schemas', async (t) => {
  t.match(parseManifests(text, 'x.yaml')[0], { kind: 'Gadget', spec: { network: 'blue', size: 1 } });
  t.throws(() => parseManifests(text.replace('network: blue', 'size: 1.5'), 'x.yaml'), {
    message: /^x\.yaml:4:\d+: spec\.network is missing/,
  });
  t.equal(parseKind('gadgets'), gadgetKind);
  t.throws(() => parseKind('gadgte'), { code: 'invalid', message: /did you mean "Gadget"\?/ });
  t.ok('Gadget' in jsonSchemas().resources);

  await loadKinds();
  const command = withKinds(new Command('get'));
  t.match(await parseTarget('gg/g', undefined, {}, command), { kind: { kind: 'Gadget' }, name: 'g' });
  let help = '';
  command.configureOutput({ writeOut: (part) => (help += part) }).outputHelp();
  t.match(help, 'gadgets, gg');
  t.equal(
    await resourceTable(gadgetKind, parseManifests(text, 'x.yaml').slice(0, 1)),
    'NAME   NAMESPACE   NETWORK   SIZE   LABELS\ng      shop        blue      1      app=x\n',
  );
});

t.test('it is stored, refers, is referred to, labelled and deleted', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), `weft-kinds-${process.pid}-`));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const store = await openEmbeddedStore({ directory, onWarning: (message) => t.fail(message), after: () => () => {} });
  const reconcilers = new Map<string, Reconciler>(
    kinds.map(({ kind }) => [kind, kind === 'Namespace' ? new Namespaces() : new Declarations(kind)]),
  );
  const nothing = async (): Promise<void> => {};
  const cluster = new Cluster({
    hostName: 'here',
    feed: new LocalFeed(store),
    reconcilers,
    ...{ registers: [], onEnforced: nothing, check: nothing, prepare: nothing, onApplied: nothing },
    after: () => () => {},
    wallClock: () => 0,
    logger: { info: () => {}, warn: (_, message) => t.fail(message), error: (_, message) => t.fail(message) },
  });
  await cluster.serial.run(() => cluster.start());
  const [gadget, network, namespace] = parseManifests(text, 'x.yaml');
  await t.rejects(cluster.apply([gadget!]), { code: 'not_found', message: /^namespace "shop" does not exist/ });
  await t.rejects(cluster.apply([gadget!, namespace!]), {
    code: 'not_found',
    message: /^network "blue" does not exist/,
  });
  t.match(await cluster.apply([gadget!, network!, namespace!]), [
    { kind: 'Namespace', action: 'created' },
    { kind: 'Network', action: 'created' },
    { kind: 'Gadget', name: 'g', namespace: 'shop', action: 'created' },
  ]);
  t.match(await cluster.apply([gadget!]), [{ action: 'unchanged' }]);

  const partnerOf = (name: string, partner: string) => {
    const spec = `{ network: blue, partner: ${partner} }`;
    return parseManifests(`apiVersion: weft.dev/v1\nkind: Gadget\nmetadata: ${name}\nspec: ${spec}`, 'x.yaml');
  };
  await t.rejects(
    cluster.apply(partnerOf('{ name: g }', '{ name: g, namespace: elsewhere }')),
    { code: 'not_found', message: /^gadget "elsewhere\/g" does not exist/ },
    'in the namespace that it names',
  );
  await t.rejects(
    cluster.apply(partnerOf('{ name: h, namespace: shop }', '{ name: h2 }')),
    { code: 'not_found', message: /^gadget "shop\/h2" does not exist/ },
    'or in its own',
  );
  await cluster.apply(partnerOf('{ name: g }', '{ name: g, namespace: shop }'));
  await t.rejects(cluster.delete(gadgetKind, { name: 'g', namespace: 'shop' }), {
    code: 'conflict',
    message: 'gadget "shop/g" has gadgets (g): delete them first',
  });
  t.match(await cluster.delete(gadgetKind, { name: 'g' }), { action: 'deleted' }, 'nobody refers to that one');
  const which = { name: 'g', namespace: 'shop' };
  t.same(cluster.get(gadgetKind, which), [gadget]);
  await t.rejects(cluster.delete(findKind('Network')!, { name: 'blue' }), {
    code: 'conflict',
    message: 'network "blue" has gadgets (shop/g): delete them first',
  });
  await cluster.label(gadgetKind, which, { app: null, tier: 'a' });
  t.same(cluster.get(gadgetKind, which)[0]?.metadata.labels, { tier: 'a' });
  t.match(await cluster.delete(gadgetKind, which), { kind: 'Gadget', action: 'deleted' });
  await cluster.delete(findKind('Network')!, { name: 'blue' });
  t.same(
    (await store.list('')).entries.map(({ key }) => key),
    ['namespaces/default', 'namespaces/shop'],
  );
  await cluster.serial.close();
  await cluster.close();
  await store.close();
});
