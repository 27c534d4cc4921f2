/**
 *   web, db ── switch ── store ── another writer
 *
 * Everything in the store is in force, whoever wrote it: a command or another writer, in one
 * transaction or staged in many. The switch runs in this process, so that the test can reach the
 * store.
 */
import t from 'tap';
import { WeftError } from '../../src/error.ts';
import type { Resource } from '../../src/model/resource.ts';
import type { Switch } from '../../src/switch.ts';
import { openLab, type Namespace } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { blue, endpoint, kind, manifest, openSwitchOf, stateOf } from '../support/switch.ts';
import { ping } from '../support/traffic.ts';

t.setTimeout(300_000);

const ENFORCED_MS = 100;

await t.test('one way from a resource to the wire', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const { sw, store } = await openSwitchOf(t, lab);
  const [web, db] = [await lab.namespace('web'), await lab.namespace('db')];

  await t.test('a file is one revision', async (t) => {
    const reports = await sw.apply([endpoint('web', web, '10.44.0.11'), blue]);
    t.same(
      reports.map(({ kind, name, action }) => `${kind} ${name} ${action}`),
      ['Network blue created', 'Endpoint web created'],
    );
    const keys = ['networks/blue', 'endpoints/default/web'];
    const revisions = await Promise.all(keys.map(async (key) => (await store.get(key))?.revision));
    t.equal(new Set(revisions).size, 1);
    t.equal(stateOf(sw, 'web'), 'attached');
  });

  await t.test('all of it, or nothing', async (t) => {
    const free = await lab.namespace('free');
    const before = (await store.list('')).entries;
    const red = manifest('Network', 'red', { subnets: ['10.45.0.0/24'] });
    for (const [wrong, message] of [
      [endpoint('x', free, '10.44.0.11'), /ip 10\.44\.0\.11 is taken by endpoint "web"/],
      [manifest('Endpoint', 'x', { network: 'nowhere', netns: free.name }), /network "nowhere" does not exist/],
      [endpoint('x', web, '10.44.0.50'), /interface "eth0" exists/],
      [endpoint('x', db, '10.44.0.50'), /interface "eth0" exists/],
      [manifest('Network', 'other', { subnets: ['10.45.0.128/25'] }), /overlaps 10\.45\.0\.0\/24 of network "red"/],
      [red, /network "red" is declared twice/],
    ] as const) {
      await t.rejects(sw.apply([red, endpoint('ok', db, '10.44.0.60'), wrong]), { message });
      t.same((await store.list('')).entries, before);
      t.equal(sw.networks().length, 1);
      t.same(await db.links(), []);
    }
    t.match(await sw.apply([red, endpoint('ok', db, '10.44.0.60')], { dryRun: true }), [
      { action: 'created', dryRun: true },
      { action: 'created', dryRun: true },
    ]);
    t.same((await store.list('')).entries, before, 'nor anything of a dry run');
    t.equal(sw.networks()[0]!.free['10.44.0.0/24'], 252, 'no address is lost');
  });

  await t.test('what another writes is in force at once', async (t) => {
    const took: number[] = [];
    for (let attempt = 0; attempt < 5; attempt++) {
      const record = {
        resource: endpoint('db', db, '10.44.0.12'),
        addresses: ['10.44.0.12'],
        mac: '02:00:00:00:00:12',
      };
      await store.store.transact({ put: [{ key: 'endpoints/default/db', value: record }] });
      const startedAt = performance.now();
      await until(() => stateOf(sw, 'db') === 'attached', { what: 'db' });
      took.push(performance.now() - startedAt);
      if (attempt === 0) await ping(web, '10.44.0.12');
      await store.store.transact({ delete: ['endpoints/default/db'] });
      await until(() => stateOf(sw, 'db') === undefined, { what: 'db to be gone' });
      t.same(await db.links(), [], 'its interface has gone, too');
    }
    t.ok(Math.min(...took) < ENFORCED_MS, `in force after ${took.map((ms) => ms.toFixed(0)).join(', ')} ms`);
  });

  await t.test('two writers of one resource: one wins, the other is told the revision', async (t) => {
    const key = 'endpoints/default/web';
    const labelled = (app: string): Resource => endpoint('web', web, '10.44.0.11', { labels: { app } });
    const { value, revision } = (await store.get(key))!;
    let now = 0;
    store.beforeTransact = async () => {
      store.beforeTransact = async () => {};
      const theirs = { ...(value as object), resource: labelled('theirs') };
      now = await store.store.transact({ expect: [{ key, revision }], put: [{ key, value: theirs }] });
    };
    const lost = await sw.apply([labelled('ours')]).then(
      () => 'made',
      (error: Error) => error.message,
    );
    t.equal(lost, `"${key}" has revision ${now}, not ${revision}: it was changed meanwhile`);
    await until(() => sw.endpoints()[0]?.labels['app'] === 'theirs', { what: 'theirs to be in force' });
    t.match(await sw.apply([labelled('ours')]), [{ action: 'configured' }], 'knowing it, it can be changed');

    // Somebody deletes the network that is needed.
    const network = manifest('Network', 'brief', { subnets: ['10.47.0.0/24'] });
    await sw.apply([network]);
    store.beforeTransact = async () => {
      store.beforeTransact = async () => {};
      await store.store.transact({ delete: ['networks/brief'] });
    };
    const late = manifest('Endpoint', 'late', { network: 'brief', netns: db.name });
    await t.rejects(sw.apply([late]), { code: 'not_found', message: /network "brief" does not exist/ });
    t.same(await db.links(), []);
  });

  await t.test('what cannot be in force waits, and says why', async (t) => {
    const record = { resource: endpoint('early', { name: `${web.name}-2` } as Namespace, '10.44.0.20') };
    await store.store.transact({
      put: [
        { key: 'endpoints/default/early', value: { ...record, addresses: ['10.44.0.20'], mac: '02:00:00:00:00:20' } },
      ],
    });
    await until(() => stateOf(sw, 'early') === 'waiting', { what: 'it waits' });
    t.match(sw.status().endpointProblems['early'], [/network namespace ".*-2" does not exist/]);
    t.match(sw.endpoints()[0], { name: 'early', problems: [/does not exist/] });
    // Another endpoint is in a network that does not exist yet, and one has an address that is taken.
    const lost = manifest('Endpoint', 'lost', { network: 'later', netns: db.name });
    const twin = endpoint('twin', db, '10.44.0.11');
    await store.store.transact({
      put: [
        {
          key: 'endpoints/default/lost',
          value: { resource: lost, addresses: ['10.48.0.9'], mac: '02:00:00:00:00:21' },
        },
        {
          key: 'endpoints/default/twin',
          value: { resource: twin, addresses: ['10.44.0.11'], mac: '02:00:00:00:00:22' },
        },
        { key: 'endpoints/default/broken', value: { resource: { kind: 'Endpoint' } } },
      ],
    });
    await until(() => stateOf(sw, 'lost') === 'waiting' && stateOf(sw, 'twin') === 'waiting', { what: 'they wait' });
    t.match(sw.status().endpointProblems, {
      lost: [/network "later" does not exist/],
      twin: [/ip 10\.44\.0\.11 is taken by endpoint "web"/],
    });
    t.equal(stateOf(sw, 'broken'), undefined, 'what is no endpoint is left alone');
    t.match(sw.status().refusedRecords, [{ kind: 'Endpoint', name: 'broken', why: /^resource\./ }], 'and told');
    t.throws(() => sw.get(kind('ep'), { name: 'broken' }), { message: /^endpoint "broken" waits: resource\./ });
    await sw.apply([manifest('Network', 'later', { subnets: ['10.48.0.0/24'] })]);
    await until(() => stateOf(sw, 'lost') === 'attached', { what: 'its network' });
    for (const name of ['early', 'lost', 'twin']) await sw.detach({ name });
    await sw.delete(kind('ep'), { name: 'broken' });
    t.same(sw.status().refusedRecords, []);
  });

  await t.test('a watch that has lost its place lists, and goes on', async (t) => {
    store.isDeaf = true;
    const record = { resource: endpoint('db', db, '10.44.0.12'), addresses: ['10.44.0.12'], mac: '02:00:00:00:00:12' };
    await store.store.transact({ put: [{ key: 'endpoints/default/db', value: record }], delete: ['networks/later'] });
    t.equal(stateOf(sw, 'db'), undefined);
    store.compact();
    await until(() => stateOf(sw, 'db') === 'attached', { what: 'db' });
    t.same(
      sw.networks().map(({ name }) => name),
      ['blue'],
    );
    t.equal(stateOf(sw, 'web'), 'attached', 'what is as it was stays');
    await ping(web, '10.44.0.12');
    await store.store.transact({ delete: ['endpoints/default/db'] });
    await until(() => stateOf(sw, 'db') === undefined, { what: 'the watch to go on' });
  });

  await t.test('what was deleted and created again while nobody looked is another one', async (t) => {
    const moved = await lab.namespace('moved');
    const host = manifest('Host', 'far', { underlay: '192.0.2.9' });
    const away = manifest('Endpoint', 'away', {
      network: 'blue',
      host: 'far',
      mac: '02:00:00:00:00:99',
      addresses: ['10.44.0.99'],
    });
    await sw.apply([host, away, endpoint('db', db, '10.44.0.12')]);
    const vni = sw.networks()[0]!.vni;
    const [network, web2, db2] = await Promise.all(
      ['networks/blue', 'endpoints/default/web', 'endpoints/default/db'].map(async (key) => (await store.get(key))!),
    );
    const lastOf = async (flow: string): Promise<string | undefined> => (await sw.trace(flow)).stages.at(-1)?.because;
    const toAway = 'in_port=web,udp,ip_dst=10.44.0.99,eth_dst=02:00:00:00:00:99';
    t.match(await lastOf(toAway), /VTEP 192\.0\.2\.9 is on another host/);
    await store.store.transact({
      put: [{ key: 'hosts/far', value: { resource: { ...host, spec: { underlay: '192.0.2.10' } } } }],
    });
    await until(async () => (await lastOf(toAway))?.includes('192.0.2.10 is'), {
      what: 'the other address of the host',
    });

    store.isDeaf = true;
    await store.store.transact({
      put: [
        { key: network!.key, value: { ...(network!.value as object), vni: vni + 77 } },
        // The same namespace by another name, and another namespace.
        {
          key: web2!.key,
          value: {
            ...(web2!.value as object),
            resource: endpoint('web', web, '10.44.0.11', { labels: { app: 'ours' } }, web.path),
          },
        },
        { key: db2!.key, value: { ...(db2!.value as object), resource: endpoint('db', moved, '10.44.0.12') } },
      ],
    });
    store.compact();
    await until(() => sw.networks()[0]!.vni === vni + 77, { what: 'the other network' });
    await until(async () => (await moved.links()).length === 1, { what: 'the interface in the other namespace' });
    await until(() => stateOf(sw, 'web') === 'attached' && stateOf(sw, 'db') === 'attached', { what: 'both' });
    t.same(await db.links(), [], 'the interface of the one before has gone');
    await ping(web, '10.44.0.12');
    await until(async () => (await lastOf(toAway))?.includes('192.0.2.10 is'), {
      what: 'the endpoint of the other host',
    });
    t.match(await lastOf(`in_port=weft,tun_vni=${vni},arp,arp_tpa=10.44.0.11`), /no network has VNI/);
    // Nothing is done to what is as it was.
    t.same(sw.status().endpointProblems, {});
    for (const name of ['away', 'db']) await sw.detach({ name });
    await sw.delete(kind('host'), { name: 'far' });
  });

  await t.test('a network that another deletes under its endpoints', async (t) => {
    const { value } = (await store.get('networks/blue'))!;
    await store.store.transact({ delete: ['networks/blue'] });
    await until(() => stateOf(sw, 'web') === 'waiting', { what: 'web waits' });
    t.match(sw.status().endpointProblems, { web: [/network "blue" does not exist/] });
    await store.store.transact({ put: [{ key: 'networks/blue', value }] });
    await until(() => stateOf(sw, 'web') === 'attached', { what: 'its network' });
    t.same(sw.status().endpointProblems, {});
    await sw.apply([endpoint('db', db, '10.44.0.12')]);
    await ping(web, '10.44.0.12');
    // It is deleted while its network is away.
    await store.store.transact({ delete: ['networks/blue'] });
    await until(() => stateOf(sw, 'db') === 'waiting', { what: 'db waits' });
    t.same(await db.links(), ['eth0']);
    await sw.detach({ name: 'db' });
    t.same(await db.links(), []);
    await store.store.transact({ put: [{ key: 'networks/blue', value }] });
    await until(() => stateOf(sw, 'web') === 'attached', { what: 'its network' });
  });

  await t.test('a list that fails is tried again, and what was stored meanwhile keeps its addresses', async (t) => {
    const [one, two] = [await lab.namespace('one'), await lab.namespace('two')];
    const chosen = (name: string, { name: netns }: Namespace): Resource =>
      manifest('Endpoint', name, { network: 'blue', netns });
    store.beforeTransact = async () => {
      store.beforeTransact = async () => {};
      store.beforeList = () => Promise.reject(new WeftError('unreachable', 'the store is away'));
      store.isDeaf = true;
      setImmediate(() => store.compact());
    };
    await t.rejects(sw.apply([chosen('one', one)]), { message: 'the store is away' });
    t.equal(stateOf(sw, 'one'), undefined);
    store.beforeList = async () => {};
    await until(() => stateOf(sw, 'one') === 'attached', { what: 'what was stored to be in force' });
    await sw.apply([chosen('two', two)]);
    const addresses = sw.endpoints().flatMap((each) => each.addresses);
    t.equal(new Set(addresses).size, addresses.length, addresses.join());
    for (const name of ['one', 'two']) await sw.detach({ name });
  });

  await t.test('an attach that cannot be finished, nor taken back, says so and is finished later', async (t) => {
    const full = await lab.namespace('full');
    let writes = 0;
    store.beforeTransact = async () => {
      // What this host keeps of it, and the endpoint, are stored at once.
      if (++writes > 1) throw new WeftError('system', 'the disk is full');
    };
    await t.rejects(sw.attach({ name: 'full', network: 'blue', netns: full.name }), {
      code: 'system',
      message:
        /^the disk is full; it stays declared until you delete it, since that cannot be stored: the disk is full$/,
    });
    t.equal(stateOf(sw, 'full'), 'attached');
    store.beforeTransact = async () => {};
    await until(() => !('full' in sw.status().endpointProblems), { what: 'it is stored' });
    await sw.detach({ name: 'full' });
    t.same(await full.links(), []);
  });

  await t.test('namespaces: names are unique within them', async (t) => {
    const inShop = endpoint('web', db, '10.44.0.30', { namespace: 'shop' });
    await t.rejects(sw.apply([inShop]), {
      code: 'not_found',
      message: /^namespace "shop" does not exist: .* can be applied/,
    });
    await sw.apply([inShop, manifest('Namespace', 'shop', {})]);
    t.same(
      sw.endpoints().map(({ name, namespace, state }) => `${namespace}/${name} ${state}`),
      ['shop/web attached', 'default/web attached'],
    );
    await ping(web, '10.44.0.30');
    t.equal(sw.get(kind('ep'), { name: 'web', namespace: 'shop' }).length, 1);
    t.equal(sw.get(kind('endpoints'), { namespace: 'shop' }).length, 1);
    t.equal(sw.get(kind('Endpoint')).length, 2);
    await t.rejects(sw.delete(kind('ns'), { name: 'shop' }), {
      code: 'conflict',
      message: 'namespace "shop" has endpoints (shop/web): detach them first',
    });
    await t.rejects(sw.delete(kind('ns'), { name: 'default' }), { message: 'namespace "default" is always there' });
    t.match(await sw.label(kind('ep'), { name: 'web', namespace: 'shop' }, { app: 'x', no: null }), {
      action: 'configured',
    });
    t.match(await sw.label(kind('ep'), { name: 'web', namespace: 'shop' }, { app: 'x' }), { action: 'unchanged' });
    t.same(
      sw.endpoints().map(({ labels }) => labels),
      [{ app: 'x' }, { app: 'ours' }],
    );
    await sw.detach({ name: 'web', namespace: 'shop' });
    t.equal(stateOf(sw, 'web'), 'attached', 'the other one stays');
    await sw.delete(kind('ns'), { name: 'shop' });
  });
});

