/**
 *   ┌ host ─────────────────────────────────────────┐
 *   │ web, greedy (red) ─┐                          │
 *   │ old  (red, shop)  ─┼─ weft ─ internal ─ DNS ──┼─ name servers of the host
 *   │ app  (open)       ─┤                          │  127.0.0.1, 127.0.0.2
 *   │ db   (blue)       ─┘                          │
 *   └───────────────────────────────────────────────┘
 *     red 10.44.0.0/24, fd44::/64; blue 10.45.0.0/24; open 10.47.0.0/24, with an outside
 *
 * Names in containers, as their own resolvers ask for them. The numbers of tests are those of the list of known traps of DNS
 * for containers; those of the zone and of messages alone are in test/discovery.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { openLab, type Lab, type Namespace } from '../support/lab.ts';
import { until, type Background } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { datapathKinds, Weft, type DatapathKind } from '../support/weft.ts';

t.setTimeout(600_000);

const script = (name: string): string => fileURLToPath(new URL(`../discovery/${name}`, import.meta.url));
const RED = '10.44.0.1';
const OPEN = '10.47.0.1';

interface Dug {
  readonly status: string;
  readonly answers: string[];
  readonly text: string;
}

/** @param words arguments of dig */
async function dig(from: Namespace, gateway: string, words: string): Promise<Dug> {
  const all = ['dig', `@${gateway}`, '+tries=1', '+time=6', '+nosearch', '+nocookie', ...words.split(' ')];
  const text = await from.run(all);
  const [, status = ''] = /status: (\w+)/.exec(text) ?? [];
  const [, section = ''] = /ANSWER SECTION:\n(.*?)\n\n/s.exec(text) ?? [];
  const answers = section.split('\n').map((line) => line.split(/\s+/).slice(4).join(' '));
  return { status, answers: answers.filter((line) => line !== '').sort(), text };
}

const stream = (from: Namespace, ...words: readonly string[]): Background =>
  from.start([process.execPath, script('stream-client.mjs'), ...words]);

async function said(started: Background): Promise<string> {
  await until(() => started.lines.length > 0 || !started.isRunning, { what: 'it says something', timeoutMs: 60_000 });
  return started.lines[0]?.text ?? started.stderr;
}

async function up(lab: Lab, datapath: DatapathKind) {
  const host = await lab.namespace('host');
  const weft = Weft.of(lab, host, 'host', { datapath });
  const attach = async (name: string, network: string, ...more: readonly string[]): Promise<Namespace> => {
    const namespace = await lab.namespace(name);
    await weft.attach(namespace, { name, network, arguments: more });
    return namespace;
  };
  return { host, weft, attach };
}

async function networks(lab: Lab, weft: Weft): Promise<void> {
  await weft.createNetwork('red --subnet 10.44.0.0/24 --subnet fd44::/64');
  await weft.createNetwork('blue --subnet 10.45.0.0/24');
  const file = join(lab.directory, 'shop.yaml');
  writeFileSync(file, 'apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n');
  await weft.run('apply', '-f', file);
}

