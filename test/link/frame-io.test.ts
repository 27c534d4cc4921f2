/**
 * Frame I/O against the real kernel.
 *
 *   ┌ host1: process ┐ eth0 ── veth ── eth0 ┌ host2: process, or a kernel vxlan ┐
 *   └ 10.9.0.1 fd09::1                       └ 10.9.0.2 fd09::2
 *   ┌ box: TAPs that the processes open ┐
 */
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { ENTROPY_FIRST_PORT } from '../../src/flow/hash.ts';
import { openLab, type Lab, type Namespace } from '../support/lab.ts';
import { until, type Background } from '../support/process.ts';
import type { Request } from './frame-io.process.ts';
import { configureInterface } from '../../src/link/interface.ts';
import { resolveNetns } from '../../src/link/netns.ts';

const script = fileURLToPath(new URL('./frame-io.process.ts', import.meta.url));

interface Said {
  readonly reply?: { readonly created?: boolean; readonly reason?: string | null };
  readonly error?: { readonly code: string; readonly message: string };
  readonly event?: 'frame' | 'lost';
  readonly port?: number;
  readonly hex?: string;
  readonly source?: string;
  readonly why?: string;
}

class Io {
  readonly process: Background;
  #answered = 0;

  constructor(process: Background) {
    this.process = process;
  }

  said(): Said[] {
    return this.process.lines.map(({ text }) => JSON.parse(text) as Said);
  }

  events(kind: 'frame' | 'lost'): Said[] {
    return this.said().filter(({ event }) => event === kind);
  }

  async ask(request: Request): Promise<Said> {
    this.process.write(`${JSON.stringify(request)}\n`);
    const index = this.#answered++;
    return until(() => this.said().filter(({ event }) => event === undefined)[index], {
      what: `answer to ${request.op}\n${this.process.stderr}`,
    });
  }
}

const startIo = (host: Namespace): Io => new Io(host.start([process.execPath, '--import=tsx', script]));

async function twoHosts(lab: Lab): Promise<[Namespace, Namespace]> {
  const hosts: [Namespace, Namespace] = [await lab.namespace('host1'), await lab.namespace('host2')];
  await lab.cable(hosts[0], 'eth0', hosts[1], 'eth0');
  for (const [index, host] of hosts.entries()) {
    await host.ip(`address add 10.9.0.${index + 1}/24 dev eth0`);
    await host.ip(`address add fd09::${index + 1}/64 dev eth0 nodad`);
    // Otherwise a veth cable shows unfinished checksums.
    await host.run(['ethtool', '-K', 'eth0', 'tx', 'off']);
  }
  return hosts;
}

t.test('a TAP outlives a killed process with its addresses, and is attached again', async (t) => {
  const lab = openLab(t);
  const [host, box] = [await lab.namespace('host'), await lab.namespace('box')];
  const attach = { op: 'tap', port: 1, netns: box.path, ifname: 'eth0' } as const;

  const first = startIo(host);
  t.same((await first.ask(attach)).reply, { created: true });
  const ns = await resolveNetns({ netns: box.name });
  const addresses = [
    { ip: '10.1.0.5', prefixLength: 24 },
    { ip: 'fd00:1::5', prefixLength: 64 },
  ];
  await configureInterface(ns, { ifname: 'eth0', mac: '02:00:00:00:00:0a', mtu: 1450, addresses });
  t.same(await host.links(), [], 'nothing appears where the process runs');

  const second = startIo(host);
  const refused = await second.ask(attach);
  t.match(refused.error, { code: 'conflict', message: /^interface "eth0" in \S+ is in use by another program/ });
  await first.process.stop('SIGKILL');
  t.same(await box.links(), ['eth0']);
  t.same((await second.ask(attach)).reply, { created: false });
  const after = await box.ip('-br address show dev eth0 scope global');
  for (const { ip, prefixLength } of addresses) t.match(after, `${ip}/${prefixLength}`);

  t.same((await second.ask({ op: 'remove', port: 1, keep: false })).reply, {});
  t.same(await box.links(), []);
  second.process.end();
  t.equal(await second.process.wait(), 0);
});

t.test('a deleted interface is told; a deleted namespace dies when its port is removed', async (t) => {
  const lab = openLab(t);
  const [host, box] = [await lab.namespace('host'), await lab.namespace('box')];
  const io = startIo(host);
  await io.ask({ op: 'tap', port: 1, netns: box.path, ifname: 'eth0' });
  await io.ask({ op: 'tap', port: 2, netns: box.path, ifname: 'eth1' });
  await box.ip('link del eth0');
  await until(() => io.events('lost').length > 0, { what: 'lost port' });
  t.match(io.events('lost'), [{ port: 1, why: 'its interface was deleted' }]);
  t.same((await io.ask({ op: 'remove', port: 1, keep: true })).reply, {});

  // One end of a cable in the box: the other end goes when the box is really gone.
  await lab.cable(host, 'probe', box, 'probe');
  await lab.removeNamespace(box);
  t.ok((await host.links()).includes('probe'), 'the open TAP keeps it alive');
  t.same((await io.ask({ op: 'remove', port: 2, keep: true })).reply, {});
  await until(async () => !(await host.links()).includes('probe'), { what: 'the namespace is dead' });
});

