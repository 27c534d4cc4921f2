/**
 *   ┌ host ──────────────────────────────────────┐
 *   │ web ── weft ── (beta, which is not there)  │
 *   └────────────────────────────────────────────┘
 *
 * What manifests declare is put into effect, once, and undone.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { needsRoot } from '../support/root.ts';
import { ping } from '../support/traffic.ts';
import { Weft } from '../support/weft.ts';

t.setTimeout(600_000);

t.test('apply, again, and delete', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const [host, web] = [await lab.namespace('host'), await lab.namespace('web')];
  await host.ip('link set lo up');
  const weft = await Weft.up(lab, host, 'host', { datapath: 'native', underlay: '127.0.0.1' });
  const file = join(lab.directory, 'all.yaml');
  writeFileSync(
    file,
    `apiVersion: weft.dev/v1
kind: Endpoint
metadata: { name: db }
spec: { network: blue, host: beta, mac: '02:00:00:00:00:20', addresses: [10.44.0.120] }
---
apiVersion: weft.dev/v1
kind: Endpoint
metadata: { name: web, labels: { app: web } }
spec: { network: blue, netns: ${web.name}, addresses: [10.44.0.10] }
---
apiVersion: weft.dev/v1
kind: Host
metadata: { name: beta }
spec: { underlay: 127.0.0.2 }
---
apiVersion: weft.dev/v1
kind: Network
metadata: { name: blue }
spec: { subnets: [10.44.0.0/24], vni: 100, ranges: [10.44.0.10-10.44.0.19] }
`,
  );
  const outcome = (action: string, more = '') =>
    ['network/blue', 'host/beta', 'endpoint/db', 'endpoint/web'].map((name) => `${name} ${action}${more}\n`).join('');

  t.equal(await weft.run('apply', '-f', file, '--dry-run'), outcome('created', ' (dry run)'));
  t.same(await weft.json('endpoints'), [], 'a dry run does nothing');
  const wrong = join(lab.directory, 'wrong.yaml');
  writeFileSync(wrong, readFileSync(file, 'utf8').replace(`netns: ${web.name}`, 'netns: nowhere'));
  for (const verb of ['apply', 'diff']) {
    const { code, stderr } = await weft.attempt(verb, '-f', wrong);
    t.equal(code, 1);
    t.match(stderr, /^weft: \S+wrong\.yaml:8:19: network namespace "nowhere" does not exist/, `where, by ${verb}`);
  }
  const twice = await weft.attempt('apply', '-f', file, '-f', wrong);
  t.match(twice.stderr, /^weft: \S+wrong\.yaml:18:19: network "blue" is declared twice\n$/);
  t.equal(await weft.run('apply', '-f', file), outcome('created'));
  t.equal(await weft.run('apply', '-f', file), outcome('unchanged'));
  const trace = await weft.run('trace', 'in_port=web,udp,ip_dst=10.44.0.120,udp_dst=53');
  t.match(trace, 'Actions: track, mtu(1500), encap(vni=100,vtep=127.0.0.2)', 'a static entry needs no learning');
  await weft.run('delete', '-f', file);
  t.same(await weft.json('get', 'Network'), []);
  t.same(await web.links(), [], 'the interface is gone');
});

t.test('two endpoints of one name, in two namespaces', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const [host, web, other] = [await lab.namespace('host'), await lab.namespace('web'), await lab.namespace('other')];
  const weft = await Weft.up(lab, host, 'host', { datapath: 'native' });
  await weft.createNetwork('blue --subnet 10.44.0.0/24');
  await weft.attach(web, { name: 'web', network: 'blue', arguments: ['--ip', '10.44.0.11'] });
  const attach = ['attach', 'web', '--network', 'blue', '--netns', other.name, '--ip', '10.44.0.12', '-n', 'shop'];
  t.match(await weft.attempt(...attach), {
    code: 1,
    stderr: /^weft: namespace "shop" does not exist: .*, and a Namespace with this name can be applied/,
  });
  t.same(await other.links(), []);

  const file = join(lab.directory, 'shop.yaml');
  writeFileSync(file, 'apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n');
  t.equal(await weft.run('apply', '-f', file), 'namespace/shop created\n');
  await weft.run(...attach);
  await ping(web, '10.44.0.12');
  const names = async (...words: string[]): Promise<string[]> =>
    [...(await weft.run(...words)).matchAll(/^(\S*web)/gm)].map(([, name]) => name!);
  t.same(await names('endpoints'), ['shop/web', 'web']);
  t.same(await names('endpoints', '-n', 'shop'), ['shop/web']);
  t.same(await names('get', 'ep'), ['web']);
  t.same(await names('get', 'ep', '-n', 'shop'), ['web']);
  t.same(await names('get', 'ep', '-A'), ['web', 'web']);
  t.match(await weft.attempt('get', 'ep/web', '-A'), { code: 2, stderr: /give either NAME or -A/ });
  t.equal(await weft.run('get', 'ep', '-n', 'shpo'), 'No endpoints in namespace "shpo".\n');
  const all = join(lab.directory, 'all.json');
  writeFileSync(all, await weft.run('get', 'ep', '-A', '-o', 'json'));
  t.equal(await weft.run('apply', '-f', all), 'endpoint/shop/web unchanged\nendpoint/web unchanged\n');
  t.match(await weft.run('describe', 'ep/web', '-n', 'shop'), /Namespace: +shop\n[^]*addresses: +10\.44\.0\.12\n/);
  t.match(await weft.run('trace', 'in_port=shop/web,icmp,ip_dst=10.44.0.11'), 'in_port=shop/web');

  t.equal(await weft.run('label', 'ep/web', 'app=x', '-n', 'shop'), 'endpoint/shop/web configured\n');
  t.equal(await weft.run('label', 'ep', 'web', 'app=x', '-n', 'shop'), 'endpoint/shop/web unchanged\n');
  const labels = async (): Promise<unknown> => (await weft.client.endpoints()).map((endpoint) => endpoint.labels);
  t.same(await labels(), [{ app: 'x' }, {}]);
  await weft.run('label', 'ep', 'web', 'tier=a', 'app-', '-n', 'shop');
  t.same(await labels(), [{ tier: 'a' }, {}]);
  t.match(await weft.attempt('label', 'ep', 'web'), { code: 2, stderr: /labels are missing/ });
  t.match(await weft.attempt('label', 'ep', 'web', 'a b=c'), { code: 1, stderr: /"a b" is not a label key/ });

  t.match(await weft.attempt('delete', 'ns', 'shop'), { code: 1, stderr: /has endpoints \(shop\/web\)/ });
  await weft.kill();
  await weft.start();
  await ping(web, '10.44.0.12');
  t.equal(await weft.run('detach', 'web', '-n', 'shop'), 'endpoint/shop/web detached\n');
  t.same(await other.links(), []);
  t.same(await web.links(), ['eth0']);
  t.equal(await weft.run('delete', 'namespace/shop'), 'namespace/shop deleted\n');
});