await t.test(
  'on a store with few operations a transaction, a file is still one revision',
  { skip: needsRoot },
  async (t) => {
    const lab = openLab(t);
    const { sw, store } = await openSwitchOf(t, lab, { operationLimit: 8 });
    const web = await lab.namespace('web');
    const file = Array.from({ length: 40 }, (_, n) => manifest('Network', `n${n}`, { subnets: [`10.${n}.0.0/24`] }));
    const told: number[] = [];
    store.store.watch('networks/', 1, (event) => {
      if (event.kind === 'changes') told.push(event.changes.length);
    });
    await sw.apply([...file, manifest('Endpoint', 'web', { network: 'n7', netns: web.name })]);
    t.equal(sw.networks().length, 40);
    t.equal(stateOf(sw, 'web'), 'attached');
    const { entries } = await store.list('networks/');
    t.equal(new Set(entries.map(({ revision }) => revision)).size, 1);
    await until(() => told.length > 0, { what: 'the watch to be told' });
    t.same(told, [40]);
  },
);

await t.test(
  'an endpoint that this version does not understand keeps its interface',
  { skip: needsRoot },
  async (t) => {
    const lab = openLab(t);
    const web = await lab.namespace('web');
    const key = 'endpoints/default/web';
    const first = await openSwitchOf(t, lab);
    await first.sw.apply([blue, endpoint('web', web, '10.44.0.11')]);
    const { value } = (await first.store.get(key))!;
    const { resource, ...allotted } = value as { resource: { spec: object } };
    const newer = { ...resource, spec: { ...resource.spec, fromTheFuture: true } };
    // Nothing is in its place, or `null`.
    await first.store.store.transact({
      put: [
        { key, value: { ...allotted, resource: newer } },
        { key: 'networks/null', value: null },
        { key: 'hosts/null', value: null },
        { key: 'endpoints/default/null', value: null },
      ],
    });
    await first.sw.close();
    const second = await openSwitchOf(t, lab);
    t.equal(stateOf(second.sw, 'web'), undefined);
    t.same(await web.links(), ['eth0']);
    await second.store.store.transact({ put: [{ key, value: value }] });
    await until(() => stateOf(second.sw, 'web') === 'attached', { what: 'it is understood again' });
    await second.store.store.transact({ put: [{ key, value: { ...allotted, resource: newer } }] });
    await second.sw.close();
    const third = await openSwitchOf(t, lab);
    await third.sw.detach({ name: 'web' });
    t.same(await web.links(), [], 'it can be deleted');
    await third.sw.apply([endpoint('web', web, '10.44.0.11')]);
    await third.store.store.transact({ put: [{ key, value: { ...allotted, resource: newer } }] });
    await third.sw.close();
    const fourth = await openSwitchOf(t, lab);
    fourth.store.isDeaf = true;
    await fourth.store.store.transact({ delete: [key] });
    fourth.store.compact();
    await until(async () => (await web.links()).length === 0, { what: 'its end, although nobody was told' });
  },
);

