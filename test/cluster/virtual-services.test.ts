/** VirtualServices: what they make of a service, what has to be there first, and what is not deleted while they lead to it. */
import t, { type Test } from 'tap';
import { findKind } from '../../src/model/kinds/registry.ts';
import { parseResource } from '../../src/model/manifest.ts';
import { manifest, openControlPlane, openStore } from './control-plane.ts';

const kind = (text: string) => findKind(text)!;
const istio = (of: string, name: string, spec: object, namespace = 'default') =>
  parseResource({ apiVersion: 'networking.istio.io/v1', kind: of, metadata: { name, namespace }, spec });
const subsets = (...names: string[]) =>
  istio('DestinationRule', 'reviews', {
    host: 'reviews',
    subsets: names.map((name) => ({ name, labels: { version: name } })),
  });
const routes = (tcp: object[], hosts = ['reviews']) => istio('VirtualService', 'reviews', { hosts, tcp });
const to = (subset?: string, weight?: number, more: object = {}) => ({
  destination: { host: 'reviews', ...(subset !== undefined && { subset }), ...more },
  ...(weight !== undefined && { weight }),
});
const service = (name: string, port = 9080) => manifest('Service', name, { ports: [{ port }] });

async function lab(t: Test) {
  const plane = await openControlPlane(t, undefined, { host: 'left', shared: await openStore(t) });
  const find = (id = 'default/reviews') => plane.forwarding.tables.services.get(id)!;
  return { ...plane, ...plane.serving, find };
}

t.test('routes are in force, change, and end; all of it may be in one file, in any order', async (t) => {
  const { cluster, find } = await lab(t);
  const reports = await cluster.apply([
    routes([
      { match: [{ sourceLabels: { b: '2', a: '1' }, port: 9080 }], route: [to('v1')] },
      { route: [to('v1', 90), to('v3', 10), to('v2')] },
    ]),
    subsets('v1', 'v2', 'v3'),
    service('reviews'),
  ]);
  t.same(
    reports.map(({ action, waiting }) => [action, waiting]),
    Array(3).fill(['created', undefined]),
  );
  const way = (subset: string, weight: number) => ({ service: 'default/reviews', subset, l4Port: undefined, weight });
  t.same(
    find().routing,
    {
      rule: 'default/reviews',
      routes: [
        {
          matches: [
            {
              l4Port: 9080,
              namespace: undefined,
              labels: [
                ['a', '1'],
                ['b', '2'],
              ],
            },
          ],
          destinations: [way('v1', 1)],
        },
        { matches: [], destinations: [way('v1', 90), way('v3', 10)] },
      ],
    },
    'what gets nothing is left out',
  );
  await cluster.apply([routes([{ route: [to('v2')] }])]);
  t.same(find().routing?.routes, [{ matches: [], destinations: [way('v2', 1)] }]);
  await cluster.delete(kind('vs'), { name: 'reviews' });
  t.equal(find().routing, undefined);
});

t.test('what it leads to has to be there, and is named if it is not', async (t) => {
  const { cluster, virtualServices } = await lab(t);
  await cluster.apply([service('reviews'), service('other', 80), subsets('v1')]);
  const refuses = (tcp: object[], message: string) =>
    t.rejects(cluster.apply([routes(tcp)]), { message: message.replace('VS', 'virtualservice "reviews"') }, message);
  await refuses(
    [{ route: [to('v1', 1), to('v9', 1)] }],
    'VS: spec.tcp[0].route[1].destination.subset: "v9" is no subset of service "reviews": a DestinationRule for it has to name that first',
  );
  await refuses(
    [{ route: [{ destination: { host: 'other', subset: 'v1' } }] }],
    'VS: spec.tcp[0].route[0].destination.subset: "v1" is no subset of service "other": a DestinationRule for it has to name that first',
  );
  await refuses(
    [{ route: [to('v1', 1, { port: { number: 80 } })] }],
    'VS: spec.tcp[0].route[0].destination.port: 80 is no TCP port of service "reviews"',
  );
  await refuses(
    [{ match: [{ port: 81 }], route: [to('v1')] }],
    'VS: spec.tcp[0].match[0].port: 81 is no TCP port of service "reviews"',
  );
  await cluster.apply([
    manifest('Service', 'alias', { type: 'ExternalName', externalName: 'a.example' }),
    manifest('Service', 'headless', { clusterIP: 'None', ports: [{ port: 80 }] }),
  ]);
  await refuses(
    [{ route: [{ destination: { host: 'alias' } }] }],
    'VS: spec.tcp[0].route[0].destination.host: service "alias" is another name (type ExternalName), and has no backends',
  );
  for (const name of ['alias', 'headless'])
    await t.rejects(cluster.apply([routes([{ route: [to()] }], ['reviews', name])]), {
      code: 'invalid',
      message: `virtualservice "reviews": spec.hosts[1]: service "${name}" has no address, so clients choose where they connect to, and a route has no effect`,
    });
  await t.rejects(cluster.apply([routes([{ route: [to()] }], ['none'])]), { code: 'not_found' });
  await t.rejects(cluster.apply([routes([{ route: [{ destination: { host: 'none' } }] }])]), { code: 'not_found' });
  t.equal(virtualServices.find('reviews'), undefined, 'nothing of it is stored');
});

