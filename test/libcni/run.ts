/**
 *   runtime.go with libcni ─► weft's plugin, then Debian's portmap and tuning ─► weft ─── c0 … c99
 *
 *     npm run test:cni -- [--containers 100]
 *
 * weft's CNI plugin with the library that runtimes use, as Debian has it: many containers at once, plugins behind it, what is done
 * twice, late or without a namespace, a broken interface, and a daemon that is not there. What that version of libcni cannot ask (GC,
 * STATUS), and each error code, is asked as it would.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import t from 'tap';
import { CniRuntime, type CniResult } from '../support/cni.ts';
import { openLab } from '../support/lab.ts';
import { run } from '../support/process.ts';
import { Weft } from '../support/weft.ts';

const PROGRAM = fileURLToPath(new URL('runtime.go', import.meta.url));
/** Of Debian's package containernetworking-plugins. */
const PLUGINS = '/usr/lib/cni';
const SYSCTL = 'net.ipv4.conf.all.log_martians';

const { values } = parseArgs({ options: { containers: { type: 'string', default: '100' } } });
const count = Number(values.containers);

interface Outcome {
  readonly container: string;
  readonly ms: number;
  readonly code: number;
  readonly msg: string;
  readonly result?: CniResult;
}

interface List {
  readonly plugins: readonly object[];
}

t.setTimeout(1_800_000);

