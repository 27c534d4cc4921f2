/** Addresses that are held for endpoints to come, without namespaces: what is attached here cannot have an interface. */
import t, { type Test } from 'tap';
import { attach, type AttachRequest } from '../../src/cluster/attaching.ts';
import type { Endpoints } from '../../src/cluster/endpoints.ts';
import { WeftError } from '../../src/error.ts';
import { endpointKind } from '../../src/model/kinds/endpoint.ts';
import { manifest, openControlPlane, openStore } from './control-plane.ts';

/** A file that is no network namespace, so that no interface can be created. */
const netns = '/proc/self/ns/uts';

async function open(t: Test, options: Parameters<typeof openControlPlane>[2] = {}, directory?: string) {
  const plane = await openControlPlane(t, directory, options);
  const after = (_: number, work: () => void): (() => void) => (setImmediate(work), () => {});
  const environment = { ...plane, after };
  const ask = (request: Omit<AttachRequest, 'network'>) => attach(environment, { network: 'blue', ...request });
  return { ...plane, ask, allocate: async () => (await ask({ hold: true })).addresses };
}

/** The name of what holds one. */
const HELD = /^held-[12]-[-a-z]+$/;

const blue = manifest('Network', 'blue', { subnets: ['10.0.0.0/24', 'fd00::/64'] });

const holderOf = (endpoints: Endpoints, ip: string): string | undefined =>
  endpoints.all().find(({ addresses }) => addresses.includes(ip))?.name;

t.test('each is another one, of the first subnet, and nobody else gets it', async (t) => {
  const { cluster, endpoints, allocate, ask } = await open(t);
  await cluster.apply([blue, manifest('Namespace', 'shop', {})]);
  t.same([await allocate(), await allocate()], [['10.0.0.2'], ['10.0.0.3']]);
  t.match(
    endpoints.all().map((one) => endpoints.report(one)),
    [
      { name: HELD, held: true, state: 'detached' },
      { name: HELD, held: true },
    ],
  );
  t.same(await endpoints.inspect(), {}, 'nothing is wrong with them');
  await t.rejects(
    cluster.apply([manifest('Endpoint', 'web', { network: 'blue', netns, addresses: ['10.0.0.2'] })]),
    new WeftError('conflict', `endpoint "web": ip 10.0.0.2 is taken by endpoint "${holderOf(endpoints, '10.0.0.2')}"`),
  );
  t.same((await ask({ hold: true, name: 'mine', namespace: 'shop', ip: ['10.0.0.9', 'fd00::9'] })).addresses, [
    '10.0.0.9',
    'fd00::9',
  ]);
  await t.rejects(
    ask({ hold: true, name: 'mine', namespace: 'shop' }),
    new WeftError('conflict', 'endpoint "shop/mine" exists already: hold an address with another name'),
  );
});

t.test('it is held again if the endpoint for which it was cannot be attached', async (t) => {
  const { cluster, endpoints, allocate, ask } = await open(t);
  await cluster.apply([blue]);
  const [ip] = await allocate();
  await t.rejects(ask({ name: 'web', netns, ip: [ip!] }), { code: 'system' });
  t.equal(endpoints.find('web'), undefined);
  const name = holderOf(endpoints, ip!);
  t.match(name, HELD);
  await cluster.delete(endpointKind, { name: name! });
  t.same(await allocate(), [ip], 'and one that is released can be held again');
});

t.test('if it cannot be held again, the error says so', async (t) => {
  const { cluster, allocate, ask } = await open(t);
  await cluster.apply([blue]);
  const [ip] = await allocate();
  const apply = cluster.applyOrTakeBack.bind(cluster);
  cluster.applyOrTakeBack = async (resource, ...more) => {
    if (resource.metadata.annotations?.['weft.dev/held'] !== undefined) throw new WeftError('system', 'disk full');
    await apply(resource, ...more);
  };
  await t.rejects(ask({ name: 'web', netns, ip: [ip!] }), {
    code: 'system',
    message: new RegExp(`; ${ip}: held no more, since disk full$`),
  });
});

t.test('an endpoint does not become one that holds an address, nor the other way', async (t) => {
  const { cluster, allocate, endpoints } = await open(t);
  await cluster.apply([blue]);
  const [ip] = await allocate();
  const name = holderOf(endpoints, ip!)!;
  const spec = { network: 'blue', netns: '/run/netns/none' };
  await t.rejects(
    cluster.apply([manifest('Endpoint', name, spec)]),
    new WeftError(
      'conflict',
      `endpoint "${name}" exists with annotation weft.dev/held set, not missing: detach it first`,
    ),
  );
});

t.test('it is held after a restart', async (t) => {
  const first = await open(t);
  await first.cluster.apply([blue]);
  await first.allocate();
  await first.close();
  const { endpoints, allocate } = await open(t, {}, first.directory);
  t.match(holderOf(endpoints, '10.0.0.2'), HELD);
  t.same(await allocate(), ['10.0.0.3']);
});

t.test('in a shared store it need not rest, since nobody has used it', async (t) => {
  const { cluster, networks, endpoints, allocate } = await open(t, { shared: await openStore(t) });
  await cluster.apply([blue]);
  const [ip] = await allocate();
  await cluster.delete(endpointKind, { name: holderOf(endpoints, ip!)! });
  t.equal(endpoints.size, 0);
  const [pool] = networks.get('blue').pools;
  t.doesNotThrow(() => pool!.check('web', ip!));
});

t.test('what it cannot have is refused by name', async (t) => {
  const { cluster, ask } = await open(t);
  await cluster.apply([blue]);
  await t.rejects(
    ask({ hold: true, netns: 'web' }),
    new WeftError(
      'invalid',
      'netns: what only holds an address has a name, a namespace, a network and ip, and nothing else',
    ),
  );
  await t.rejects(
    ask({ pid: 1 }),
    new WeftError(
      'invalid',
      'name is missing: only the name of a network namespace (netns) says how an endpoint is called',
    ),
  );
  await t.rejects(ask({ netns: '/run/netns/none' }), { code: 'not_found', message: /netns/ });
});