t.test('what a rule leads to is not deleted before it; what goes all the same is told', async (t) => {
  const { cluster, find, write, virtualServices } = await lab(t);
  await cluster.apply([service('reviews'), service('other'), subsets('v1')]);
  await cluster.apply([routes([{ route: [to('v1', 1), { destination: { host: 'other' }, weight: 1 }] }])]);
  for (const name of ['reviews', 'other']) {
    await t.rejects(cluster.delete(kind('svc'), { name }), {
      code: 'conflict',
      message: `service "${name}": virtualservices (reviews) name it: delete them first`,
    });
  }
  await t.rejects(cluster.delete(kind('dr'), { name: 'reviews' }), {
    code: 'conflict',
    message: 'destinationrule "reviews": virtualservices (reviews) lead to its subsets: delete them first',
  });
  t.equal(virtualServices.failure('reviews'), undefined);
  // Another program asks nobody.
  await write({ 'destinationrules/default/reviews': undefined });
  const why =
    'spec.tcp[0].route[0].destination.subset: "v1" is no subset of service "reviews": a DestinationRule for it has to name that first';
  t.equal(virtualServices.failure('reviews')?.message, why);
  t.same(find().subsets, []);
  await cluster.delete(kind('vs'), { name: 'reviews' });
  for (const name of ['reviews', 'other']) await cluster.delete(kind('svc'), { name });
});

t.test('a subset that a route leads to stays, unless the same change leads elsewhere', async (t) => {
  const { cluster, find } = await lab(t);
  const leads = (...names: string[]) => routes([{ route: names.map((name) => to(name, 1)) }]);
  const names = (): string[] => find().subsets.map(({ name }) => name);
  const message =
    'destinationrule "reviews": spec.subsets: without "v3": virtualservices (reviews) lead there: change them in the same apply, or before';
  await cluster.apply([service('reviews'), service('other'), subsets('v1', 'v2', 'v3'), leads('v1', 'v3')]);
  for (const dryRun of [true, false])
    await t.rejects(cluster.apply([subsets('v1', 'v2')], { dryRun }), { code: 'conflict', message });
  const elsewhere = istio('DestinationRule', 'reviews', {
    host: 'other',
    subsets: [{ name: 'v3', labels: { a: 'b' } }],
  });
  await t.rejects(cluster.apply([elsewhere]), { message: message.replace('v3', 'v1') }, 'a rule for another service');
  t.same(names(), ['v1', 'v2', 'v3']);
  await cluster.apply([subsets('v1', 'v3')]);
  t.same(names(), ['v1', 'v3'], 'one that nobody leads to may go');
  await cluster.apply([subsets('v1'), leads('v1')]);
  t.same(names(), ['v1'], 'both at once');
  await t.rejects(cluster.apply([subsets('v2'), leads('v1')]), { code: 'invalid' }, 'a file that does not go together');
});

t.test('one rule for a service; a rule may be for several', async (t) => {
  const { cluster, find } = await lab(t);
  await cluster.apply([service('reviews'), service('other')]);
  await cluster.apply([routes([{ route: [to()] }], ['reviews', 'other'])]);
  t.equal(find('default/other').routing?.rule, 'default/reviews');
  const second = istio('VirtualService', 'second', { hosts: ['other'], tcp: [{ route: [to()] }] });
  await t.rejects(cluster.apply([second]), {
    message:
      'virtualservice "second": service "other" has virtualservice "reviews" already: change that one, or delete it first',
  });
});

t.test('labels of this host’s endpoints tell clients apart', async (t) => {
  const { cluster, write, forwarding } = await lab(t);
  await cluster.apply([service('reviews'), manifest('Network', 'blue', { subnets: ['10.0.0.0/24'] })]);
  const endpoint = (name: string, host: string, labels: object) => ({
    [`endpoints/default/${name}`]: {
      resource: manifest('Endpoint', name, { network: 'blue', netns: `/run/${name}` }, { labels }),
      addresses: [`10.0.0.${name.length}`],
      mac: `02:00:00:00:00:0${name.length}`,
      host,
    },
  });
  const notes: string[] = [];
  const { services } = forwarding.tables;
  const original = services.setClient.bind(services);
  services.setClient = (name, client) => {
    notes.push(`${name} ${client === undefined ? '-' : JSON.stringify(client.labels)}`);
    original(name, client);
  };
  await write({ ...endpoint('tester', 'left', { app: 'tester' }), ...endpoint('far', 'right', { app: 'tester' }) });
  t.same(notes, ['tester {"app":"tester"}'], 'those of other hosts are their affair');
  await cluster.label(kind('ep'), { name: 'tester' }, { app: 'other' });
  t.equal(notes.at(-1), 'tester {"app":"other"}');
});
