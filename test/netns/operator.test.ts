/**
 *   ┌ left ────────────────┐              ┌ right ───────────┐
 *   │ web, db ─ weft VXLAN─┼── underlay ──┼─VXLAN weft ─ api │
 *   └──────────────────────┘              └──────────────────┘
 *
 * An operator's first hour: the commands of the README in the order written, first on one host, then on two; what
 * changes when networks and endpoints are created again; and a host where another program uses UDP port 4789.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { until } from '../support/process.ts';
import { openLab, type Lab, type Namespace } from '../support/lab.ts';
import { underlay } from '../support/topology.ts';
import { ping } from '../support/traffic.ts';
import { needsRoot } from '../support/root.ts';
import { Weft } from '../support/weft.ts';

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
/** The commands of a section, block by block. */
function blocksOf(section: string): string[] {
  const text = readme.slice(readme.indexOf(`\n## ${section}`) + 1).split(/\n## /)[0]!;
  return [...text.matchAll(/```sh\n([^]*?)```/g)].map(([, block]) => block!);
}

/** The words of each command of a block, comments left out. */
function commandsOf(block: string): string[][] {
  const lines = block.split('\n').map((line) => line.replace(/\s*#.*$/, ''));
  return lines.filter((line) => line !== '').map((line) => line.split(' '));
}

/** Types the commands of the README on one host. Namespaces have the names of the lab. */
class Operator {
  readonly #lab: Lab;
  readonly #host: Namespace;
  readonly #name: string;
  readonly #config: string;
  readonly #namespaces = new Map<string, Namespace>();
  #weft: Weft | undefined;

  constructor(lab: Lab, host: Namespace, name: string, settings: string) {
    this.#lab = lab;
    this.#host = host;
    this.#name = name;
    this.#config = join(lab.directory, `${name}.yaml`);
    writeFileSync(this.#config, settings);
  }

  get weft(): Weft {
    return this.#weft!;
  }

  container(name: string): Namespace {
    return this.#namespaces.get(name)!;
  }

  /** Runs a block. @returns what each verb or program printed last */
  async follow(block: string): Promise<ReadonlyMap<string, string>> {
    const printed = new Map<string, string>();
    for (const [program, verb = '', ...rest] of commandsOf(block)) {
      const named = rest.map((word, at) => (rest[at - 1] === '--netns' ? this.container(word).name : word));
      const [action, space = '', ...command] = rest;
      if (program === 'weft' && verb === 'up') {
        const options = { datapath: 'native', arguments: [...rest, '--config', this.#config] } as const;
        this.#weft = await Weft.up(this.#lab, this.#host, this.#name, options);
      } else if (program === 'weft') {
        printed.set(verb, await this.weft.run(verb, ...named));
      } else if (action === 'add') {
        this.#namespaces.set(space, await this.#lab.namespace(space));
      } else {
        printed.set(command[0]!, await this.container(space).run(command));
      }
    }
    return printed;
  }
}

const OCCUPY =
  'import socket,sys; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(("",4789)); print(1,flush=True); sys.stdin.read()';
const mtuOf = async (namespace: Namespace): Promise<number> => {
  const [link] = JSON.parse(await namespace.run(['ip', '-j', 'link', 'show', 'eth0'])) as [{ mtu: number }];
  return link.mtu;
};

t.test('the commands of the README, and what changes afterwards', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const under = await underlay(lab, 'ipv4');
  const occupied = under.left.start(['python3', '-c', OCCUPY]);
  await until(() => occupied.lines.length > 0, { what: 'UDP port 4789 is taken' });
  const settings = 'vxlanPort: 8472\n';

  const [oneHost = ''] = blocksOf('A first network, on one host');
  const [service = ''] = blocksOf('A service');
  const [firstOfTwo = '', secondOfTwo = ''] = blocksOf('A second host');
  const left = new Operator(lab, under.left, 'left', settings);
  const alone = await left.follow(oneHost);
  t.match(alone.get('endpoints'), /^web +blue +10\.0\.0\.2,fd00:1::2 /m);
  t.match(alone.get('endpoints'), /^db +blue +10\.0\.0\.3,fd00:1::3 /m);
  t.match(alone.get('ping'), / 0% packet loss/);
  const web = left.container('web');
  t.match(await web.run(['ip', '-4', 'address', 'show', 'eth0']), /inet 10\.0\.0\.2\/24 brd 10\.0\.0\.255 /);

  const file = join(lab.directory, 'shop.yaml');
  writeFileSync(file, service.split("<<'END'\n")[1]!.split('\nEND\n')[0]!);
  await left.weft.run('apply', '-f', file);
  await left.weft.attach(web, {
    name: 'web',
    network: 'blue',
    arguments: ['--label', 'app=shop', '--port', 'http=8080'],
  });
  t.match(
    await left.weft.run('services', 'shop'),
    / 10\.0\.0\.2 +8080 +left +ready /,
    'what has its label and its port is behind it',
  );
  t.match(await left.weft.run('get', 'service', 'shop'), /10\.96\./);
  await left.weft.run('delete', 'service', 'shop');

  await left.follow(firstOfTwo);
  t.equal(await mtuOf(web), 1450, 'containers have the MTU that the tunnel leaves');
  const right = new Operator(lab, under.right, 'right', settings);
  const printed = await right.follow(secondOfTwo);
  t.match(printed.get('attach'), /^api +blue +10\.0\.0\.100,fd00:1::64 /m, 'IPv6 has its share, too');
  t.match(printed.get('ping'), / 0% packet loss/);
  const way = /VTEP 192\.0\.2\.1: UDP \d+ to 8472 by \S+, path MTU 1500\n/;
  t.match(printed.get('trace'), /Next hop: 10\.0\.0\.2 is at (\S+), as the container knows\n[^]* \1 is learned/);
  t.match(printed.get('trace'), way, 'it is followed to the peer');
  t.match(
    printed.get('trace'),
    /Then: if weft runs on 192\.0\.2\.1, that decides whether policies let it in, as it arrives/,
  );
  const asked = await right.weft.run('trace', 'in_port=api,icmp,ip_dst=10.0.0.77');
  t.match(asked, /Flow: .*arp.*\nNext hop: the container asks who has 10\.0\.0\.77 first/);
  const api = right.container('api');
  await ping(api, 'fd00:1::2');

  const again = (...more: string[]) => left.weft.attempt('network', 'create', 'blue', ...more);
  await t.test('ranges and MTU of a network change', async (t) => {
    t.match(await again('--range', '10.0.0.2-10.0.0.20', '--mtu', '1400'), { code: 0 });
    t.match((await left.weft.client.networks())[0], { vni: 100, mtu: 1400, free: { '10.0.0.0/24': 17 } });
    t.equal(await mtuOf(web), 1400, 'containers have the new MTU');
    t.match(await again('--range', '10.0.0.50-10.0.0.60'), {
      code: 1,
      stderr: /range 10\.0\.0\.50-10\.0\.0\.60 leaves out 10\.0\.0\.3 of endpoint "db" of this host: detach it first/,
    });
    await web.ip('link set eth0 mtu 1300');
    t.match(await again('--mtu', '1350'), { code: 0 });
    t.equal(await mtuOf(web), 1300, 'what the container has made smaller stays');
    await ping(api, '10.0.0.2');
  });

  await t.test('attaching again changes what it names', async (t) => {
    const attach = (...more: string[]) => left.weft.attach(web, { name: 'web', network: 'blue', arguments: more });
    await attach('--label', 'app=web', '--rate-limit', 'ingress=50mbit,egress=1gbit');
    t.match(await attach('--label', 'tier=front'), {
      labels: { app: 'web', tier: 'front' },
      rateLimit: { ingress: '50mbit', egress: '1gbit' },
    });
    t.same((await attach('--label', 'app-', '--rate-limit', 'ingress=none')).labels, { tier: 'front' });
    t.same((await attach()).rateLimit, { egress: '1gbit' });
    t.equal((await attach('--rate-limit', 'none')).rateLimit, undefined);
  });

  await t.test('a trace goes on behind weft0', async (t) => {
    const shop = await lab.namespace('shop');
    await left.weft.createNetwork('market --subnet 10.2.0.0/24 --vni 101 --range 10.2.0.10-10.2.0.20 --outside');
    await left.weft.attach(shop, { name: 'shop', network: 'market', arguments: ['--publish', '8080:80'] });
    const traced = (flow: string) => left.weft.run('trace', `in_port=shop,${flow}`);
    t.match(
      await traced('tcp,ip_dst=192.0.2.2,tcp_dst=443'),
      /Next hop: 10\.2\.0\.1, its gateway, is at [^]*Then: host: inet weft forward, from_weft: return[^]*masquerade to 192\.0\.2\.1, ports 52000-65535\nThen: host: out by under0\n$/,
    );
    t.match(
      await traced('tcp,ip_dst=192.0.2.1,tcp_dst=22'),
      /Then: host: inet weft input: drop, 192\.0\.2\.1 is this host/,
    );
    t.match(
      await traced('tcp,ip_dst=192.0.2.1,tcp_dst=8080'),
      /Then: host: inet weft publish: dnat to 169\.254\.77\.2, port 8080/,
    );
    t.match(await traced('icmp,ip_dst=192.0.2.2'), /Then: host: out by under0\n$/, 'a ping');
    const inward = 'in_port=outside,tcp,ip_src=192.0.2.2,ip_dst=169.254.77.2,tcp_dst=8080';
    t.notMatch(await left.weft.run('trace', inward), 'Then:', 'what comes from the host does not go back through it');
    t.match(await traced('tcp,ip_dst=198.51.100.1,tcp_dst=80'), /Then: host: no route to 198\.51\.100\.1/);
  });
});
