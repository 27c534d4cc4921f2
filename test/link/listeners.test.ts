/** Ports that programs listen on; here they are sockets of this process. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { findListener } from '../../src/link/listeners.ts';

async function listen(t: Test, host: string): Promise<number> {
  const server = createServer().listen(0, host);
  await once(server, 'listening');
  t.teardown(() => server.close());
  return (server.address() as AddressInfo).port;
}

async function bind(t: Test, type: 'udp4' | 'udp6', host: string): Promise<number> {
  const socket = createSocket({ type, ipv6Only: type === 'udp6' });
  socket.bind(0, host);
  await once(socket, 'listening');
  t.teardown(() => socket.close());
  return socket.address().port;
}

t.test('a listener is found by its port, protocol and family', async (t) => {
  const l4Port = await listen(t, '0.0.0.0');
  t.equal(findListener({ protocol: 'TCP', l4Port, family: 4 }), '0.0.0.0');
  t.equal(findListener({ protocol: 'TCP', l4Port, family: 4, ip: '192.0.2.1' }), '0.0.0.0');
  t.equal(findListener({ protocol: 'TCP', l4Port, family: 6 }), undefined);
  t.equal(findListener({ protocol: 'UDP', l4Port, family: 4 }), undefined);

  const udp = await bind(t, 'udp4', '0.0.0.0');
  t.equal(findListener({ protocol: 'UDP', l4Port: udp, family: 4 }), '0.0.0.0');
});

t.test('a socket of IPv6 on any address is one of IPv4 too', async (t) => {
  const l4Port = await listen(t, '::');
  for (const family of [4, 6] as const) t.equal(findListener({ protocol: 'TCP', l4Port, family }), '::');
  t.equal(findListener({ protocol: 'TCP', l4Port, family: 6, ip: '2001:db8::1' }), '::');
});

t.test('what listens on the loopback alone is in nobody’s way', async (t) => {
  for (const [host, family] of [
    ['127.0.0.1', 4],
    ['::1', 6],
  ] as const) {
    t.equal(findListener({ protocol: 'TCP', l4Port: await listen(t, host), family }), undefined);
  }
});
