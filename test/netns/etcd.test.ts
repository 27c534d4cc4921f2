/**
 *   weft (host) ── [::1]:2379 etcd, with TLS and users
 *
 * A daemon on an etcd cluster that asks for certificates and a user, reached over IPv6, in the bundle that operators run;
 * and what an operator reads when something about that is wrong.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { etcdCluster } from '../support/cluster.ts';
import { startEtcd, type Etcd } from '../support/etcd.ts';
import { openLab, type Lab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { Weft } from '../support/weft.ts';

t.setTimeout(300_000);

/** @returns the path of a configuration */
function configured(lab: Lab, etcd: Etcd, fields: Readonly<Record<string, unknown>> = {}): string {
  const { ca, client } = etcd.certificates!;
  const passwordFile = join(lab.directory, 'password');
  writeFileSync(passwordFile, 'w\n');
  const endpoints = etcd.members.map(({ clientAddress }) => clientAddress);
  const tls = { ca, certificate: client.certificate, key: client.key };
  const config = join(lab.directory, 'weft.yaml');
  writeFileSync(config, JSON.stringify({ store: { endpoints, user: 'weft', passwordFile, tls, ...fields } }));
  return config;
}

t.test('a daemon on etcd with TLS and users, over IPv6', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const host = await lab.namespace('host');
  const places = [{ namespace: host, address: '::1' }];
  const etcd = await startEtcd(lab, { members: places, tls: true, users: { root: 'r', weft: 'w' } });
  const config = configured(lab, etcd);
  const weft = await Weft.up(lab, host, 'host', {
    datapath: 'native',
    underlay: '127.0.0.1',
    arguments: ['--config', config],
  });
  await weft.createNetwork('blue --subnet 10.44.0.0/24');
  t.match(await etcd.ctl(['get', '--prefix', '--keys-only', 'weft/']), 'weft/state/networks/blue\n');
  t.match((await weft.status()).store, etcd.url);
  t.match(await weft.run('status'), new RegExp(`Store: +etcd://\\[::1\\]:\\d+, prefix \\S+, revision \\d+\n`));
  await weft.stop();
  t.notMatch(weft.log(), /Deprecation/, 'Node.js has nothing to say about it');

  // The password was changed, and the daemon does not know it yet: it goes on with what it knows, and says why.
  await etcd.ctl(['user', 'passwd', 'weft', '--interactive=false'], etcd.members, 'other\n');
  await weft.start();
  const status = await until(
    async () => {
      const text = await weft.run('status');
      return /Store: .*cannot be reached/.test(text) ? text : undefined;
    },
    { what: 'the refusal' },
  );
  t.match(status, /Store: .*it does not accept user "weft" with the password in passwordFile/);
  t.match(await weft.run('network', 'ls'), /^blue /m, 'the network is in force');
  writeFileSync(join(lab.directory, 'password'), 'other\n');
  await until(async () => !(await weft.run('status')).includes('cannot be reached'), { what: 'the new password' });

  // One that knows nothing of the cluster waits for it, and says when it begins.
  await weft.stop();
  rmSync(weft.state, { recursive: true });
  writeFileSync(join(lab.directory, 'password'), 'wrong\n');
  const starting = weft.start();
  await until(() => weft.log().includes('"msg":"waiting for the state of the cluster"'), { what: 'it waits' });
  t.notMatch(weft.log(), '"msg":"forwarding"');
  writeFileSync(join(lab.directory, 'password'), 'other\n');
  await starting;
  await until(() => weft.log().includes('"msg":"forwarding"'), { what: 'it says that it forwards' });

  const missing = configured(lab, etcd, { passwordFile: '/nowhere/password' });
  const second = [...weft.upCommand().slice(0, -2), '--config', missing].map((word) =>
    word === weft.socket ? `${weft.socket}.second` : word === weft.state ? `${weft.state}.second` : word,
  );
  const [command = '', ...rest] = second;
  const { code, stderr } = await host.attempt([command, ...rest]);
  t.match(stderr, /^weft: \S+weft\.yaml:1:\d+: store\.passwordFile: \/nowhere\/password cannot be read: ENOENT.*\n$/);
  t.equal(code, 2);
});

t.test(
  'a cluster whose prefix is below that of another one has nothing to do with it',
  { skip: needsRoot },
  async (t) => {
    const lab = openLab(t);
    const cluster = await etcdCluster(lab, 2);
    const [hostA, hostB] = cluster.hosts;
    const a = await Weft.up(lab, hostA!.namespace, 'a', cluster.options(hostA!, 'native'));
    const config = join(lab.directory, 'below.yaml');
    const endpoints = cluster.etcd.members.map(({ clientAddress }) => clientAddress);
    const configure = (prefix: string): void => writeFileSync(config, JSON.stringify({ store: { endpoints, prefix } }));
    configure('weft/b/');
    const options = { datapath: 'native', underlay: hostB!.underlay, arguments: ['--config', config] } as const;
    const b = await Weft.up(lab, hostB!.namespace, 'b', options);
    for (const weft of [a, b]) await weft.createNetwork('blue --subnet 10.44.0.0/24');
    const names = async (weft: Weft) => (await weft.client.networks()).map(({ name }) => name);
    const keys = await cluster.etcd.ctl(['get', '--prefix', '--keys-only', 'weft/']);
    for (const key of ['weft/state/networks/blue', 'weft/b/state/networks/blue']) t.match(keys, `${key}\n`);
    await a.run('network', 'rm', 'blue');
    await a.createNetwork('red --subnet 10.45.0.0/24');
    t.same([await names(a), await names(b)], [['red'], ['blue']]);
    for (const weft of [a, b])
      t.match(await weft.status(), { peers: [], clashes: [], sharedStore: { lost: [], held: [] } });

    await b.stop();
    configure('weft/c/');
    await b.start();
    t.same(await names(b), ['blue'], 'with a wrong prefix, all stays in force');
    const status = await b.run('status');
    t.match(
      status,
      /^Store: .*, prefix weft\/c\/, not used: the store has nothing of weft there .*, prefix weft\/b\/\)/m,
    );
    const doctor = await b.attempt('doctor');
    t.match(doctor.stdout, 'correct its prefix; or, if the cluster is to go on there with what is in force here');
    t.equal(doctor.code, 1);
    t.equal(await cluster.etcd.ctl(['get', '--prefix', '--keys-only', 'weft/c/']), '', 'and nothing is written there');
    t.match(await b.run('doctor', '--accept-store'), 'the cluster goes on with etcd://');
    t.same(await names(b), ['blue'], 'an operator who insists takes nothing away by that');
    await b.stop();
    configure('weft/b/');
    await b.start();
    await cluster.etcd.ctl(['del', '--prefix', 'weft/b/']);
    await until(async () => (await b.status()).sharedStore!.held.length > 0, { what: 'what the one below has lost' });
    await a.run('label', 'network', 'red', 'kept=yes');
    t.match((await a.status()).sharedStore, { held: [], signs: [] });
  },
);
