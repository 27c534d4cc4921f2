/**
 *   ┌ a ─────────┐   ┌ b ─────────┐   ┌ c ─────────┐
 *   │ box-a      │   │ box-b      │   │ box-c      │
 *   └─ .1 ───────┘   └─ .2 ───────┘   └─ .3 ───────┘
 *         └────── 192.0.2.0/24, one bridge ─┴── etcd (.100)
 *
 * Hosts that share a store give out addresses at the same time: none twice and none lost, also if a daemon is killed
 * meanwhile, and from their own blocks while etcd cannot be reached.
 */
import t from 'tap';
import type { EndpointReport } from '../../src/model/report.ts';
import { etcdAddress, etcdCluster } from '../support/cluster.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import type { Weft } from '../support/weft.ts';

t.setTimeout(180_000);

const ATTACHES = 200;

await t.test('200 attaches at once on three hosts, one of which is killed', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const cluster = await etcdCluster(lab, 3);
  const hosts = (await cluster.up('native')) as [Weft, Weft, Weft];
  const [a, b, c] = hosts;
  await a.createNetwork('blue --subnet 10.44.0.0/23 --subnet fd44::/64');
  for (const { client } of hosts) {
    await until(async () => (await client.networks()).length === 1, { what: 'the network is known' });
  }
  const boxes = await Promise.all(['a', 'b', 'c'].map((name) => lab.namespace(`box-${name}`)));
  const attach = (n: number): Promise<EndpointReport> =>
    hosts[n % 3]!.client.attach({ name: `web${n}`, network: 'blue', netns: boxes[n % 3]!.name, ifname: `e${n}` });

  const attaches = Array.from({ length: ATTACHES }, (_, n) => attach(n));
  const outcomes = Promise.allSettled(attaches);
  // The fourth of the host that is killed.
  await attaches[10];
  await b.kill();
  await b.start();
  const failed = (await outcomes).flatMap(({ status }, n) => (status === 'rejected' ? [n] : []));
  t.ok(
    failed.length > 0 && failed.every((n) => n % 3 === 1),
    `${failed.length} of ${ATTACHES} failed, all on the host that was killed`,
  );
  for (const n of failed) await attach(n);

  await t.test('no address is there twice, and none is lost', async (t) => {
    const held = new Map<string, string>();
    for (const [at, box] of boxes.entries()) {
      const links = JSON.parse(await box.run(['ip', '-j', 'addr', 'show'])) as {
        readonly ifname: string;
        readonly addr_info: readonly { readonly local: string; readonly scope: string }[];
      }[];
      for (const { ifname, addr_info: addresses } of links) {
        if (!ifname.startsWith('e')) continue;
        t.equal(addresses.filter(({ scope }) => scope === 'global').length, 2, ifname);
        for (const { local, scope } of addresses) {
          if (scope !== 'global') continue;
          t.equal(held.get(local), undefined, `${local} of ${ifname} on ${at}`);
          held.set(local, ifname);
        }
      }
    }
    t.equal(held.size, 2 * ATTACHES);
    for (const { client } of hosts) {
      await until(async () => (await client.endpoints()).length === ATTACHES, { what: 'all know all' });
      const addresses = (await client.endpoints()).flatMap((endpoint) => endpoint.addresses);
      t.same(new Set(addresses), new Set(held.keys()));
      t.same((await client.status()).endpointProblems, {});
    }
  });

  await t.test('while etcd cannot be reached, addresses come from the blocks of the host', async (t) => {
    await cluster.cut(cluster.hosts[0]!, [etcdAddress]);
    await until(async () => (await a.status()).sharedStore?.reachable === false, { what: 'a notices' });
    const offline = await a.client.attach({ name: 'offline', network: 'blue', netns: boxes[0]!.name, ifname: 'off' });
    t.equal(offline.addresses.length, 2);
    const foreign = (await a.client.endpoints()).find(({ name }) => name === 'web2')!;
    await t.rejects(
      a.client.attach({ name: 'x', network: 'blue', netns: boxes[0]!.name, ifname: 'x', ip: [foreign.addresses[0]!] }),
      { message: /is taken by endpoint "web2"/ },
    );
    await cluster.mend(cluster.hosts[0]!);
    await until(async () => (await c.client.endpoints()).some(({ name }) => name === 'offline'), {
      what: 'all know it',
    });
    const addresses = (await c.client.endpoints()).flatMap((endpoint) => endpoint.addresses);
    t.equal(new Set(addresses).size, 2 * ATTACHES + 2);
  });

  await t.test('what is detached leaves nothing behind', async (t) => {
    await Promise.all(Array.from({ length: ATTACHES }, (_, n) => hosts[n % 3]!.client.detach(`web${n}`)));
    await a.client.detach('offline');
    for (const { client } of hosts) {
      await until(async () => (await client.endpoints()).length === 0, { what: 'nothing is attached' });
    }
    t.equal((await b.client.networks())[0]!.free['10.44.0.0/23'], 509);
    t.notMatch(
      await cluster.etcd.ctl(['get', '--prefix', 'weft/state/blocks/']),
      /"endpoint"/,
      'no single address is claimed',
    );
    await a.run('network', 'rm', 'blue');
    const isLeft = async (): Promise<boolean> =>
      /blocks\/|"blue"/.test(await cluster.etcd.ctl(['get', '--prefix', 'weft/']));
    await until(async () => !(await isLeft()), { what: 'each host gives up its blocks of the network' });
  });
});