t.test('refusals say what is wrong', async (t) => {
  const lab = openLab(t);
  const [host, box] = [await lab.namespace('host'), await lab.namespace('box')];
  const io = startIo(host);
  const error = async (request: Request): Promise<Said['error']> => (await io.ask(request)).error;
  t.match(await error({ op: 'tap', port: 1, netns: '/run/netns/no-such-one', ifname: 'eth0' }), {
    code: 'not_found',
    message: /^network namespace \/run\/netns\/no-such-one does not exist/,
  });
  t.match(await error({ op: 'tap', port: 1, netns: '/proc/self/ns/uts', ifname: 'eth0' }), { code: 'invalid' });
  t.match(await error({ op: 'tap', port: 1, netns: box.path, ifname: 'lo' }), {
    code: 'conflict',
    message: /^interface "lo" in \S+ exists already/,
  });
  t.match(await error({ op: 'tap', port: 1, netns: box.path, ifname: 'a%d' }), { code: 'invalid' });
  t.match(await error({ op: 'underlay', port: 2, local: '192.0.2.7', l4Port: 4789 }), {
    code: 'system',
    message: /^underlay address 192\.0\.2\.7 is not on this host/,
  });
  await host.ip('link add vx0 type vxlan id 7 dstport 4789');
  await host.ip('link set vx0 up');
  t.match(await error({ op: 'underlay', port: 2, local: '127.0.0.1', l4Port: 4789 }), {
    code: 'conflict',
    message: 'UDP port 4789 on 127.0.0.1 is in use by another program (a kernel vxlan device, or another switch)',
  });
  await host.ip('link del vx0');
  t.same((await io.ask({ op: 'underlay', port: 2, local: '127.0.0.1', l4Port: 4789 })).reply, {});
  t.same(
    (await io.ask({ op: 'underlay', port: 3, local: '::1', l4Port: 4789 })).reply,
    {},
    'the other family beside it',
  );
});

for (const [family, one, two] of [
  ['IPv4', '10.9.0.1', '10.9.0.2'],
  ['IPv6', 'fd09::1', 'fd09::2'],
] as const) {
  t.test(`the underlay carries datagrams over ${family}: DF, good checksums, entropy`, async (t) => {
    const lab = openLab(t);
    const [host1, host2] = await twoHosts(lab);
    const dump = host2.start(['tcpdump', '-i', 'eth0', '-nvvv', '-l', '--immediate-mode', 'udp and dst port 4789']);
    await dump.says('listening');
    const [io1, io2] = [startIo(host1), startIo(host2)];
    t.same((await io1.ask({ op: 'underlay', port: 9, local: one, l4Port: 4789 })).reply, {});
    t.same((await io2.ask({ op: 'underlay', port: 9, local: two, l4Port: 4789 })).reply, {});

    // A VXLAN header with VNI 7, and a broadcast frame of the local experimental type.
    const hex = `0800000000000700ffffffffffff02000000000188b5${'5a'.repeat(50)}`;
    for (const entropy of [0, 1, 1, 63, 64]) {
      t.equal((await io1.ask({ op: 'send', remote: two, entropy, hex })).reply?.reason, null);
    }
    await until(() => io2.events('frame').length >= 5, { what: 'five datagrams' });
    t.ok(io2.events('frame').every((frame) => frame.hex === hex && frame.port === 9));

    await until(() => (dump.stdout.match(/VXLAN/g) ?? []).length >= 5, { what: 'five in tcpdump' });
    t.equal((dump.stdout.match(/udp sum ok/g) ?? []).length, 5, 'UDP checksums');
    if (family === 'IPv4') t.equal((dump.stdout.match(/flags \[DF\]/g) ?? []).length, 5, 'DF');
    const sources = [...dump.stdout.matchAll(/\.(\d+) > \S+\.4789: /g)].map(([, port]) => Number(port));
    const [first, second, , last] = sources;
    t.same(sources, [first, second, second, last, first], 'a source port for each entropy');
    t.equal(new Set(sources).size, 3);
    t.ok(sources.every((port) => port >= ENTROPY_FIRST_PORT));

    t.equal(
      (await io1.ask({ op: 'send', remote: two, entropy: 0, hex: hex + '00'.repeat(1500) })).reply?.reason,
      'underlay_mtu',
    );
    t.equal(
      (await io1.ask({ op: 'send', remote: '203.0.113.1', entropy: 0, hex })).reply?.reason,
      'underlay_unreachable',
    );
  });
}

t.test('IPv6 datagrams with a zero UDP checksum are accepted', async (t) => {
  const lab = openLab(t);
  const [host1, host2] = await twoHosts(lab);
  const io = startIo(host1);
  await io.ask({ op: 'underlay', port: 9, local: 'fd09::1', l4Port: 4789 });
  await host2.ip('link add vx0 type vxlan id 7 local fd09::2 remote fd09::1 dstport 4789 udp6zerocsumtx');
  await host2.ip('address add 10.5.0.1/24 dev vx0');
  await host2.ip('link set vx0 up');
  await host2.attempt(['ping', '-c', '1', '-W', '1', '10.5.0.2']);
  const arp = (frame: Said): boolean => /^08000000000007.{16,18}.*0806/.test(frame.hex ?? '');
  await until(() => io.events('frame').some(arp), { what: 'the ARP request' });
});