for (const datapath of datapathKinds) {
  t.test(`names of weft, ${datapath}`, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const { weft, attach } = await up(lab, datapath);
    await weft.start();
    await networks(lab, weft);
    const web = await attach(
      'web',
      'red',
      '--ip',
      '10.44.0.2',
      '--ip',
      'fd44::2',
      '--label',
      'app=web',
      '--port',
      'http=8080',
    );
    const db = await attach('db', 'blue', '--ip', '10.45.0.2');
    const old = await attach('old', 'red', '-n', 'shop', '--ip', '10.44.0.3', '--ip', 'fd44::3');

    await t.test('15: endpoints, over both protocols and families, from the address that was asked', async (t) => {
      for (const gateway of [RED, 'fd44::1']) {
        for (const how of ['+notcp', '+tcp']) {
          t.match(await dig(web, gateway, `${how} web.red.weft A`), { status: 'NOERROR', answers: ['10.44.0.2'] });
          t.match(await dig(web, gateway, `${how} web.red.weft AAAA`), { status: 'NOERROR', answers: ['fd44::2'] });
        }
      }
      t.match(await dig(web, RED, 'old.red.weft'), { status: 'NXDOMAIN' });
      t.match(await dig(old, RED, 'old.red.weft'), { answers: ['10.44.0.3'] }, 'in its own namespace');
      t.match(await dig(web, RED, 'old.shop.red.weft'), { answers: ['10.44.0.3'] });
      t.match(await dig(web, RED, 'db.blue.weft'), { status: 'NXDOMAIN' }, 'a network that is not reached');
      t.match(await dig(db, '10.45.0.1', 'db.blue.weft'), { answers: ['10.45.0.2'] });
      t.match(await dig(web, RED, '-x 10.44.0.3'), { answers: ['old.shop.red.weft.'] });
      t.match(await dig(web, RED, '-x 10.45.0.2'), { status: 'NXDOMAIN' });
    });

    await t.test('an endpoint with a wildcard has all names below its own', async (t) => {
      t.match(await dig(web, RED, 'x.web.red.weft'), { status: 'NXDOMAIN' });
      await weft.attach(web, { name: 'web', network: 'red', arguments: ['--wildcard'] });
      t.match(await weft.run('get', 'endpoint', 'web', '-o', 'yaml'), 'weft.dev/wildcard: "true"');
      await until(async () => (await dig(web, RED, 'x.web.red.weft')).status === 'NOERROR', { what: 'it has them' });
      const found = await dig(web, RED, 'Shop.X.wEb.red.weft A');
      t.match(found, { status: 'NOERROR', answers: ['10.44.0.2'] });
      t.match(found.text, /^Shop\.X\.wEb\.red\.weft\.\s+5\s+IN\s+A\s/m, 'in the case of the question');
      t.match(await dig(old, RED, 'x.web.default.red.weft AAAA'), { status: 'NOERROR', answers: ['fd44::2'] });
      const none = await dig(web, RED, 'x.web.red.weft MX');
      t.match(none, { status: 'NOERROR', answers: [] }, 'no data');
      t.match(none.text, /AUTHORITY SECTION:\nweft\.\s+5\s+IN\s+SOA/);
      t.match(await dig(old, RED, 'x.web.red.weft'), { status: 'NXDOMAIN' }, 'the short name is of the own namespace');
      t.match(await dig(web, RED, '-x 10.44.0.2'), { answers: ['web.default.red.weft.'] });
      await weft.attach(web, { name: 'web', network: 'red', arguments: ['--no-wildcard'] });
      await until(async () => (await dig(web, RED, 'x.web.red.weft')).status === 'NXDOMAIN', { what: 'it has none' });
    });

    await t.test('13: services, as soon as they are in force', async (t) => {
      const file = join(lab.directory, 'services.yaml');
      const ports = 'ports: [{ name: http, port: 80, targetPort: http }]';
      const kinds = {
        api: `selector: { app: web }, clusterIP: 10.96.7.7, ${ports}`,
        set: `selector: { app: web }, clusterIP: None, ${ports}`,
        alias: 'type: ExternalName, externalName: api.default.svc.cluster.local',
      };
      const manifests = Object.entries(kinds).map(
        ([name, spec]) => `apiVersion: v1\nkind: Service\nmetadata: { name: ${name} }\nspec: { ${spec} }\n`,
      );
      writeFileSync(file, manifests.join('---\n'));
      await weft.run('apply', '-f', file);
      const name = (service: string): string => `${service}.default.svc.cluster.local`;
      await until(async () => (await dig(web, RED, name('alias'))).status === 'NOERROR', { what: 'they are known' });
      for (const [client, gateway] of [
        [web, RED],
        [db, '10.45.0.1'],
      ] as const) {
        t.match(await dig(client, gateway, name('api')), { answers: ['10.96.7.7'] });
        t.match(await dig(client, gateway, name('alias')), { answers: ['10.96.7.7', `${name('api')}.`] });
      }
      t.match(await dig(web, RED, name('set')), { answers: ['10.44.0.2'] });
      t.match(await dig(db, '10.45.0.1', name('set')), { status: 'NXDOMAIN' }, 'nothing of it is reached from there');
      t.match(await dig(web, RED, `_http._tcp.${name('api')} SRV`), { answers: [`0 1 80 ${name('api')}.`] });
      t.match(await dig(web, RED, `_http._tcp.${name('set')} SRV`), { answers: [`0 1 8080 web.${name('set')}.`] });
      t.match(await dig(web, RED, '-x 10.96.7.7'), { answers: [`${name('api')}.`] });
      await weft.run('delete', '-f', file);
      await until(async () => (await dig(web, RED, name('api'))).status === 'NXDOMAIN', { what: 'they are gone' });
    });

    await t.test('a network without an outside answers its own names, and refuses the rest', async (t) => {
      const refused = await dig(web, RED, 'example.org');
      t.equal(refused.status, 'REFUSED');
      t.notMatch(refused.text, /flags:[^;]* ra/, 'recursion is not available');
      t.match(await dig(web, RED, 'x.svc.cluster.local'), { status: 'NXDOMAIN' });
    });

    await t.test('6: names that do not exist are answered from memory, and not kept for long', async (t) => {
      const { text } = await dig(web, RED, 'no.default.svc.cluster.local AAAA');
      t.match(text, /AUTHORITY SECTION:\ncluster\.local\.\s+5\s+IN\s+SOA\s+ns\.dns\.cluster\.local\. .* 5\n/);
      t.match(text, /flags: qr aa rd;/);
    });

    await t.test('8: EDNS, and none for those who send none', async (t) => {
      t.match((await dig(web, RED, '+bufsize=4096 web.red.weft')).text, /EDNS: version: 0, flags:; udp: 1232/);
      t.notMatch((await dig(web, RED, '+noedns web.red.weft')).text, /EDNS/);
      t.match((await dig(web, RED, '+edns=1 +noednsnegotiation web.red.weft')).status, 'BADVERS');
      t.match((await dig(web, RED, '+opcode=update web.red.weft')).status, 'NOTIMP');
      t.match((await dig(web, RED, 'CH web.red.weft')).status, 'REFUSED');
      t.match((await dig(web, RED, '11.0.44.10.in-addr.arpa AXFR')).text, /Transfer failed/);
    });

    await t.test('8: over TCP, several questions a connection, and one in single bytes', async (t) => {
      t.equal(await said(stream(web, 'pipelined', RED, 'web.red.weft', '500')), '500', 'all that came before the end');
      t.equal(await said(stream(web, 'split', RED, 'web.red.weft')), '10.44.0.2');
    });

    await t.test(
      '8: clients that open a thousand connections, or send one byte a minute, take nothing from others',
      async (t) => {
        const greedy = await attach('greedy', 'red');
        const many = stream(greedy, 'many', RED, 'web.red.weft', '1000');
        const slow = stream(old, 'slow', RED, 'web.red.weft');
        const garbage = stream(old, 'garbage', RED, 'web.red.weft', '60');
        await said(many);
        for (let i = 0; i < 20; i++) t.match(await dig(web, RED, '+tcp web.red.weft'), { answers: ['10.44.0.2'] });
        t.equal(await said(stream(web, 'pipelined', RED, 'web.red.weft', '100')), '100');
        t.equal(await said(garbage), 'done');
        t.equal(await said(slow), 'closed', 'within seconds');
        t.match((await weft.status()).internal, { open: true });
        await weft.run('detach', 'greedy');
      },
    );

    await t.test('a client that asks as much as it can takes nothing from the others', async (t) => {
      const greedy = await attach('flood', 'red');
      const [before, flood] = [
        await weft.drops('web'),
        greedy.start([process.execPath, script('flood.mjs'), RED, 'web.red.weft']),
      ];
      const held = async (): Promise<number> => (await weft.drops('flood'))['rate_limit_sockets'] ?? 0;
      await until(async () => (await held()) > 0, { what: 'it is held back' });
      for (let i = 0; i < 20; i++) t.match(await dig(web, RED, '+tries=5 web.red.weft'), { answers: ['10.44.0.2'] });
      await flood.stop('SIGKILL');
      t.equal((await weft.drops('web'))['rate_limit_sockets'], before['rate_limit_sockets'], 'and nobody else');
      await weft.run('detach', 'flood');
    });

    const seed = process.env['SEED'] ?? String(process.pid);
    await t.test(`damaged questions, seed ${seed}`, async (t) => {
      const fuzz = web.start([process.execPath, script('fuzz.mjs'), RED, 'web.red.weft', seed, '1000']);
      t.match(await said(fuzz), /^\d+ damaged messages$/);
      t.match((await weft.status()).internal, { open: true });
      t.notMatch(weft.log(), /own sockets/, 'nothing was thrown');
    });

    await t.test('resolvers: glibc, musl, busybox and Node', async (t) => {
      const file = `/etc/netns/${web.name}/resolv.conf`;
      t.match(
        readFileSync(file, 'utf8'),
        /^nameserver 10\.44\.0\.1\nnameserver fd44::1\nsearch default\.svc\.cluster\.local svc\.cluster\.local cluster\.local red\.weft\noptions ndots:5$/m,
      );
      const within = async (of: Namespace, ...command: readonly string[]): Promise<string> => {
        const { stdout, stderr } = await weft.host.attempt(['ip', 'netns', 'exec', of.name, ...command]);
        return (stdout + stderr).trim();
      };
      const inside = (...command: readonly string[]): Promise<string> => within(web, ...command);
      const musl = join(lab.directory, 'musl-resolve');
      execFileSync('musl-gcc', ['-static', '-o', musl, script('musl-resolve.c')]);
      const lookup = `require('node:dns').lookup(process.argv[1], { family: 4 }, (e, ip) => console.log(e?.code ?? ip))`;
      const resolve = `require('node:dns').resolve4(process.argv[1], (e, all) => console.log(e?.code ?? all.join()))`;
      for (const name of ['web', 'web.red.weft']) {
        t.match(await inside('getent', 'ahostsv4', name), /^10\.44\.0\.2 /, `glibc, ${name}`);
        t.match(await inside('getent', 'ahostsv6', name), /^fd44::2 /, `glibc, ${name}`);
        t.same((await inside(musl, name)).split('\n').sort(), ['10.44.0.2', 'fd44::2'], `musl, ${name}`);
        t.equal(await inside(process.execPath, '-e', lookup, name), '10.44.0.2', `Node, as the C library, ${name}`);
      }
      const services = join(lab.directory, 'resolved.yaml');
      writeFileSync(
        services,
        `apiVersion: v1
kind: Service
metadata: { name: api, namespace: default }
spec: { selector: { app: web }, clusterIP: 10.96.7.8, ports: [{ port: 80, targetPort: 8080 }] }
`,
      );
      await weft.run('apply', '-f', services);
      const full = 'api.default.svc.cluster.local';
      await until(async () => (await dig(web, RED, full)).status === 'NOERROR', { what: 'the service is known' });
      for (const [of, network] of [
        [web, 'red'],
        [db, 'blue'],
      ] as const) {
        for (const name of ['api', 'api.default', 'api.default.svc', full]) {
          const what = `a service, ${name}, from ${network}`;
          t.match(await within(of, 'getent', 'ahostsv4', name), /^10\.96\.7\.8 /, `glibc, ${what}`);
          t.equal(await within(of, musl, name), '10.96.7.8', `musl, ${what}`);
          t.equal(await within(of, process.execPath, '-e', lookup, name), '10.96.7.8', `Node, ${what}`);
        }
        t.equal(await within(of, process.execPath, '-e', resolve, full), '10.96.7.8', 'Node’s own');
        t.match(await within(of, 'busybox', 'nslookup', full), /Address(?: 1)?: 10\.96\.7\.8/);
      }
      t.match(await inside('getent', 'hosts', '10.96.7.8'), /api\.default\.svc\.cluster\.local/);
      await weft.run('delete', '-f', services);
      t.equal(await within(db, musl, 'db'), '10.45.0.2', '1: musl finds the one address of a name without AAAA');
      t.match(await within(db, 'getent', 'hosts', 'db'), /^10\.45\.0\.2 /);
      t.match(await inside('getent', 'hosts', '10.44.0.3'), /old\.shop\.red\.weft/);
      t.equal(await inside(process.execPath, '-e', resolve, 'web.red.weft'), '10.44.0.2', 'Node’s own');
      t.match(await inside('busybox', 'nslookup', 'web.red.weft'), /Address(?: 1)?: 10\.44\.0\.2/);
      t.equal(await inside(musl, 'no.svc.cluster.local'), 'Name does not resolve');
    });

    await t.test('what changes is known at once, and all is known after a restart', async (t) => {
      const late = await attach('late', 'red', '--ip', '10.44.0.9');
      await until(async () => (await dig(web, RED, 'late.red.weft')).answers.includes('10.44.0.9'), {
        what: 'it has a name',
      });
      await weft.run('detach', 'late');
      await until(async () => (await dig(web, RED, 'late.red.weft')).status === 'NXDOMAIN', { what: 'it has none' });
      t.notOk(existsSync(`/etc/netns/${late.name}`), 'nor a resolv.conf');
      await weft.kill();
      await weft.start();
      await until(async () => (await weft.status()).internal?.open, { what: 'its sockets are open' });
      t.match(await dig(web, RED, 'old.shop.red.weft'), { answers: ['10.44.0.3'] });
      t.ok(existsSync(`/etc/netns/${web.name}/resolv.conf`));
    });

    await t.test('a resolv.conf that somebody else has written stays', async (t) => {
      const own = await lab.namespace('own');
      const file = `/etc/netns/${own.name}/resolv.conf`;
      mkdirSync(`/etc/netns/${own.name}`, { recursive: true });
      writeFileSync(file, 'nameserver 192.0.2.9\n');
      await weft.attach(own, { network: 'red' });
      await weft.run('detach', 'own');
      await attach('after', 'red');
      t.equal(readFileSync(file, 'utf8'), 'nameserver 192.0.2.9\n');
    });

    await t.test('what shows it', async (t) => {
      t.match(await weft.run('status'), /Own sockets:\s+open \(udp\/53, tcp\/53\)/);
      t.match(await weft.run('doctor'), /own sockets +ok +udp\/53, tcp\/53 at the gateways/);
    });
  });

  // The datapath has no part in it.
  if (datapath === 'native')
    t.test('names of others', { skip: needsRoot }, async (t) => {
      const lab = openLab(t);
      const { host, weft, attach } = await up(lab, datapath);
      const file = `/etc/netns/${host.name}/resolv.conf`;
      const servers = ['127.0.0.1', '127.0.0.2'].map((ip) =>
        host.start([process.execPath, script('name-server.mjs'), ip]),
      );
      for (const server of servers) t.equal(await said(server), 'ready');
      mkdirSync(`/etc/netns/${host.name}`, { recursive: true });
      writeFileSync(file, 'nameserver 127.0.0.53\nnameserver 10.47.0.1\nnameserver 127.0.0.1\nnameserver 127.0.0.2\n');
      await weft.start();
      await weft.createNetwork('open --subnet 10.47.0.0/24 --outside');
      const app = await attach('app', 'open', '--ip', '10.47.0.2');
      const asked = (of: string): string[][] =>
        servers.flatMap(({ lines }) =>
          lines.map(({ text }) => text.split(' ')).filter(([name]) => name!.toLowerCase() === of),
        );

      await names(t, { app, busy: await attach('busy', 'open') }, asked);

      await t.test('9: an alias that leads to such a name is answered as that name is', async (t) => {
        const aliases = { well: 'alias.example', gone: 'no.example', ill: 'broken.example' };
        const manifests = Object.entries(aliases).map(
          ([name, to]) =>
            `apiVersion: v1\nkind: Service\nmetadata: { name: ${name} }\nspec: { type: ExternalName, externalName: ${to} }\n`,
        );
        const services = join(lab.directory, 'aliases.yaml');
        writeFileSync(services, manifests.join('---\n'));
        await weft.run('apply', '-f', services);
        const of = (name: string) => dig(app, OPEN, `${name}.default.svc.cluster.local`);
        await until(async () => (await of('ill')).status !== 'NXDOMAIN', { what: 'they are known' });
        t.match(await of('well'), { status: 'NOERROR', answers: ['192.0.2.1', 'alias.example.'] });
        t.match(await of('gone'), { status: 'NXDOMAIN', answers: ['no.example.'] });
        t.match(await of('ill'), { status: 'SERVFAIL' });
      });

      await t.test('upstreams are read again when they change', async () => {
        // In place, since another file would not be seen behind the mount of `ip netns exec`.
        writeFileSync(file, 'nameserver 127.0.0.2\n');
        let count = 0;
        await until(async () => (await dig(app, OPEN, `brief.again${count++}.example`)).answers.includes('192.0.2.2'), {
          what: 'the other one is asked',
        });
      });

      await t.test('a server that no route leads to fails, and nothing else does', async (t) => {
        writeFileSync(file, 'nameserver 203.0.113.1\nnameserver 2001:db8::1\n');
        let count = 0;
        await until(async () => (await dig(app, OPEN, `brief.away${count++}.example`)).status === 'SERVFAIL', {
          what: 'nobody else is asked',
        });
        t.match(await dig(app, OPEN, 'app.open.weft'), { answers: ['10.47.0.2'] });
        writeFileSync(file, 'nameserver 203.0.113.1\nnameserver 127.0.0.2\n');
        await until(async () => (await dig(app, OPEN, `brief.back${count++}.example`)).answers.includes('192.0.2.2'), {
          what: 'the next one is asked',
        });
        t.notMatch(weft.log(), /not as they should be/);
      });
    });
}

