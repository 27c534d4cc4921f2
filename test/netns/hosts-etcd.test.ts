/**
 *   ┌ a ─────────┐   ┌ b ─────────┐   ┌ c ────────┐
 *   │ web, red   │   │ db         │   │ app       │
 *   └─ .1 ───────┘   └─ .2 ───────┘   └─ .3 ──────┘
 *         └───── 192.0.2.0/24, one bridge ┴── etcd (.100)
 *
 * Hosts that share a store: all that one of them declares is in force on all, MACs and addresses are known everywhere so
 * that no ARP and no neighbor discovery crosses the tunnel, and a host must own the workload that it speaks for.
 */
import { readdirSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { formatMac, type Vni } from '../../src/flow/types.ts';
import { gatewayMac } from '../../src/table/topology.ts';
import { etcdAddress, etcdCluster } from '../support/cluster.ts';
import { openLab } from '../support/lab.ts';
import { attempt, run, until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { underlayLink } from '../support/topology.ts';
import { ping, stream } from '../support/traffic.ts';
import { datapathKinds, type Weft } from '../support/weft.ts';
import { captureVxlan } from '../support/wire-capture.ts';

t.setTimeout(300_000);

for (const datapath of datapathKinds) {
  await t.test(datapath, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const cluster = await etcdCluster(lab, 3);
    const [hostA, hostB, hostC] = cluster.hosts;
    const [a, b, c] = (await cluster.up(datapath)) as [Weft, Weft, Weft];
    await a.createNetwork('blue --subnet 10.44.0.0/24 --subnet fd44::/64');
    await a.createNetwork('red --subnet 10.45.0.0/24');
    const route = (from: string, to: string, subnet: string) =>
      JSON.stringify({
        apiVersion: 'weft.dev/v1',
        kind: 'Network',
        metadata: { name: from },
        spec: {
          subnets: from === 'blue' ? ['10.44.0.0/24', 'fd44::/64'] : ['10.45.0.0/24'],
          routes: [{ to: subnet, network: to }],
        },
      });
    const attach = async (weft: Weft, name: string, network = 'blue', ...more: string[]) => {
      const namespace = await lab.namespace(name);
      const report = await weft.attach(namespace, { name, network, arguments: more });
      return { namespace, ip4: report.addresses[0]!, ip6: report.addresses[1] ?? '', mac: report.mac };
    };

    await t.test('what one host declares is in force on all when it was waited for', async (t) => {
      const file = `${lab.directory}/routes.yaml`;
      writeFileSync(file, `${route('blue', 'red', '10.45.0.0/24')}\n---\n${route('red', 'blue', '10.44.0.0/24')}\n`);
      const { stdout, code } = await a.attempt('apply', '-f', file, '--wait=30s');
      t.equal(code, 0);
      t.match(stdout, /in force on a, b, c\n$/);
      for (const weft of [b, c]) t.equal((await weft.client.networks()).length, 2);
      t.same((await a.status()).registration, { state: 'registered' });
      t.same((await a.status()).peers, ['192.0.2.2', '192.0.2.3']);
    });

    await t.test('they probe each other with the key of the store', async (t) => {
      for (const weft of [a, b, c]) {
        await until(async () => (await weft.client.hosts()).every(({ state }) => state === 'up'), {
          what: 'all peers are up',
        });
      }
      t.match(await a.run('hosts', '-o', 'name'), 'host/b\nhost/c\n');
      t.match(await a.run('describe', 'host', 'b'), /Status:\n[^]* state: +up\n[^]* inForce: +state=in force,/);
      t.match(await a.attempt('delete', 'host', 'd'), {
        code: 1,
        stderr: /"d" does not exist: `weft get hosts` shows/,
      });
      t.same(
        (await a.client.hosts()).map(({ name, why }) => [name, why]),
        [
          ['b', undefined],
          ['c', undefined],
        ],
      );
    });

    const web = await attach(a, 'web');
    const red = await attach(a, 'red', 'red');
    const db = await attach(b, 'db', 'blue', '--wait');
    const app = await attach(c, 'app', 'blue', '--wait');

    await t.test('containers of all hosts talk, and neither ARP nor ND crosses the tunnel', async (t) => {
      t.equal(new Set([web, db, app].flatMap(({ ip4, ip6 }) => [ip4, ip6])).size, 6, 'addresses of their own');
      const datagrams = await captureVxlan(lab, hostA!.namespace, underlayLink, 5000, async () => {
        for (const from of [web, db, app]) {
          const others = [web, db, app].filter((to) => to !== from);
          await Promise.all(others.flatMap(({ ip4, ip6 }) => [ping(from.namespace, ip4), ping(from.namespace, ip6)]));
        }
        await ping(red.namespace, db.ip4);
        await ping(db.namespace, red.ip4);
      });
      t.ok(datagrams.length > 20, `${datagrams.length} datagrams`);
      const unwanted = datagrams.filter(({ inner }) => /ARP|neighbor|router|HBH|broadcast/i.test(inner));
      t.same(unwanted.slice(0, 3), []);
      await stream(web.namespace, db.namespace, db.ip4, { bytes: 10_000_000 });
      t.same((await a.status()).fdb.learned, {}, 'nothing has to be learned');
      t.same((await b.status()).fdb.learned, {});
    });

    await t.test('an endpoint of another host is shown where it is, labelled and deleted from any host', async (t) => {
      const shown = await a.run('get', 'endpoint', 'db', '-o', 'yaml');
      t.match(shown, /host: b\n/);
      t.notMatch(shown, /netns/);
      await a.run('label', 'endpoint', 'db', 'tier=data');
      await until(async () => (await b.run('get', 'endpoint', 'db', '-o', 'yaml')).includes('tier: data'), {
        what: 'the label',
      });
      const gone = await attach(b, 'gone');
      await a.run('delete', 'endpoint', 'gone');
      await until(async () => (await gone.namespace.links()).length === 0, {
        what: 'its host takes its interface away',
      });
    });

    await t.test('a host must own the workload that it speaks for', async (t) => {
      const { vni } = (await a.client.networks()).find(({ name }) => name === 'blue')!;
      const gateway = formatMac(gatewayMac(vni as Vni));
      // What somebody could send who has taken over host b.
      const forged = (sourceMac: string, source: string) => [
        'python3',
        '-c',
        `
import socket, struct
mac = lambda text: bytes.fromhex(text.replace(':', ''))
ip = lambda text: socket.inet_aton(text)
def checksum(b):
    s = sum(struct.unpack('!%dH' % (len(b) // 2), b)); s = (s >> 16) + (s & 0xffff); return ~(s + (s >> 16)) & 0xffff
head = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 28, 0, 0, 64, 17, 0, ip('${source}'), ip('${web.ip4}'))
head = head[:10] + struct.pack('!H', checksum(head)) + head[12:]
frame = mac('${web.mac}') + mac('${sourceMac}') + b'\\x08\\x00' + head + struct.pack('!HHHH', 7, 7, 8, 0)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('192.0.2.2', 0))
s.sendto(struct.pack('!II', 0x08000000, VNI << 8) + frame, ('192.0.2.1', 4789))
`.replace('VNI', String(vni)),
      ];
      const before = (await a.drops())['vtep_not_owner'] ?? 0;
      await hostB!.namespace.run(forged(app.mac, app.ip4));
      await hostB!.namespace.run(forged(db.mac, app.ip4));
      await hostB!.namespace.run(forged(gateway, app.ip4));
      await hostB!.namespace.run(forged('02:00:00:00:00:99', db.ip4));
      await until(async () => ((await a.drops())['vtep_not_owner'] ?? 0) === before + 4, {
        what: 'all four are refused',
      });
      await hostB!.namespace.run(forged(db.mac, db.ip4));
      await hostB!.namespace.run(forged(gateway, db.ip4));
      t.equal((await a.drops())['vtep_not_owner'], before + 4, 'what it owns is not');
    });

    await t.test('a second host with the name, id or address of another one is refused', async (t) => {
      const refused = async (name: string, underlay: string, state?: string) => {
        const words = a.upCommand();
        const [command = '', ...rest] = words.map((word, at) => {
          const option = words[at - 1];
          if (option === '--socket') return `${word}.second`;
          if (option === '--state') return state ?? `${lab.directory}/second-${name}-${underlay}`;
          if (option === '--host') return name;
          return option === '--underlay' ? underlay : word;
        });
        return attempt([command, ...rest]);
      };
      t.match(await refused('b', '192.0.2.50'), {
        code: 1,
        stderr: /the name "b" belongs to another host \(id .*, underlay 192\.0\.2\.2, .*--host/,
      });
      t.match(await refused('x', '192.0.2.2'), {
        code: 1,
        stderr: /underlay 192\.0\.2\.2 belongs to host "b" .*--underlay/,
      });
      await run(['cp', '-r', b.state, `${lab.directory}/copy`]);
      t.match(await refused('x', '192.0.2.50', `${lab.directory}/copy`), {
        code: 1,
        stderr: /the id of host "b" .* is a copy/,
      });
      t.match(await refused('b', '192.0.2.50', `${lab.directory}/copy`), {
        code: 1,
        stderr: /host "b" .* runs already, .* is a copy/,
      });
      t.same((await a.status()).peers, ['192.0.2.2', '192.0.2.3']);
      const left = readdirSync(lab.directory).filter((name) => name.includes('.second'));
      t.same(left, [], 'none of them leaves anything beside its socket');
    });

    await t.test('kill -9 and restart is no clash', async () => {
      await b.kill();
      await b.start();
      await ping(web.namespace, db.ip4);
    });

    await t.test('a host that is cut off from the store is named, and the change stays', async (t) => {
      await cluster.cut(hostC!, [etcdAddress]);
      const file = `${lab.directory}/pink.yaml`;
      writeFileSync(
        file,
        JSON.stringify({
          apiVersion: 'weft.dev/v1',
          kind: 'Network',
          metadata: { name: 'pink' },
          spec: { subnets: ['10.47.0.0/24'] },
        }),
      );
      const waited = await a.attempt('apply', '-f', file, '--wait=1s');
      t.equal(waited.code, 1);
      t.match(waited.stderr, /in force here, but after 1 s not everywhere: host "c" lags behind/);
      t.ok(
        (await a.client.networks()).some(({ name }) => name === 'pink'),
        'the change stays',
      );
      await ping(web.namespace, app.ip4);
      await cluster.mend(hostC!);
      await until(async () => (await c.client.networks()).some(({ name }) => name === 'pink'), { what: 'c follows' });
      t.match(await a.attempt('apply', '-f', file, '--wait'), { code: 0, stdout: /in force on a, b, c\n$/ });
    });

    await t.test('a host is deleted with all that it has, once it does not run', async (t) => {
      t.match(await a.attempt('delete', 'host', 'c'), {
        code: 1,
        stderr: /host "c" runs since .*`weft down` there first/,
      });
      await c.stop();
      let deleted = '';
      await until(async () => (deleted = (await a.attempt('delete', 'host', 'c')).stdout) !== '', {
        what: 'it does not run any more',
      });
      t.match(deleted, /^host\/c deleted\n  with it: endpoint "app", .*address block \S+ of network "blue".*\n$/);
      t.notMatch(await cluster.etcd.ctl(['get', '--prefix', 'weft/']), /"host":"c"/);
      t.notMatch(await a.run('endpoints'), /app/);
      t.same((await a.status()).peers, ['192.0.2.2']);
    });

    await t.test('weft down --purge takes a host out of the store with all that it has', async (t) => {
      await b.run('down', '--purge');
      await b.ended();
      await until(async () => (await a.status()).peers.length === 0, { what: 'it is gone' });
      t.notMatch(await cluster.etcd.ctl(['get', '--prefix', 'weft/']), /"host":"b"/);
      t.same(await db.namespace.links(), []);
    });
  });
}