await t.test('weft’s plugin and libcni', async (t) => {
  const lab = openLab(t);
  const host = await lab.namespace('host');
  const weft = await Weft.up(lab, host, 'host', { datapath: 'native' });
  await weft.createNetwork('blue --subnet 10.44.0.0/16 --subnet fd44::/64');
  const at = (name: string): string => join(lab.directory, name);
  for (const folder of ['plugins', 'cache']) mkdirSync(at(folder));
  await weft.run('cni', 'install', '--dir', at('plugins'));
  execFileSync('go', ['build', '-o', at('runtime'), PROGRAM], {
    env: { ...process.env, GO111MODULE: 'off', GOPATH: '/usr/share/gocode', GOCACHE: at('go'), CGO_ENABLED: '0' },
  });

  const own = JSON.parse(await weft.run('cni', 'config', 'blue')) as List;
  const [plugin] = own.plugins;
  const written = (name: string, plugins: readonly object[]): string => {
    writeFileSync(at(name), JSON.stringify({ ...own, plugins }));
    return at(name);
  };
  const alone = written('alone.conflist', [plugin!]);

  const ask = async (
    command: 'ADD' | 'CHECK' | 'DEL',
    containers: Readonly<Record<string, string>>,
    { list = alone, runtimeConfig = {} }: { readonly list?: string; readonly runtimeConfig?: object } = {},
  ): Promise<Outcome[]> => {
    const words = Object.entries(containers).map(([container, netns]) => `${container}=${netns}`);
    const all = [at('runtime'), command, list, at('cache'), `${at('plugins')}:${PLUGINS}`, ...words];
    const out = await run(host.inside(['env', `RUNTIME_CONFIG=${JSON.stringify(runtimeConfig)}`, ...all]));
    return JSON.parse(out) as Outcome[];
  };
  const one = async (...asked: Parameters<typeof ask>): Promise<Outcome> => (await ask(...asked))[0]!;
  const names = async (): Promise<string[]> => (await weft.client.endpoints()).map(({ name }) => name);

  await t.test(`ADD, CHECK and DEL of ${count} at once`, async (t) => {
    const containers: Record<string, string> = {};
    for (let i = 0; i < count; i++) containers[`c${i}`] = (await lab.namespace(`c${i}`)).path;
    for (const command of ['ADD', 'CHECK', 'DEL'] as const) {
      const began = performance.now();
      const outcomes = await ask(command, containers);
      const seconds = (performance.now() - began) / 1000;
      t.same(
        outcomes.filter(({ code, msg }) => code !== 0 || msg !== ''),
        [],
        `${command}: all succeed`,
      );
      t.comment(`${command}: ${count} at once in ${seconds.toFixed(2)} s`);
      if (command !== 'ADD') continue;
      const addresses = outcomes.flatMap(({ result }) => result!.ips.map(({ address }) => address));
      t.equal(new Set(addresses).size, 2 * count, 'each has its own addresses');
    }
    t.same(await names(), []);
  });

  const web = await lab.namespace('web');

  await t.test('before portmap and tuning in a chain', async (t) => {
    const { capabilities: _, ...bare } = plugin as { capabilities?: object };
    const list = written('chain.conflist', [
      bare,
      { type: 'portmap', capabilities: { portMappings: true }, snat: true },
      { type: 'tuning', sysctl: { [SYSCTL]: '1' } },
    ]);
    const runtimeConfig = { portMappings: [{ hostPort: 18080, containerPort: 80, protocol: 'tcp' }] };
    const added = await one('ADD', { web: web.path }, { list, runtimeConfig });
    t.match(added, { code: 0, msg: '', result: { interfaces: [{ name: 'eth0', sandbox: web.path }] } });
    t.equal((await web.run(['cat', `/proc/sys/${SYSCTL.replaceAll('.', '/')}`])).trim(), '1');
    t.match(await host.run(['iptables', '-t', 'nat', '-S']), /--to-destination 10\.44\.\d+\.\d+:80/);
    // Without portmap, which looks for its rules of IPv4 among those of IPv6 and fails, whatever is before it.
    const checked = written('checked.conflist', [bare, { type: 'tuning', sysctl: { [SYSCTL]: '1' } }]);
    t.match(await one('CHECK', { web: web.path }, { list: checked }), { code: 0, msg: '' });
    t.match(await one('DEL', { web: web.path }, { list, runtimeConfig }), { code: 0, msg: '' });
    t.same(await names(), []);
  });

  await t.test('DEL twice, and without a namespace', async (t) => {
    t.match(await one('ADD', { web: web.path }), { code: 0 });
    for (const netns of [web.path, web.path, '', '/run/netns/none']) {
      t.match(await one('DEL', { web: netns }), { code: 0, msg: '' }, JSON.stringify(netns));
    }
    t.match(await one('ADD', { web: web.path }), { code: 0 });
    t.match(await one('DEL', { web: '' }), { code: 0, msg: '' }, 'also as the first one');
    t.same(await names(), []);
    t.same(await web.links(), []);
  });

  await t.test('CHECK after a broken interface', async (t) => {
    await one('ADD', { web: web.path });
    await web.ip('link del eth0');
    const { code, msg } = await one('CHECK', { web: web.path });
    // The second one if the daemon has removed the endpoint already.
    const told = { 102: /^endpoint "cni-web": its interface eth0 is gone/, 3: /^container web has no eth0 of blue/ }[
      code
    ];
    t.match(msg, told ?? 'one of these');
    t.match(await one('DEL', { web: web.path }), { code: 0, msg: '' });
  });

  await t.test('GC with attachments of others', async (t) => {
    const [db, foreign] = [await lab.namespace('db'), await lab.namespace('foreign')];
    await ask('ADD', { web: web.path, db: db.path });
    await weft.attach(foreign, { name: 'foreign', network: 'blue' });
    const config = { cniVersion: '1.1.0', 'cni.dev/valid-attachments': [{ containerID: 'db', ifname: 'eth0' }] };
    t.match(await new CniRuntime(weft, at('plugins'), 'blue').call('GC', { config }), { code: 0 });
    t.same((await names()).sort(), ['cni-db', 'foreign']);
    await one('DEL', { db: db.path });
    await weft.run('detach', 'foreign');
  });

  await t.test('each error code', async (t) => {
    await one('ADD', { web: web.path }, { runtimeConfig: { ips: ['10.44.0.9'] } });
    const other = await lab.namespace('other');
    const refused = async (code: number, msg: RegExp, plugins: object, more: object = {}): Promise<void> => {
      const list = written(`${code}.conflist`, [{ ...plugin, ...plugins }]);
      t.match(await one('ADD', { other: other.path }, { list, ...more }), { code, msg }, String(code));
    };
    await refused(2, /"netwrok"/, { netwrok: 'blue' });
    await refused(7, /network "green" does not exist/, { network: 'green' });
    await refused(100, /10\.44\.0\.9 is taken/, {}, { runtimeConfig: { ips: ['10.44.0.9'] } });
    const range = { subnet: '10.44.0.0/16', rangeStart: '10.44.0.9', rangeEnd: '10.44.0.9' };
    await refused(101, /no free address/, {}, { runtimeConfig: { ipRanges: [[range]] } });
    t.match(await one('ADD', { other: '/run/netns/none' }), { code: 7, msg: /\/run\/netns\/none/ });
    await one('DEL', { web: web.path });
    // libcni refuses to ask these, or judges them itself.
    const runtime = new CniRuntime(weft, at('plugins'), 'blue');
    const asked = { container: 'other', netns: other.path };
    const config = { prevResult: {} };
    t.match(await runtime.call('ADD', { ...asked, config: { cniVersion: '0.1.0' } }), { said: { code: 1 } });
    t.match(await runtime.call('CHECK', { ...asked, config }), { said: { code: 3 } });
    t.match(await runtime.call('ADD', { container: 'other' }), { said: { code: 4, msg: /CNI_NETNS/ } });
    t.match(await runtime.execute({ CNI_COMMAND: 'ADD' }, 'x'.repeat((4 << 20) + 1)), {
      said: { code: 5, msg: /4 MiB/ },
    });
    t.match(await runtime.execute({ CNI_COMMAND: 'ADD' }, `{"socket":"${weft.socket}"`), { said: { code: 6 } });
    t.same(await names(), []);
  });

  await t.test('without a daemon', async (t) => {
    await one('ADD', { web: web.path });
    await weft.stop();
    const runtime = new CniRuntime(weft, at('plugins'), 'blue');
    t.match(await runtime.call('STATUS', { config: { cniVersion: '1.1.0' } }), { said: { code: 50 } });
    const other = await lab.namespace('late');
    t.match(await one('ADD', { late: other.path }), { code: 11, msg: /weft does not answer at/ });
    t.match(await one('CHECK', { web: web.path }), { code: 11 });
    t.match(await one('DEL', { web: web.path }), { code: 0, msg: '' });
    t.same(await web.links(), [], 'its interface is gone');
  });
});