await t.test('a crash between any two writes of attach and detach', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const [web, db] = [await lab.namespace('web'), await lab.namespace('db')];
  const attach = (sw: Switch) => sw.attach({ name: 'web', network: 'blue', netns: web.path, ip: ['10.44.0.11'] });
  const first = await openSwitchOf(t, lab);
  await first.sw.apply([blue, endpoint('db', db, '10.44.0.12')]);
  await first.sw.close();
  for (const what of ['attach', 'detach'] as const) {
    let isOver = false;
    for (let writes = 0; !isOver; writes++) {
      const { sw, store } = await openSwitchOf(t, lab);
      if (what === 'detach' && stateOf(sw, 'web') === undefined) await attach(sw);
      store.writesLeft = writes;
      isOver = await (what === 'attach' ? attach(sw) : sw.detach({ name: 'web' })).then(
        () => true,
        () => false,
      );
      isOver &&= store.writesLeft > 0;
      store.writesLeft = 0;
      await sw.close();

      const again = await openSwitchOf(t, lab);
      const state = stateOf(again.sw, 'web');
      t.ok(state === 'attached' || state === undefined, `${what}, ${writes} writes: ${state}`);
      t.same(await web.links(), state === undefined ? [] : ['eth0']);
      if (what === 'attach') {
        await attach(again.sw);
        await ping(db, '10.44.0.11');
        await again.sw.detach({ name: 'web' });
      }
      await again.sw.close();
    }
  }
});

