/**
 *   ┌ host ───────────────────────────────────────────────────┐
 *   │ web  (red)          ─┐                                   │
 *   │ shop (blue)         ─┼─ weft ─ internal ─ echo server    │
 *   │ spy  (red, trusted) ─┘            a namespace of its own │
 *   └──────────────────────────────────────────────────────────┘
 *     red 10.44.0.0/24, fd44::/64; blue 10.45.0.0/24, fd45::/64
 *
 * Sockets of weft itself, at the addresses of the gateways: they answer, and know who asks.
 */
import { copyFileSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import t from 'tap';
import { Client } from '../../src/api/client.ts';
import { ECHO_PORT } from '../internal/port.ts';
import { bundled } from '../support/bundled.ts';
import { namespaceHolders, openLab, type Lab, type Namespace } from '../support/lab.ts';
import { run, until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { python } from '../support/traffic.ts';
import { datapathKinds, Weft, type DatapathKind } from '../support/weft.ts';

t.setTimeout(600_000);
t.jobs = datapathKinds.length;

const echo = fileURLToPath(new URL('../internal/echo.mjs', import.meta.url));
const script = bundled(new URL('../internal/daemon.process.ts', import.meta.url));

const gateways = { red: ['10.44.0.1', 'fd44::1'], blue: ['10.45.0.1', 'fd45::1'] } as const;
const protocols = ['udp', 'tcp'] as const;

function question(protocol: (typeof protocols)[number], to: string, message: string, ...more: string[]): string[] {
  return python('gateway_ask.py', protocol, to, ECHO_PORT, message, ...more);
}

async function ask(from: Namespace, ...asked: Parameters<typeof question>): Promise<string> {
  return (await from.run(question(...asked))).trim();
}

async function up(lab: Lab, datapath: DatapathKind, module = echo) {
  const host = await lab.namespace('host');
  const daemon = [process.execPath, script, '--module', pathToFileURL(module).href];
  const weft = await Weft.up(lab, host, 'host', { datapath, daemon });
  await weft.createNetwork('red --subnet 10.44.0.0/24 --subnet fd44::/64');
  await weft.createNetwork('blue --subnet 10.45.0.0/24 --subnet fd45::/64');
  const attach = async (role: string, network: string, ...more: readonly string[]): Promise<Namespace> => {
    const namespace = await lab.namespace(role);
    await weft.attach(namespace, { network, arguments: more });
    return namespace;
  };
  return { weft, attach };
}

interface Elsewhere {
  readonly id: string;
  readonly netns: string;
  readonly capabilities: string;
}

/** Threads of the process that are in another network namespace than it: their namespaces, and what they may do. */
function threadsElsewhere(pid: number): Elsewhere[] {
  const own = readlinkSync(`/proc/${pid}/ns/net`);
  return readdirSync(`/proc/${pid}/task`).flatMap((id) => {
    const netns = readlinkSync(`/proc/${pid}/task/${id}/ns/net`);
    const [, capabilities = ''] = /^CapPrm:\s*(\w+)$/m.exec(readFileSync(`/proc/${pid}/task/${id}/status`, 'utf8'))!;
    return netns === own ? [] : [{ id, netns, capabilities }];
  });
}

/** How many TCP connections the sockets of weft have. */
function establishedOf(pid: number): number {
  const [thread] = threadsElsewhere(pid);
  return [...readFileSync(`/proc/${pid}/task/${thread!.id}/net/tcp`, 'utf8').matchAll(/ 01 /g)].length;
}

t.test('no namespace can be created', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const socket = join(lab.directory, 'weft.sock');
  // A user namespace has limits of its own.
  const limits = 'echo 0 > /proc/sys/user/max_net_namespaces && exec "$@"';
  const arrange = ['unshare', '--user', '--map-root-user', '--net', 'sh', '-c', limits, 'sh'];
  const command = [process.execPath, script, '--module', pathToFileURL(echo).href, '--socket', socket];
  const state = ['--state', join(lab.directory, 'state'), '--host', 'host', '--datapath', 'native'];
  const daemon = lab.start([...arrange, ...command, ...state]);
  const client = new Client(socket);
  await until(async () => (await client.status()).forwarding, { what: `it forwards all the same\n${daemon.stderr}` });
  const why =
    'a network namespace of weft’s own cannot be created (ENOSPC): there are too many: raise sysctl user.max_net_namespaces';
  t.match((await client.status()).internal, { open: false, why });
  const raise = ['sh', '-c', 'echo 8 > /proc/sys/user/max_net_namespaces'];
  await run(['nsenter', '--user', '--preserve-credentials', `--target=${daemon.pid}`, ...raise]);
  await until(async () => (await client.status()).internal?.open, { what: `now there can be one\n${daemon.stderr}` });
  await daemon.stop('SIGTERM');
});

for (const datapath of datapathKinds) {
  t.test(`sockets at the gateway, ${datapath}`, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const { weft, attach } = await up(lab, datapath);
    const [web, shop] = [await attach('web', 'red'), await attach('shop', 'blue')];
    const spy = await attach('spy', 'red', '--trust');

    for (const protocol of protocols) {
      for (const [at, family] of ['IPv4', 'IPv6'].entries()) {
        t.equal(await ask(web, protocol, gateways.red[at]!, 'hello'), 'red web hello', `${protocol}, ${family}`);
        t.equal(await ask(shop, protocol, gateways.blue[at]!, 'hello'), 'blue shop hello', `${protocol}, ${family}`);
      }
    }

    await t.test('datagrams may be as large as UDP carries', async (t) => {
      for (const gateway of gateways.red) {
        t.equal((await ask(web, 'udp', gateway, '60000 bytes, please')).length, 60_000, `an answer from ${gateway}`);
        const large = 'x'.repeat(20_000);
        t.equal(await ask(web, 'udp', gateway, large), `red web ${large}`, `a question to ${gateway}`);
      }
      t.equal((await ask(web, 'tcp', gateways.red[0], '1200 bytes, please')).length, 1200);
    });

    await t.test('what is too large for a network is sent in smaller packets', async (t) => {
      await weft.createNetwork('small --subnet 10.46.0.0/24 --mtu 600');
      const narrow = await attach('narrow', 'small');
      for (const protocol of protocols) {
        t.equal((await ask(narrow, protocol, '10.46.0.1', '1000 bytes, please')).length, 1000, protocol);
      }
      t.equal((await ask(narrow, 'udp', '10.46.0.1', '5000 bytes, please')).length, 5000);
      await weft.run('detach', 'narrow');
    });

    await t.test('whoever forges an address is known all the same', async (t) => {
      for (const container of [web, spy]) {
        await container.ip('address add 10.44.0.99/24 dev eth0');
        await container.ip('address add fd44::99/64 dev eth0 nodad');
      }
      t.equal(await ask(spy, 'udp', gateways.red[0], 'hello', '10.44.0.99'), 'red spy hello');
      t.equal(await ask(spy, 'tcp', gateways.red[1], 'hello', 'fd44::99'), 'red spy hello');
      const forged = web.start(question('udp', gateways.red[0], 'hello', '10.44.0.99'));
      await until(async () => (await weft.drops('web'))['spoof_ip4'], { what: 'an untrusted container is stopped' });
      await forged.stop('SIGKILL');
    });

    await t.test('no other port of the gateway is open', async (t) => {
      for (const protocol of protocols) {
        const refused = await web.attempt(python('gateway_ask.py', protocol, gateways.red[0], ECHO_PORT + 1, 'hello'));
        t.same([refused.code, refused.stderr.trim()], [1, 'Connection refused'], protocol);
      }
    });

    await t.test('what shows it', async (t) => {
      const { internal, ports } = await weft.status();
      t.same(internal, { open: true, listening: ['udp/53', 'tcp/53'] });
      t.match(
        ports.find(({ name }) => name === 'internal'),
        { kind: 'internal', network: null },
      );
      t.match(await weft.run('status'), /Own sockets:\s+open \(udp\/53, tcp\/53\)/);
      const connections = (await weft.json('connections', '--endpoint', 'shop')) as object[];
      t.match(connections[0], { direction: 'gateway', network: 'blue', endpoint: 'shop', destination: /:53$/ });
      t.match(await weft.run('connections'), /\n\d+ of weft itself \(DNS, health checks\): --all shows them\n$/);
      t.match(await weft.run('connections', '--all'), / default\/shop \S+ +weft \S+:53 +- +- +/);
      t.match(
        await weft.run('trace', `in_port=web,udp,ip_dst=${gateways.red[0]},udp_dst=53`),
        /route +port 53 of the gateway is weft’s own .*\nbridge .*\nopen +a new connection/,
      );
    });

    await t.test('what serves them is a thread without rights, in a namespace that ends with the daemon', async (t) => {
      const threads = threadsElsewhere(weft.pid);
      t.equal(threads.length, 1);
      const { netns, capabilities } = threads[0]!;
      t.equal(Number.parseInt(capabilities, 16), 0);
      const shown = await run(['nsenter', `--net=/proc/${weft.pid}/task/${threads[0]!.id}/ns/net`, 'ss', '-uamn']);
      const buffers = [...shown.matchAll(/rb(\d+)/g)].map(([, bytes]) => Number(bytes));
      t.same(buffers, [8 << 20, 8 << 20], 'what many clients send at once has room, in both families');
      await weft.kill();
      await until(() => namespaceHolders(netns).length === 0, { what: 'nobody has the namespace' });
      await weft.start();
      t.equal(await ask(web, 'udp', gateways.red[0], 'again'), 'red web again');
      t.equal(await ask(shop, 'tcp', gateways.blue[1], 'again'), 'blue shop again');
    });

    await t.test('one client has its share of connections, which end with its endpoint', async (t) => {
      const greedy = await attach('greedy', 'red');
      const holding = greedy.start(python('hold_connections.py', gateways.red[0], ECHO_PORT, 80));
      await until(() => holding.lines.length > 0, { what: 'all are tried' });
      t.equal(holding.lines[0]!.text, '64');
      t.equal(await ask(web, 'tcp', gateways.red[0], 'hello'), 'red web hello', 'the others have theirs');
      await until(() => establishedOf(weft.pid) === 64, { what: 'those of the others have ended' });
      await weft.run('detach', 'greedy');
      await until(() => establishedOf(weft.pid) === 0, { what: 'they have ended' });
    });

    await t.test('a datagram from port 0 is not answered, and does no harm', async (t) => {
      const [{ id } = { id: '' }] = threadsElsewhere(weft.pid);
      for (const gateway of gateways.blue) {
        await shop.run(python('udp_from_port_zero.py', gateway, ECHO_PORT, 'late'));
        t.equal(await ask(shop, 'udp', gateway, 'late'), 'blue shop late', 'the one after it is answered');
      }
      t.same(
        threadsElsewhere(weft.pid).map((thread) => thread.id),
        [id],
        'by the same thread',
      );
    });

    await t.test('a server that throws, or whose thread ends, is not the end', async (t) => {
      const [thread] = threadsElsewhere(weft.pid);
      for (const what of ['fail', 'reject']) {
        const failing = web.start(question('udp', gateways.red[0], what));
        await until(() => weft.log().includes(`asked to ${what}`), { what: 'it is logged' });
        await failing.stop('SIGKILL');
        t.equal(await ask(shop, 'udp', gateways.blue[0], 'hello'), 'blue shop hello');
      }
      t.equal(threadsElsewhere(weft.pid)[0]?.id, thread?.id, 'the same thread answers');
      const ending = web.start(question('tcp', gateways.red[0], 'die'));
      await until(() => weft.log().includes('ended with code 7'), { what: 'that is logged, too' });
      await ending.stop('SIGKILL');
      await until(async () => (await weft.status()).internal?.open, { what: 'they are opened again' });
      t.equal(await ask(shop, 'udp', gateways.blue[0], 'hello'), 'blue shop hello');
      t.equal(threadsElsewhere(weft.pid).length, 1);
    });
  });

  t.test(`sockets that cannot be opened, ${datapath}`, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const module = join(lab.directory, 'late.mjs');
    const { weft, attach } = await up(lab, datapath, module);
    const web = await attach('web', 'red');
    t.match((await weft.status()).internal, { open: false, why: /weft’s own sockets cannot be opened: .*late\.mjs/ });
    t.match(await weft.run('status'), /Own sockets:\s+not open: weft’s own sockets cannot be opened/);
    const refused = await web.attempt(question('tcp', gateways.red[0], 'hello'));
    t.equal(refused.stderr.trim(), 'Connection refused', 'the gateway answers as if there were none');
    copyFileSync(echo, module);
    await until(async () => (await weft.status()).internal?.open, { what: 'they are opened as soon as they can be' });
    t.equal(await ask(web, 'tcp', gateways.red[0], 'hello'), 'red web hello');
  });
}