async function names(
  t: Test,
  { app, busy }: { app: Namespace; busy: Namespace },
  asked: (of: string) => string[][],
): Promise<void> {
  await t.test('9: they are forwarded, with the case of the question, and remembered', async (t) => {
    const first = await dig(app, OPEN, 'Plain.EXAMPLE');
    t.match(first, { status: 'NOERROR', answers: ['192.0.2.1'] });
    t.match(first.text, /flags: qr rd ra;/);
    t.match(first.text, /^Plain\.EXAMPLE\.\s+300/m);
    t.match((await dig(app, OPEN, '+tcp pLAIN.example')).text, /^pLAIN\.example\.\s+(?:300|2\d\d)/m);
    t.equal(asked('plain.example').length, 1, 'asked once');
    t.match(await dig(app, OPEN, 'no.example'), { status: 'NXDOMAIN' });
    await dig(app, OPEN, 'no.example');
    t.equal(asked('no.example').length, 1, 'negative answers, too');
    await dig(app, OPEN, 'brief.example');
    await dig(app, OPEN, 'brief.example');
    t.equal(asked('brief.example').length, 2, 'what must not be kept is asked again');
  });

  await t.test('9: the size of the client, and TCP for what is truncated', async (t) => {
    await dig(app, OPEN, '+bufsize=1000 edns.example');
    t.equal(asked('edns.example')[0]![5], '1000');
    await dig(app, OPEN, '+noedns plain2.example');
    t.equal(asked('plain2.example')[0]![5], '-');
    t.equal((await dig(app, OPEN, 'large.example')).answers.length, 100, 'dig comes back over TCP');
    t.same(
      asked('large.example').map(([, , how]) => how),
      ['udp', 'tcp'],
      'and the answer is known by then',
    );
    t.match(await dig(app, OPEN, 'insistent.example'), { answers: ['192.0.2.1'] });
    t.same(
      asked('insistent.example').map(([, , how]) => how),
      ['udp', 'tcp'],
      'once, however often it says so',
    );
    const cut = await dig(app, OPEN, '+ignore +noedns wide.example');
    t.match(cut.text, /flags: qr tc rd ra;/);
    t.same(cut.answers, []);
    t.equal((await dig(app, OPEN, '+bufsize=1232 wide.example')).answers.length, 60);
  });

  await t.test('9: numbers and ports are random; what does not fit the question is not believed', async (t) => {
    for (let i = 0; i < 8; i++) await dig(app, OPEN, `brief.random.example`);
    const questions = asked('brief.random.example');
    t.equal(questions.length, 8);
    for (const column of [3, 4]) t.ok(new Set(questions.map((words) => words[column])).size > 6, `column ${column}`);
    t.match(await dig(app, OPEN, 'forged.example'), { answers: ['192.0.2.1'] });
  });

  await t.test('9: the next one is asked if one fails, refuses or is silent; in the end it is SERVFAIL', async (t) => {
    for (const name of ['sick', 'shy', 'half'])
      t.match(await dig(app, OPEN, `${name}.example`), { answers: ['192.0.2.2'] }, name);
    t.match(await dig(app, OPEN, 'broken.example'), { status: 'SERVFAIL' });
    t.match(await dig(app, OPEN, 'silent.example'), { status: 'SERVFAIL' });
    t.ok(asked('silent.example').length <= 3, 'at most three are asked');
  });

  await t.test('9: what name servers send that is no answer costs its question, and nothing else', async (t) => {
    for (let i = 0; i < 3; i++) t.match(await dig(app, OPEN, 'misplaced.example'), { status: 'SERVFAIL' });
    t.match(await dig(app, OPEN, 'app.open.weft'), { answers: ['10.47.0.2'] });
    t.match(await dig(app, OPEN, 'torrent.example'), { status: 'SERVFAIL' });
    const poured = asked('poured').map((words) => Number(words[5]));
    t.equal(poured.length, 1);
    t.ok(poured[0]! <= 16, `${poured[0]} MiB, no more than there is room for in the kernel`);
  });

  await t.test('9: one client has so many questions that wait, and others theirs', async (t) => {
    const waiting = stream(busy, 'waiting', OPEN, 'example', '200');
    t.equal(await said(waiting), 'done', 'those beyond are refused at once');
    t.match(await dig(app, OPEN, 'brief.calm.example'), { answers: ['192.0.2.1'] });
  });

  await t.test('5, 12: names of ours are never forwarded, whatever their type', async (t) => {
    const ours = [
      'x.svc.cluster.local',
      'app.open.weft',
      'no.weft',
      '9.0.47.10.in-addr.arpa',
      '1.1.168.192.in-addr.arpa',
    ];
    for (const name of ours) for (const type of ['A', 'TYPE65', 'DS']) await dig(app, OPEN, `${name} ${type}`);
    for (const name of ours) t.same(asked(name), [], name);
    await dig(app, OPEN, '8.8.8.8.in-addr.arpa PTR');
    t.equal(asked('8.8.8.8.in-addr.arpa').length, 1, 'others are');
    await app.attempt(['ip', 'netns', 'exec', app.name, 'getent', 'hosts', 'single']);
    t.same(
      [...new Set(asked('single').map(([name]) => name))],
      ['single'],
      'a single label, after the search has failed',
    );
  });

  await t.test('10: neither weft itself nor the stub of systemd is asked', async (t) => {
    t.match(await dig(app, OPEN, 'brief.loop.example'), { answers: ['192.0.2.1'] }, 'at once, from the first real one');
  });
}
