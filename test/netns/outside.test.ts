/**
 *   ┌ client ┐ eth0 ── eth0 ┌ host ────────────────────────┐
 *   │ .2 ::2 │              │ .1 ::1 ── weft0 ── weft ─ web │
 *   └────────┘              └──────────────────────────────┘
 *     192.0.2.0/24, 2001:db8::/64             10.44.0.0/24, fd44::/64
 *
 * What operators declare about the outside: networks that have one, published ports, and what
 * is refused.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { CheckReport } from '../../src/model/report.ts';
import { holdersIn, openLab, type Lab, type Namespace } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { ruleset as rules } from '../support/ruleset.ts';
import { overlay } from '../support/topology.ts';
import { datapathKinds, Weft, type DatapathKind } from '../support/weft.ts';

t.setTimeout(600_000);
// Half of the time it waits for the daemon to look at its rules again.
t.jobs = datapathKinds.length;

async function hostOf(lab: Lab): Promise<Namespace> {
  const [client, host] = [await lab.namespace('client'), await lab.namespace('host')];
  await lab.cable(client, 'eth0', host, 'eth0');
  await host.ip('address add 192.0.2.1/24 dev eth0');
  await host.ip('address add 2001:db8::1/64 dev eth0 nodad');
  return host;
}

const CLASH = 'is on weft’s link to the host (169.254.77.1/30): give it another';

async function refused(t: Test, weft: Weft, words: readonly string[], message: string): Promise<void> {
  const { code, stderr } = await weft.attempt(...words);
  t.equal(code, 1);
  t.equal(stderr, `weft: ${message}\n`);
}

const attach = (name: string, namespace: Namespace, ...publish: readonly string[]): string[] => [
  ...['attach', name, '--network', 'blue', '--netns', namespace.name],
  ...publish.flatMap((text) => ['--publish', text]),
];

function outside(datapath: DatapathKind): void {
  t.test(`the outside of a network, ${datapath}`, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const host = await hostOf(lab);
    const [web, db] = [await lab.namespace('web'), await lab.namespace('db')];
    const weft = await Weft.up(lab, host, 'host', { datapath });
    await weft.createNetwork('green --subnet 10.45.0.0/24');
    t.same(await host.links(), ['eth0'], 'there is none where no network has one');
    t.equal(await rules(host), '');
    await refused(
      t,
      weft,
      ['attach', 'web', '--network', 'green', '--netns', web.name, '--publish', '80:80'],
      'endpoint "web": publish: network "green" has no outside: create it with --outside, or apply it with spec.outside: true',
    );

    t.equal((await weft.status()).outside, null);
    await refused(
      t,
      weft,
      [...'network create red --subnet 10.45.0.0/25 --outside'.split(' ')],
      'network "red": subnet 10.45.0.0/25 overlaps 10.45.0.0/24 of network "green"',
    );
    t.equal(await host.run(['sysctl', '-n', 'net.ipv4.ip_forward']), '0\n', 'what is refused changes nothing');

    t.match(await weft.createNetwork(`${overlay.create} --outside`), { outside: true });
    t.same(await host.links(), ['eth0', 'weft0']);
    t.same((await weft.status()).outside, { open: true });
    await weft.run(...attach('web', web, '8080:80', '192.0.2.1:5300:53/udp', '[::]:443:8443'));
    const published = await rules(host);
    for (const [set, elements] of [
      ['published4', 'tcp . 8080'],
      ['published4_at', '192.0.2.1 . udp . 5300'],
      ['published6', 'tcp . 443, tcp . 8080'],
    ] as const) {
      t.match(published.replace(/\s+/g, ' '), new RegExp(`set ${set} { type [^}]*elements = { ${elements} }`), set);
    }
    t.match(await weft.run('endpoints'), /8080->80\/tcp,192\.0\.2\.1:5300->53\/udp,\[::\]:443->8443\/tcp/);
    const { checks } = (await weft.json('doctor')) as { checks: CheckReport[] };
    t.same(
      checks.filter(({ check }) => check.startsWith('outside')).map(({ check, result }) => `${check} ${result}`),
      ['outside rules ok', 'outside link ok', 'outside forwarding ok'],
    );

    await t.test('what is published where the host is not is told by the doctor', async (t) => {
      await weft.run(
        ...attach('db', db, '192.0.2.99:9090:80', '[fd00::99]:9091:80', '192.0.2.1:9092:80', '[2001:db8::1]:9093:80'),
      );
      const about = ((await weft.json('doctor')) as { checks: CheckReport[] }).checks;
      t.same(
        about.filter(({ check }) => check === 'published db').map(({ result, detail }) => `${result}: ${detail}`),
        [
          '192.0.2.99 is not an address of this host: 9090/tcp',
          'fd00::99 is not an address of this host: 9091/tcp',
        ].map((detail) => `warning: ${detail} of endpoint "db" is not reached there`),
      );
      await weft.run('detach', 'db');
    });

    await t.test('what cannot be published is refused', async (t) => {
      await refused(
        t,
        weft,
        attach('db', db, '9090:80', '8080:81'),
        'endpoint "db": host port 8080/tcp is published by endpoint "web" already',
      );
      await refused(
        t,
        weft,
        attach('db', db, '192.0.2.9:5300:53/udp'),
        'endpoint "db": host port 5300/udp is published by endpoint "web" already',
      );
      const listening = host.start(['socat', 'TCP-LISTEN:2222,bind=192.0.2.1', '-']);
      await host.run(['sh', '-c', 'until grep -q :08AE /proc/net/tcp; do :; done']);
      const file = join(lab.directory, 'db.yaml');
      writeFileSync(
        file,
        `apiVersion: weft.dev/v1\nkind: Endpoint\nmetadata: { name: db }\nspec: { network: blue, netns: ${db.name}, publish: [{ hostPort: 2222, port: 22 }] }\n`,
      );
      for (const [command, place] of [
        [attach('db', db, '2222:22'), ''],
        [['apply', '-f', file], `${file}:3:19: `],
        [['apply', '-f', file, '--dry-run'], `${file}:3:19: `],
      ] as const) {
        await refused(
          t,
          weft,
          [...command],
          `${place}endpoint "db": a program of this host uses port 2222/tcp on 192.0.2.1: publish another, or stop it`,
        );
      }
      await listening.stop();
      await refused(
        t,
        weft,
        ['network', 'create', ...overlay.create.split(' '), '--no-outside'],
        'network "blue": ports of its endpoints are published (web): its outside stays until they are not',
      );
      t.same(await db.links(), [], 'and nothing is half done');
      t.equal(await rules(host), published);
    });

    await t.test('it is the same after a stop, and after a crash', async (t) => {
      const before = await weft.json('endpoints');
      await weft.stop();
      t.equal(await rules(host), '', 'no rules without a switch');
      t.same(await host.links(), ['eth0'], 'and no weft0');
      await weft.start();
      t.equal(await rules(host), published);
      await weft.kill();
      t.equal(await rules(host), published, 'a crash opens nothing');
      await weft.start();
      t.equal(await rules(host), published);
      t.same(await weft.json('endpoints'), before);
    });

    await t.test('what another program takes away is put back', async (t) => {
      for (const damage of [
        ['nft', 'flush', 'ruleset'],
        ['nft', 'flush', 'table', 'inet', 'weft'],
      ]) {
        await host.run(damage);
        await until(async () => (await rules(host)) === published, { what: 'rules again' });
      }
      await host.ip('link set weft0 down');
      const isUp = async (): Promise<boolean> => (await host.ip('address show dev weft0 up')).includes('fd77:6566');
      await until(isUp, { what: 'weft0 again' });
      await host.ip('link delete weft0');
      await until(isUp, { what: 'another weft0' });
      t.equal(await rules(host), published);
      t.same((await weft.status()).outside, { open: true });
    });

    await t.test('an interface that is weft0 no more leads nowhere, and is opened anew', async (t) => {
      const other = await lab.namespace('other');
      const listening = host.start(['socat', 'TCP-LISTEN:2223,fork,reuseaddr', 'SYSTEM:echo secret']);
      await host.run(['sh', '-c', 'until grep -q :08AF /proc/net/tcp; do :; done']);
      const isOpen = async (): Promise<boolean> => {
        const { outside } = await weft.status();
        return (await host.links()).includes('weft0') && outside?.open === true && outside.why === undefined;
      };
      const reach = (): Promise<string> =>
        web.run(['sh', '-c', 'socat -T 1 TCP:192.0.2.1:2223,connect-timeout=1 - </dev/null 2>/dev/null || true']);
      await host.ip('link set weft0 name other');
      t.equal(await reach(), '', 'the host is as closed to containers as before');
      await until(isOpen, { what: 'another weft0' });
      t.same(await host.links(), ['eth0', 'weft0'], 'and no other');
      t.equal(await reach(), '');

      await host.ip(`link set weft0 netns ${other.name}`);
      await until(isOpen, { what: 'another weft0 again' });
      t.same(await other.links(), [], 'what was moved is removed there');

      await host.ip('link set weft0 name other');
      await host.ip('link add weft0 type bridge');
      const isRefused = async (): Promise<boolean> => {
        const { outside } = await weft.status();
        return outside?.open === false && /weft0.* exists already/.test(outside.why ?? '');
      };
      await until(isRefused, { what: 'the bridge to be seen' });
      t.match(await host.ip('link show dev weft0'), /state DOWN/, 'what is not weft’s is left as it is');
      await host.ip('link delete weft0');
      await until(isOpen, { what: 'weft0 in its own place' });
      await listening.stop();
      t.equal(await rules(host), published);
    });

    await t.test('what fails at the start is told, and tried again', async (t) => {
      await weft.stop();
      await host.ip('address add 169.254.77.3/16 dev eth0');
      await weft.start();
      const why = `address 169.254.77.3/16 of eth0 ${CLASH}`;
      t.same((await weft.status()).outside, { open: false, why });
      t.match(await weft.run('status'), `not open: ${why}`);
      t.match(await weft.attempt('doctor'), { stdout: /outside rules +failed +the outside is not open/ });
      await weft.run('attach', 'db', '--network', 'green', '--netns', db.name);
      await weft.run('detach', 'db');
      await refused(t, weft, attach('web', web, '8080:80', '192.0.2.1:5300:53/udp', '[::]:443:8443'), why);
      await host.ip('address del 169.254.77.3/16 dev eth0');
      await until(async () => (await weft.status()).outside?.open, { what: 'the outside' });
      t.same((await weft.status()).outside, { open: true });
      t.equal(await rules(host), published);
      t.equal(weft.log().split('the outside is not as it should be').length - 1, 1, 'it is logged once');
    });

    await t.test('ports are published and withdrawn by manifests', async (t) => {
      const file = join(lab.directory, 'web.yaml');
      const manifest = (publish: string): void =>
        writeFileSync(
          file,
          `apiVersion: weft.dev/v1\nkind: Endpoint\nmetadata: { name: web }\nspec: { network: blue, netns: ${web.name}, publish: ${publish} }\n`,
        );
      manifest('[{ hostPort: 8081, port: 80 }]');
      t.equal(await weft.run('apply', '-f', file, '--dry-run'), 'endpoint/web configured (dry run)\n');
      t.equal(await rules(host), published);
      t.equal(await weft.run('apply', '-f', file), 'endpoint/web configured\n');
      t.equal(await weft.run('apply', '-f', file), 'endpoint/web unchanged\n');
      t.match(await rules(host), 'elements = { tcp . 8081 }');
      t.notMatch(await rules(host), 'tcp . 8080');
      t.match(await weft.run('describe', 'endpoint', 'web'), 'hostPort=8081');
      t.match(await weft.json('get', 'Endpoint', 'web'), { spec: { publish: [{ hostPort: 8081, port: 80 }] } });
      await weft.run('detach', 'web');
      t.notMatch(await rules(host), 'elements');
    });

    await t.test('it ends with the last network that has one', async (t) => {
      t.match(await weft.createNetwork(`${overlay.create} --no-outside`), { outside: false });
      t.same(await host.links(), ['eth0']);
      t.equal(await rules(host), '');
    });

    await t.test('what cannot be opened is not declared', async (t) => {
      await host.ip('address add 169.254.77.3/16 dev eth0');
      const why = `address 169.254.77.3/16 of eth0 ${CLASH}`;
      await refused(t, weft, ['network', 'create', ...overlay.create.split(' '), '--outside'], why);
      t.match(await weft.json('network', 'ls'), [{ name: 'blue', outside: false }, { name: 'green' }]);
      t.same(await host.links(), ['eth0']);
      await host.ip('address del 169.254.77.3/16 dev eth0');
    });

    await t.test('what a crash leaves is removed where no network wants it', async (t) => {
      await weft.createNetwork(`${overlay.create} --outside`);
      const other = await Weft.up(lab, host, 'other', { datapath });
      t.same(await host.links(), ['eth0', 'weft0'], 'but not from under another switch');
      t.not(await rules(host), '');
      await other.stop();
      await weft.kill();
      await other.start();
      t.same(await host.links(), ['eth0', 'weft0'], 'nor while its holder keeps it for the next daemon');
      await other.stop();
      for (const pid of holdersIn(weft.state)) process.kill(pid, 'SIGKILL');
      await until(() => holdersIn(weft.state).length === 0, { what: 'the holder has ended' });
      await other.start();
      t.same(await host.links(), ['eth0']);
      t.equal(await rules(host), '');
    });
  });
}

for (const datapath of datapathKinds) outside(datapath);