await t.test(
  'the end of a container, and of an endpoint, while nothing is enforced',
  { skip: needsRoot },
  async (t) => {
    const lab = openLab(t);
    const web = await lab.namespace('web');
    const { sw, store } = await openSwitchOf(t, lab);
    await sw.apply([blue, endpoint('web', web, '10.44.0.11')]);
    store.isDeaf = true;
    await store.store.transact({ delete: ['endpoints/default/web'] });
    await sw.close();
    t.same(await web.links(), ['eth0']);
    const again = await openSwitchOf(t, lab);
    t.same(again.sw.endpoints(), []);
    t.same(await web.links(), [], 'the next start removes it');
    t.same((await again.store.list('attachments/')).entries, []);
  },
);

await t.test('what others write during a start is put into force after it', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const [web, db] = [await lab.namespace('web'), await lab.namespace('db')];
  const first = await openSwitchOf(t, lab);
  await first.sw.apply([blue, endpoint('web', web, '10.44.0.11'), endpoint('db', db, '10.44.0.12')]);
  await first.sw.close();
  // The start has to find its place again, and stores that.
  const lost = 'attachments/default/web';
  let isPlaced = false;
  const { sw, store, log } = await openSwitchOf(t, lab, {
    beforeStart: (opening) => {
      opening.beforeList = async () => {
        opening.beforeList = async () => {};
        await opening.store.transact({ delete: [lost] });
      };
      opening.beforeTransact = async ({ put = [] }) => {
        if (isPlaced || !put.some(({ key }) => key === lost)) return;
        isPlaced = true;
        await opening.store.transact({ delete: ['endpoints/default/web'] });
      };
    },
  });
  t.ok(isPlaced);
  await until(() => stateOf(sw, 'web') === undefined, { what: 'its end' });
  await sw.apply([blue]);
  t.notOk(log.includes('unexpected'));
  t.same(
    sw.endpoints().map(({ name, state }) => `${name} ${state}`),
    ['db attached'],
  );
  t.same(await web.links(), []);
  t.same(
    (await store.list('attachments/')).entries.map(({ key }) => key),
    ['attachments/default/db'],
  );
});

