/** The TCP address of metrics: what is answered there, and that clients can neither hold it up nor use it up. */
import { once } from 'node:events';
import { request } from 'node:http';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { ANSWER_LOOKS, MetricsServer, MOST_CONNECTIONS, type MetricsServerReport } from '../../src/metrics/server.ts';
import type { MetricsFormat } from '../../src/metrics/metrics.ts';
import { until } from '../support/process.ts';

interface Opened {
  readonly server: MetricsServer;
  readonly port: number;
  readonly changes: MetricsServerReport[];
}

/** A free port; another process could take it before it is used, which would fail the test. */
async function freePort(host: string): Promise<number> {
  const server = createServer().listen(0, host);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function open(t: Test, text: string | (() => Promise<string>), host = '127.0.0.1'): Promise<Opened> {
  const port = await freePort(host);
  const changes: MetricsServerReport[] = [];
  const server = new MetricsServer({
    address: { host, port },
    metrics: {
      text: async (format: MetricsFormat) => ({
        contentType: `text/plain; of=${format}`,
        text: typeof text === 'string' ? text : await text(),
      }),
    },
    onChange: (state) => changes.push(state),
    onInternal: (error) => changes.push({ address: '', open: false, why: String(error) }),
  });
  t.teardown(() => server.close());
  server.keep();
  await until(() => server.report()?.open, { what: 'it listens' });
  return { server, port, changes };
}

interface Answer {
  readonly status: number | undefined;
  readonly type: string | undefined;
  readonly text: string;
}

function ask(port: number, path: string, { method = 'GET', host = '127.0.0.1', accept = '*/*' } = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request({ host, port, path, method, headers: { accept }, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.on('end', () => {
        resolve({ status: response.statusCode, type: response.headers['content-type'], text });
      });
    });
    asked.on('error', reject);
    asked.end();
  });
}

t.test('only metrics are answered, and they can only be read', async (t) => {
  const { port, server, changes } = await open(t, 'weft_up 1\n');
  t.same(server.report(), { address: `127.0.0.1:${port}`, open: true });
  t.same(changes, [{ address: `127.0.0.1:${port}`, open: true }]);
  t.same(await ask(port, '/metrics'), { status: 200, type: 'text/plain; of=prometheus', text: 'weft_up 1\n' });
  const accept = 'application/openmetrics-text; version=1.0.0';
  t.match(await ask(port, '/metrics?a=b', { accept }), { status: 200, type: 'text/plain; of=openmetrics' });
  t.match(await ask(port, '/metrics', { method: 'HEAD' }), { status: 200, text: '' });
  for (const method of ['POST', 'DELETE', 'PUT', 'OPTIONS'])
    t.match(await ask(port, '/metrics', { method }), { status: 405 }, method);
  for (const path of ['/', '/v1/status', '/v1/shutdown', '/v1/metrics', '/metrics/', '//metrics', '/../metrics'])
    t.match(await ask(port, path), { status: 404 }, path);
  t.match(await ask(port, '/v1/shutdown', { method: 'POST' }), { status: 404 });
});

t.test('IPv6', async (t) => {
  const { port, server } = await open(t, 'weft_up 1\n', '::1');
  t.same(server.report(), { address: `[::1]:${port}`, open: true });
  t.match(await ask(port, '/metrics', { host: '::1' }), { status: 200 });
});

t.test('without an address there is nothing', async (t) => {
  const server = new MetricsServer({
    address: undefined,
    metrics: { text: () => Promise.reject(new Error('unused')) },
    onChange: () => t.fail('nothing changes'),
    onInternal: () => t.fail('nothing fails'),
  });
  server.keep();
  t.equal(server.report(), null);
  server.close();
});

t.test('a port that is taken, or an address that is not there, is told once and tried again', async (t) => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as AddressInfo;
  const changes: MetricsServerReport[] = [];
  const server = new MetricsServer({
    address: { host: '127.0.0.1', port },
    metrics: { text: async () => ({ contentType: 'text/plain', text: 'weft_up 1\n' }) },
    onChange: (state) => changes.push(state),
    onInternal: () => t.fail('nothing fails'),
  });
  t.teardown(() => server.close());
  for (let n = 1; n <= 3; n++) {
    server.keep();
    await until(() => server.report()?.why, { what: 'the reason' });
  }
  const address = `127.0.0.1:${port}`;
  t.same(server.report(), { address, open: false, why: 'another program has this port' });
  other.close();
  await once(other, 'close');
  await until(
    () => {
      server.keep();
      return server.report()?.open;
    },
    { what: 'it is opened' },
  );
  t.match(await ask(port, '/metrics'), { status: 200 });
  t.same(changes, [
    { address, open: false, why: 'another program has this port' },
    { address, open: true },
  ]);

  const nowhere = new MetricsServer({
    address: { host: '192.0.2.250', port: 9464 },
    metrics: { text: () => Promise.reject(new Error('unused')) },
    onChange: () => {},
    onInternal: () => t.fail('nothing fails'),
  });
  t.teardown(() => nowhere.close());
  nowhere.keep();
  await until(() => nowhere.report()?.why, { what: 'the reason' });
  t.same(nowhere.report(), { address: '192.0.2.250:9464', open: false, why: 'this host does not have the address' });
});

t.test('clients that say nothing keep nobody out', async (t) => {
  const { port } = await open(t, 'weft_up 1\n');
  const idle = await Promise.all(
    Array.from({ length: MOST_CONNECTIONS * 2 }, async () => {
      const socket = connect(port, '127.0.0.1').on('error', () => {});
      await once(socket, 'connect');
      return socket;
    }),
  );
  t.match(await ask(port, '/metrics'), { status: 200 });
  const ended = idle.slice(0, MOST_CONNECTIONS);
  await until(() => ended.every((socket) => socket.closed), { what: 'those that have been idle longest are ended' });
  for (const socket of idle) socket.destroy();
});

t.test('clients that do not take their answers lose their connections', async (t) => {
  const { port, server } = await open(t, 'x'.repeat(8 << 20));
  const slow: Socket[] = [];
  // One after the other: all at once, some would not be read in the time that a request has.
  while (slow.length < MOST_CONNECTIONS - 1) {
    const socket = connect(port, '127.0.0.1').on('error', () => {});
    socket.write('GET /metrics HTTP/1.1\r\nhost: weft\r\n\r\n');
    await once(socket, 'readable');
    slow.push(socket);
  }
  t.match(await ask(port, '/metrics'), { status: 503 }, 'one connection is left to say so');
  for (let n = 0; n < ANSWER_LOOKS; n++) server.keep();
  t.match(await ask(port, '/metrics'), { status: 503 }, 'they have their time');
  server.keep();
  const closed = slow.map((socket) => once(socket.resume(), 'close'));
  await Promise.all(closed);
  t.match(await ask(port, '/metrics'), { status: 200 });
});

t.test('a defect is told, and nothing ends', async (t) => {
  let isBroken = true;
  const { port, changes } = await open(t, () =>
    isBroken ? Promise.reject(new Error('a defect')) : Promise.resolve(''),
  );
  t.match(await ask(port, '/metrics'), { status: 500, text: /^internal error/ });
  t.match(changes.at(-1)?.why, /a defect/);
  isBroken = false;
  t.match(await ask(port, '/metrics'), { status: 200 });
});
