/** Ports that programs listen on; here they are sockets of this process. */
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { copyFileSync, readFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { findListener, loopbackPorts } from '../../src/link/listeners.ts';
import { until } from '../support/process.ts';

async function listen(t: Test, host: string): Promise<number> {
  const server = createServer().listen(0, host);
  await once(server, 'listening');
  t.teardown(() => server.close());
  return (server.address() as AddressInfo).port;
}

/** Nothing listens there by now. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '0.0.0.0');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function hex(l4Port: number): string {
  return l4Port.toString(16).toUpperCase().padStart(4, '0');
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

t.test('a socket by which podman reserves a port is no listener', async (t) => {
  const [port, other] = [await freePort(), await freePort()];
  const held = { protocol: 'TCP', l4Port: port, family: 4 } as const;
  // The kernel calls a process like its file.
  const run = async (name: string, l4Port: number): Promise<void> => {
    const program = join(t.testdirName, name);
    copyFileSync('/usr/bin/busybox', program);
    const holder = spawn(program, ['-l', '-p', String(l4Port)], { argv0: 'nc', stdio: 'ignore' });
    t.teardown(() => holder.kill());
    await until(() => readFileSync(`/proc/net/tcp6`, 'utf8').includes(`:${hex(l4Port)} `), { what: `${name} listens` });
  };
  t.testdir();
  await run('conmon', port);
  await run('sshd', other);
  t.equal(findListener(held), undefined);
  t.equal(findListener({ ...held, l4Port: other }), '::');
});

t.test('ports at 127.0.0.1 are of programs that listen there and nowhere else', async (t) => {
  const [own, any, other] = [await listen(t, '127.0.0.1'), await listen(t, '0.0.0.0'), await listen(t, '127.0.0.2')];
  const udp = await bind(t, 'udp4', '127.0.0.1');
  const found = await loopbackPorts();
  t.ok(found.has(`${own}/tcp`) && found.has(`${udp}/udp`));
  t.notOk(found.has(`${any}/tcp`) || found.has(`${other}/tcp`));
});

t.test('what listens on the loopback alone is in nobody’s way', async (t) => {
  for (const [host, family] of [
    ['127.0.0.1', 4],
    ['::1', 6],
  ] as const) {
    t.equal(findListener({ protocol: 'TCP', l4Port: await listen(t, host), family }), undefined);
  }
});