await t.test('another writer of endpoints of this host, at the same time', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const { sw, store, log } = await openSwitchOf(t, lab);
  const [ours, theirs] = [await lab.namespace('ours'), await lab.namespace('theirs')];
  await sw.apply([blue]);
  const key = 'endpoints/default/theirs';
  const record = {
    resource: endpoint('theirs', theirs, '10.44.0.21'),
    addresses: ['10.44.0.21'],
    mac: '02:00:00:00:00:21',
  };

  await t.test('both would have the same port number', async (t) => {
    store.beforeTransact = async ({ put = [] }) => {
      if (!put.some((one) => one.key === 'endpoints/default/ours')) return;
      store.beforeTransact = async () => {};
      await store.store.transact({ put: [{ key, value: record }] });
    };
    await sw.apply([endpoint('ours', ours, '10.44.0.20')]);
    await until(() => stateOf(sw, 'ours') === 'attached' && stateOf(sw, 'theirs') === 'attached', { what: 'both' });
    await ping(ours, '10.44.0.21');
    t.equal(new Set(sw.endpoints().map(({ port }) => port)).size, 2);
  });

  await t.test('it is deleted and created again while another change is stored', async (t) => {
    store.beforeTransact = async () => {
      store.beforeTransact = async () => {};
      await store.store.transact({ delete: [key] });
      await store.store.transact({ put: [{ key, value: record }] });
    };
    await sw.label(kind('net'), { name: 'blue' }, { a: 'b' });
    await until(() => stateOf(sw, 'theirs') === 'attached', { what: 'it' });
    await ping(ours, '10.44.0.21');
    t.same(sw.status().endpointProblems, {});
    t.notOk(
      log.some((message) => message.includes('is not stored')),
      'what it knows of the interface is stored',
    );
  });

  await t.test('it goes before the watch, which has lost its place, has told of it', async (t) => {
    const { free } = sw.networks()[0]!;
    const brief = await lab.namespace('brief');
    store.beforeTransact = async ({ put = [] }) => {
      if (!put.some((one) => one.key === 'endpoints/default/brief')) return;
      store.beforeTransact = async () => {};
      store.isDeaf = true;
      setImmediate(() => {
        void store.store.transact({ delete: ['endpoints/default/brief'] }).then(() => store.compact());
      });
    };
    await sw.apply([manifest('Endpoint', 'brief', { network: 'blue', netns: brief.name })]);
    t.equal(stateOf(sw, 'brief'), undefined);
    t.same(sw.networks()[0]!.free, free, 'nobody has its address');
  });
});
