/**
 *   a program of the host ─► 127.0.0.1:18080 ─► weft0 ─► weft ─── web
 *
 * Published ports at the host's own loopback, as container runtimes have them: they answer the host, TCP and UDP, and nobody else,
 * and a program of the host that listens there comes first.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openLab, type Namespace } from '../support/lab.ts';
import { until, type Background } from '../support/process.ts';
import { outsideIps } from '../support/topology.ts';
import { datapathKinds, Weft } from '../support/weft.ts';

t.setTimeout(300_000);

const ECHO = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('0.0.0.0', 53))
while True:
  data, peer = s.recvfrom(100)
  s.sendto(data, peer)
`;
const ASK = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
s.sendto(b'hello', ('127.0.0.1', 18053))
print(s.recv(100).decode())
`;

/** What comes by a wire to 127.0.0.1, before anything is done with it. */
const SEEN = `table ip seen {
  chain received {
    type filter hook prerouting priority -400;
    iifname "eth0" ip daddr 127.0.0.1 counter
  }
}`;

/** There, 127.0.0.1 is the address of another machine. */
async function sendLoopbackTo(from: Namespace, gateway: string): Promise<void> {
  const settings = ['all.route_localnet=1', 'all.rp_filter=0', 'eth0.rp_filter=0'];
  await from.run(['sysctl', '-qw', ...settings.map((setting) => `net.ipv4.conf.${setting}`)]);
  await from.ip('address flush dev lo');
  await from.ip(`route add 127.0.0.1 via ${gateway}`);
}

for (const datapath of datapathKinds) {
  await t.test(`published ports at 127.0.0.1, ${datapath}`, async (t) => {
    const lab = openLab(t);
    const [host, client, web] = [
      await lab.namespace('host'),
      await lab.namespace('client'),
      await lab.namespace('web'),
    ];
    await lab.cable(client, 'eth0', host, 'eth0');
    await client.ip(`address add ${outsideIps.client.ip4}/24 dev eth0`);
    await host.ip(`address add ${outsideIps.host.ip4}/24 dev eth0`);
    const weft = await Weft.up(lab, host, 'host', { datapath });
    await weft.createNetwork('blue --subnet 10.44.0.0/24 --outside');
    await weft.attach(web, { network: 'blue', arguments: ['--publish', '18080:80', '--publish', '18053:53/udp'] });
    const serve = (text: string): string => {
      const folder = join(lab.directory, text);
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, 'index.html'), `${text}\n`);
      return folder;
    };
    web.start(['busybox', 'httpd', '-f', '-p', '80', '-h', serve('container')]);
    web.start(['python3', '-c', ECHO]);
    const get = async (address: string, from = host): Promise<string> =>
      (await from.attempt(['busybox', 'wget', '-q', '-O', '-', `http://${address}:18080/`])).stdout.trim();
    const answers = (what: string): Promise<unknown> =>
      until(async () => (await get('127.0.0.1')) === what, { what: `the ${what} answers` });

    await answers('container');
    t.equal(await get(outsideIps.host.ip4), 'container');
    t.equal(await get(outsideIps.host.ip4, client), 'container');
    await until(async () => (await host.attempt(['python3', '-c', ASK])).stdout === 'hello\n', { what: 'UDP, too' });
    t.equal(await get('127.0.0.2'), '', 'other addresses of the loopback are the host’s');

    const own = host.start(['busybox', 'httpd', '-f', '-p', '127.0.0.1:18080', '-h', serve('program')]);
    await answers('program');
    t.equal(await get(outsideIps.host.ip4), 'container', 'everywhere else it is the container');
    await own.stop('SIGTERM');
    await answers('container');

    // Whoever sends to 127.0.0.1 by a wire gets nothing, though it comes to the host.
    await host.run(['nft', '-f', '-'], { input: SEEN });
    const asking: Background[] = [];
    for (const [from, gateway] of [
      [client, outsideIps.host.ip4],
      [web, '10.44.0.1'],
    ] as const) {
      await sendLoopbackTo(from, gateway);
      asking.push(from.start(['busybox', 'wget', '-q', '-O', '-', 'http://127.0.0.1:18080/']));
    }
    await until(async () => /packets [1-9]/.test(await host.run(['nft', 'list', 'table', 'ip', 'seen'])), {
      what: 'it has come to the host',
    });
    await until(async () => ((await weft.drops('web'))['martian'] ?? 0) > 0, { what: 'weft has dropped it' });
    t.equal(await get(outsideIps.host.ip4, client), 'container', 'what is sent later is answered');
    for (const one of asking) {
      t.equal(one.stdout, '');
      await one.stop('SIGKILL');
    }

    await weft.run('detach', 'web');
    t.equal(await get('127.0.0.1'), '');
  });
}
