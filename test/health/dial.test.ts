/** Single checks against real servers on loopback: good, bad, silent and hostile ones. */
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import type { CheckTarget } from '../../src/health/checker.ts';
import { dial } from '../../src/health/dial.ts';

/** A server that does this with each connection. @returns its port */
async function serve(t: Test, onConnection: (socket: Socket) => void, address = '127.0.0.1'): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    onConnection(socket);
  });
  server.listen(0, address);
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** Sends this whatever is asked. */
const says = (text: string) => (socket: Socket) => void socket.once('data', () => socket.write(text));

const targetOf = (type: 'tcp' | 'http', l4Port: number, address = '127.0.0.1'): CheckTarget => ({
  ...{ id: 'x', owner: 'x', address, l4Port, type, path: '/healthz?full=1' },
  ...{ intervalMs: 1000, timeoutMs: 1000, failures: 1, successes: 1 },
});

/** The result of one check; `undefined` if it has succeeded. */
function check(type: 'tcp' | 'http', l4Port: number, address?: string): Promise<string | undefined> {
  return new Promise((resolve) => dial(targetOf(type, l4Port, address), resolve));
}

/** A port where nothing listens. */
async function closedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

t.test('TCP: a connection is enough, and is closed by a reset', async (t) => {
  for (const address of ['127.0.0.1', '::1']) {
    const closed: Promise<string>[] = [];
    const port = await serve(
      t,
      (socket) => {
        const how = new Promise<string>((resolve) => {
          socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
          socket.on('end', () => resolve('end'));
        });
        socket.resume();
        closed.push(how);
      },
      address,
    );
    t.equal(await check('tcp', port, address), undefined);
    t.same(await Promise.all(closed), ['ECONNRESET'], 'so neither end waits');
  }
  t.equal(await check('tcp', await closedPort()), 'refused');
});

t.test('HTTP: the status counts', async (t) => {
  let asked = '';
  const port = await serve(t, (socket) => {
    socket.once('data', (data) => {
      asked = data.toString();
      socket.write('HTTP/1.1 204 No Content\r\n\r\n');
    });
  });
  t.equal(await check('http', port), undefined);
  t.match(asked, /^GET \/healthz\?full=1 HTTP\/1\.1\r\n/);
  t.match(asked, new RegExp(`^host: 127\\.0\\.0\\.1:${port}\r$`, 'im'));
  t.match(asked, /^connection: close\r$/im);
  for (const [status, result] of [
    ['200 OK', undefined],
    ['302 Found', undefined],
    ['399 Odd', undefined],
    ['400 Bad Request', 'status 400'],
    ['503 Service Unavailable', 'status 503'],
  ] as const) {
    const text = `HTTP/1.1 ${status}\r\ncontent-length: 1000000\r\n\r\nno more than this`;
    t.equal(await check('http', await serve(t, says(text))), result, status);
  }
  const six = await serve(t, says('HTTP/1.0 200 OK\r\n\r\n'), '::1');
  t.equal(await check('http', six, '::1'), undefined, 'by IPv6');
  t.equal(await check('http', await serve(t, says('HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n'))), undefined);
});

t.test('HTTP: what is no good answer, in words of weft', async (t) => {
  t.equal(await check('http', await closedPort()), 'refused');
  t.equal(await check('http', await serve(t, says('SSH-2.0-evil\u001b[2J\r\n'))), 'not an HTTP answer');
  t.equal(await check('http', await serve(t, (socket) => socket.resetAndDestroy())), 'reset');
  t.equal(await check('http', await serve(t, (socket) => socket.end())), 'reset', 'closed without an answer');
  const upgrade = 'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n';
  t.equal(await check('http', await serve(t, says(upgrade))), 'status 101');
  const endless = await serve(t, (socket) => {
    socket.write('HTTP/1.1 200 OK\r\n');
    const more = (): void => {
      while (socket.writable && socket.write(`x: ${'y'.repeat(4000)}\r\n`));
    };
    socket.on('drain', more);
    more();
  });
  t.equal(await check('http', endless), 'not an HTTP answer', 'headers without end are not read to the end');
});

t.test('a check that is ended says nothing more, and leaves nothing', async (t) => {
  // TCP is over as soon as it is connected, so only HTTP can be ended later.
  let end = (): void => {};
  const closed = new Promise<void>((resolve) => {
    const silent = serve(t, (socket) => {
      socket.on('close', () => resolve());
      socket.resume();
      socket.once('data', () => end());
    });
    void silent.then((port) => {
      end = dial(targetOf('http', port), () => t.fail('it says that it is over'));
    });
  });
  await closed;
  end();
  for (const type of ['tcp', 'http'] as const) {
    const port = await serve(t, says('HTTP/1.1 200 OK\r\n\r\n'));
    dial(targetOf(type, port), () => t.fail('it says that it is over'))();
    t.equal(await check(type, port), undefined, 'one after it is not concerned');
  }
});
