import { spawn } from 'node:child_process';
import { linkSync, lstatSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect, createServer } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import t, { type Test } from 'tap';
import { CAPTURE_BUFFER_BYTES, captureStream } from '../../src/api/capture-stream.ts';
import { Client, messages } from '../../src/api/client.ts';
import { FOLLOWER_BUFFER_BYTES } from '../../src/api/events.ts';
import { openApi } from '../../src/api/server.ts';
import { BODY_LIMIT_BYTES, type CaptureSink } from '../../src/api/target.ts';
import { WeftError } from '../../src/error.ts';
import { parseManifests } from '../../src/model/manifest.ts';
import { Pcapng, PcapngReader, type PcapngFrame } from '../../src/observe/pcapng.ts';
import {
  balanced,
  choice,
  connection,
  service,
  endpoint,
  fakeSwitch,
  flow,
  untilFollowers,
  type FakeSwitch,
} from './fake-switch.ts';

function directory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), `weft-api-${process.pid}-`));
  t.teardown(() => rmSync(path, { recursive: true }));
  return path;
}

interface Served {
  readonly sw: FakeSwitch;
  readonly client: Client;
  readonly path: string;
  readonly defects: unknown[];
}

async function serve(t: Test): Promise<Served> {
  const path = join(directory(t), 'run', 'weft.sock');
  const sw = fakeSwitch();
  const api = await openApi(path);
  const defects: unknown[] = [];
  let isStopping = false;
  let isClosed = false;
  const close = async (): Promise<void> => {
    if (isClosed) return;
    isClosed = true;
    await api.close(AbortSignal.timeout(20_000));
  };
  t.teardown(close);
  await api.serve(
    {
      sw,
      isStopping: () => isStopping,
      shutdown: async ({ purge }) => {
        isStopping = true;
        sw.calls.push(`shutdown ${purge}`);
        void close();
      },
    },
    (error) => defects.push(error),
  );
  return { sw, client: new Client(path), path, defects };
}

/** Sends a request over the socket without weft's own client. */
async function raw(path: string, method: string, url: string, body = ''): Promise<{ status: number; text: string }> {
  const made = request({ socketPath: path, method, path: url, agent: false });
  // The daemon may answer before it has read everything.
  made.on('error', () => {});
  made.end(body);
  const [response] = await once(made, 'response');
  let text = '';
  for await (const chunk of response) text += chunk;
  return { status: response.statusCode, text };
}

t.test('every method reaches the switch, and its failure comes back', async (t) => {
  const { sw, client, path, defects } = await serve(t);
  t.equal((await client.status()).forwarding, true);
  t.same(await client.metrics(), await sw.metrics.report());
  t.equal(await client.metricsText(), '# prometheus\n');
  t.equal(await client.metricsText({ openmetrics: true }), '# openmetrics\n');
  t.equal((await raw(path, 'GET', '/metrics')).text, '# prometheus\n', 'where programs that scrape expect it');
  t.match(await client.doctor(), { checks: [{ check: 'tun' }] });
  t.match(await client.createNetwork('red', { subnets: ['10.1.0.0/24'], vni: 7 }), { name: 'red' });
  t.match(await client.networks(), [{ name: 'blue' }]);
  await client.removeNetwork('red');
  await t.rejects(
    client.removeNetwork('blue'),
    new WeftError('conflict', 'network "blue" has 1 endpoint: detach it first'),
  );
  t.match(await client.attach({ name: 'db', network: 'blue', pid: 1, ip: ['10.0.0.7'] }), { name: 'db' });
  t.same(await client.endpoints(), [endpoint]);
  await client.detach('db');
  const [resource] = await client.get('Network', 'blue');
  t.match(await client.apply([resource!], { dryRun: true }), [{ action: 'created', dryRun: true }]);
  t.match(await client.label('ns', 'shop', { team: 'a', old: null }), { kind: 'Namespace', action: 'configured' });
  await client.detach('db', { namespace: 'shop' });
  t.match(await client.delete('Network', 'blue'), { action: 'deleted' });
  t.equal((await client.trace('in_port=web')).flow, 'in_port=web');
  t.same(await client.flows(), [flow]);
  t.equal((await client.why('d7')).id, 'd7');
  t.match(await client.drops(), [{ id: 'd7' }]);
  t.same(await client.services(), [service]);
  t.same(await client.services('shop', { namespace: 'default' }), [service]);
  t.same(await client.services(undefined, { namespace: 'other' }), [], 'the namespace is passed on');
  await t.rejects(client.services('shop two'), new WeftError('not_found', 'there is no Service "shop two"'));
  t.match(await client.why('c4'), { id: 'c4', connection: balanced, choice });
  await t.rejects(client.label('Endpoint', 'web', { 'weft.dev/drian': 'true' }), {
    code: 'invalid',
    message:
      'labels["weft.dev/drian"]: "weft.dev/drian" is no label of weft, did you mean "weft.dev/drain"? accepted is weft.dev/drain',
  });
  await t.rejects(client.label('Network', 'blue', JSON.parse('{"__proto__": "x"}') as Record<string, string>), {
    code: 'invalid',
    message: /^labels\.__proto__ is not supported here/,
  });
  for (const name of ['', '.', '..']) {
    const message = `"${name}" is not a name: letters, digits and "-" are accepted`;
    await t.rejects(client.get('Network', name), { code: 'invalid', message });
    await t.rejects(client.delete('Network', name), { code: 'invalid', message });
    await t.rejects(client.detach(name), { code: 'invalid', message });
  }
  t.same(await client.connections(), [connection]);
  t.same(await client.connections({ endpoint: 'web' }), [connection]);
  await t.rejects(
    client.connections({ endpoint: 'web two' }),
    new WeftError('not_found', 'endpoint "web two" does not exist'),
  );
  t.same(sw.calls, [
    'createNetwork red {"subnets":["10.1.0.0/24"],"vni":7}',
    'removeNetwork red',
    'attach {"name":"db","network":"blue","pid":1,"ip":["10.0.0.7"]}',
    'detach db',
    'apply Network/blue dry',
    'label Namespace/shop {"team":"a","old":null}',
    'detach shop/db',
    'delete Network/blue',
  ]);

  await t.rejects(client.why('13'), { code: 'internal', message: /a defect/ });
  t.match(defects, [/a defect/], 'a defect is logged');
  t.equal((await raw(path, 'GET', '/v1/resources/Pod')).status, 400);
  const escaped = await raw(path, 'POST', '/v1/resources/Network/blue/labels', '{"labels": {"__pr\\u006fto__": "x"}}');
  t.match(escaped, { status: 400, text: /labels\.__proto__ is not supported here/ });
  t.match(JSON.parse((await raw(path, 'GET', '/v1/nothing')).text), { error: { code: 'not_found' } });
});

t.test('the largest manifest that is accepted fits into a request', async (t) => {
  const { sw, client } = await serve(t);
  const one = (n: number): string =>
    `---\napiVersion: weft.dev/v1\nkind: Endpoint\nmetadata: { name: e${n} }\nspec: { network: n, pid: ${n} }\n`;
  let text = '';
  for (let n = 1; text.length + one(n).length <= 1 << 20; n++) text += one(n);
  const resources = parseManifests(text, 'e.yaml');
  t.equal((await client.apply(resources, { dryRun: true })).length, resources.length);
  t.equal(sw.calls.length, 1);
});

t.test('a long report comes whole, and an empty one is an empty list', async (t) => {
  const { sw, client } = await serve(t);
  sw.connectionCount = 65_536;
  const ids = (await client.connections()).map(({ id }) => id);
  t.same(
    ids,
    Array.from({ length: 65_536 }, (_, n) => `c${3 + n}`),
  );
  sw.connectionCount = 0;
  t.same(await client.connections(), []);
});

t.test('what is not valid is refused with the name of its field', async (t) => {
  const { sw, client, path } = await serve(t);
  await t.rejects(client.attach({ name: 'db', network: 'blue', pid: 1, ip: ['10.0.0.300'] }), {
    code: 'invalid',
    message: /ip\[0\].*10\.0\.0\.300/,
  });
  await t.rejects(client.createNetwork('red', { subnets: ['10.1.0.1/24'] }), {
    message: /subnets\[0\].*did you mean 10\.1\.0\.0\/24/,
  });
  await t.rejects(client.createNetwork('red', { subnets: ['10.1.0.0/24'], vni: 2 ** 24 }), { message: /vni: / });
  await t.rejects(client.createNetwork('red', { subnets: ['10.1.0.0/24'], colour: 1 } as never), { message: /colour/ });
  const { status, text } = await raw(path, 'POST', '/v1/trace', '{');
  t.equal(status, 400);
  t.match(JSON.parse(text), { error: { code: 'invalid', message: /not JSON/ } });
  const big = await raw(path, 'POST', '/v1/trace', JSON.stringify({ flow: 'x'.repeat(BODY_LIMIT_BYTES) }));
  t.match(JSON.parse(big.text), { error: { code: 'invalid', message: /larger/ } });
  await t.rejects(client.trace('x'.repeat(BODY_LIMIT_BYTES)), {
    code: 'invalid',
    message: /at most 16777216 are accepted, apply fewer/,
  });
  t.same(sw.calls, []);
});

t.test('the socket is private, one daemon has it, and a dead one is replaced', async (t) => {
  const { path, client } = await serve(t);
  t.equal(statSync(path).mode & 0o777, 0o600);
  await t.rejects(openApi(path), {
    code: 'conflict',
    message: `a daemon is already running on ${path} (weft status shows it)`,
  });
  t.equal((await client.status()).host, 'a', 'the first goes on');
  t.same(readdirSync(join(path, '..')), ['weft.sock'], 'nothing is left beside it');

  const dead = join(directory(t), 'weft.sock');
  const server = createServer().listen(`${dead}.listening`);
  await once(server, 'listening');
  linkSync(`${dead}.listening`, dead);
  server.close();
  await t.rejects(new Client(dead).status(), { code: 'unreachable' });
  const attempts = await Promise.allSettled(Array.from({ length: 5 }, () => openApi(dead)));
  const won = attempts.flatMap((attempt) => (attempt.status === 'fulfilled' ? [attempt.value] : []));
  t.teardown(() => Promise.all(won.map((api) => api.close(AbortSignal.timeout(20_000)))));
  t.equal(won.length, 1, 'of five at once, one gets it');
  for (const attempt of attempts) if (attempt.status === 'rejected') t.match(attempt.reason, { code: 'conflict' });
  t.ok(lstatSync(dead).isSocket());
  await won.pop()!.close(AbortSignal.timeout(20_000));
  t.same(readdirSync(join(dead, '..')), [], 'it is gone with its daemon');

  const file = join(directory(t), 'file');
  writeFileSync(file, 'precious');
  await t.rejects(openApi(file), { code: 'conflict', message: /not a socket/ });
  t.equal(statSync(file).size, 8);
  await t.rejects(openApi(join(directory(t), 'x'.repeat(120))), { code: 'usage', message: /107/ });
});

t.test('a socket whose daemon is dying is waited for', async (t) => {
  const path = join(directory(t), 'weft.sock');
  // Like a daemon that was killed: it accepts connections until the kernel takes its socket.
  const script = `require('net').createServer(() => {}).listen(${JSON.stringify(path)}, () => console.log('listening'))`;
  const dying = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => dying.kill('SIGKILL'));
  await once(dying.stdout, 'data');
  let isOpen = false;
  const opening = openApi(path).then((api) => {
    isOpen = true;
    return api;
  });
  const asked = connect(path);
  await once(asked, 'connect');
  asked.destroy();
  t.notOk(isOpen, 'it waits');
  dying.kill('SIGKILL');
  const api = await opening;
  await t.rejects(
    openApi(path),
    { code: 'conflict', message: /already running/ },
    'and one that starts answers at once',
  );
  await api.close(AbortSignal.timeout(20_000));
});

t.test('requests before there is a switch wait for it', async (t) => {
  const path = join(directory(t), 'weft.sock');
  const api = await openApi(path);
  const early = new Client(path).status();
  await api.serve({ sw: fakeSwitch(), isStopping: () => false, shutdown: async () => {} }, () => {});
  t.equal((await early).host, 'a');
  await api.close(AbortSignal.timeout(20_000));

  const failed = await openApi(path);
  const waiting = new Client(path).status();
  const refused = t.rejects(waiting, { code: 'unreachable' });
  const probe = connect(path);
  await once(probe, 'connect');
  await failed.close(AbortSignal.timeout(20_000));
  await refused;
  probe.destroy();
});

t.test('a client that leaves before it has sent all is no defect of weft', async (t) => {
  const path = join(directory(t), 'weft.sock');
  const api = await openApi(path);
  const defects: unknown[] = [];
  await api.serve({ sw: fakeSwitch(), isStopping: () => false, shutdown: async () => {} }, (error) =>
    defects.push(error),
  );
  const client = connect(path);
  client.write('POST /v1/trace HTTP/1.1\r\nhost: weft\r\nexpect: 100-continue\r\ncontent-length: 100\r\n\r\n{"flow"');
  await once(client, 'data');
  await new Client(path).status();
  client.destroy();
  await api.close(AbortSignal.timeout(20_000));
  // What the end of the connection causes happens in later turns of the event loop.
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
  t.same(defects, []);
});

t.test('a follower gets what happens, and is unsubscribed when it leaves', async (t) => {
  const { sw, client } = await serve(t);
  const controller = new AbortController();
  const got: number[] = [];
  for await (const event of client.followFlows(controller.signal)) {
    if (event.kind === 'open')
      for (const listener of sw.flowListeners) for (let id = 1; id <= 3; id++) listener({ ...flow, id });
    if (event.kind === 'item') got.push(event.item.id);
    if (got.length === 3) controller.abort();
  }
  t.same(got, [1, 2, 3]);
  await untilFollowers(sw, () => sw.flowListeners.size === 0);
});

t.test('who waits for what is in force and leaves is not waited for any more', async (t) => {
  const { sw, path, defects } = await serve(t);
  const waiting = new Promise<AbortSignal>((resolve) => {
    sw.wait = (_, signal) =>
      new Promise((_, reject) => {
        signal!.addEventListener('abort', () => reject(new WeftError('unreachable', 'not everywhere')));
        resolve(signal!);
      });
  });
  const made = request({ socketPath: path, method: 'POST', path: '/v1/wait', agent: false });
  made.on('error', () => {});
  made.end('{"timeoutMs": 3600000}');
  const signal = await waiting;
  t.notOk(signal.aborted);
  made.destroy();
  if (!signal.aborted) await once(signal, 'abort');
  t.same(defects, []);
});

t.test('a follower that does not read costs a bounded buffer and is told what it missed', async (t) => {
  const { sw, path } = await serve(t);
  const socket = connect(path);
  socket.pause();
  socket.write('GET /v1/flows?follow HTTP/1.1\r\nHost: weft\r\n\r\n');
  await untilFollowers(sw, () => sw.flowListeners.size === 1);
  const [listener] = sw.flowListeners;

  const sent = 20_000;
  const before = process.memoryUsage().arrayBuffers;
  for (let id = 1; id <= sent; id++) {
    listener!({ ...flow, id, actions: 'x'.repeat(1000) });
    if (id % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  const grown = process.memoryUsage().arrayBuffers - before;
  t.ok(grown < 4 * FOLLOWER_BUFFER_BYTES, `20 MB of events, ${grown} bytes held`);

  let text = '';
  let received = 0;
  let lost = 0;
  socket.setEncoding('utf8');
  for await (const chunk of socket) {
    text += chunk;
    const end = text.lastIndexOf('\n\n') + 2;
    for (const [, kind, count] of text.slice(0, end).matchAll(/event: (item|lost)\ndata: (\d*)/g)) {
      if (kind === 'item') received++;
      else lost += Number(count);
    }
    text = text.slice(end);
    if (received + lost >= sent) break;
  }
  t.ok(lost > 0, `${lost} left out`);
  t.equal(received + lost, sent, 'every event was received or told as lost');
  socket.destroy();
  await untilFollowers(sw, () => sw.flowListeners.size === 0);
});

t.test('captured frames arrive whole', async (t) => {
  const { sw, client } = await serve(t);
  await t.rejects(client.capture({ port: 'nope', snapBytes: 128 }, new AbortController().signal).next(), {
    code: 'not_found',
    message: 'there is no port "nope"',
  });
  await t.rejects(client.capture({ snapBytes: 1 }, new AbortController().signal).next(), { message: /64 to 262144/ });
  const frame = {
    port: 'web',
    direction: 'tx',
    timeNs: 1_735_689_600_123_456_789n,
    lengthBytes: 65_549,
    bytes: new Uint8Array(256).map((_, index) => index),
  } as const;
  const interrupt = new AbortController();
  const events = client.capture({ port: 'web', snapBytes: 256 }, interrupt.signal);
  t.match(await events.next(), { value: { kind: 'blocks', frames: 0 } }, 'the header of the file');
  for (const sink of sw.captures) sink([frame, frame], 3);
  const item = { ...frame, bytes: Buffer.from(frame.bytes) };
  const reader = new PcapngReader();
  const untilLost = async (count: number) => {
    const frames: unknown[] = [];
    for (let lost = 0; lost < count || frames.length < 2; ) {
      const { value } = await events.next();
      if (value?.kind === 'blocks') frames.push(...reader.read(value.blocks));
      else lost += value?.count ?? Number.NaN;
    }
    return frames;
  };
  t.match(await untilLost(3), [item, item]);

  // What is under way when it is interrupted still comes before the end.
  for (const sink of sw.captures) sink([frame, frame], 4);
  interrupt.abort();
  t.match(await untilLost(4), [item, item]);
  t.same(await events.next(), { done: true, value: undefined });
  t.equal(sw.captures.size, 0);

  const left = client.capture({ snapBytes: 256 }, new AbortController().signal);
  await left.next();
  await left.return(undefined);
  await untilFollowers(sw, () => sw.captures.size === 0);
});

t.test('a filter that cannot be run is refused by name', async (t) => {
  const { client } = await serve(t);
  const filter = [{ code: 6, jumpTrue: 0, jumpFalse: 0, k: 2 ** 32 }];
  await t.rejects(client.capture({ snapBytes: 128, filter }, new AbortController().signal).next(), {
    code: 'invalid',
    message: /^filter\[0\]\.k/,
  });
});

t.test('a reader of a capture that does not read loses frames, and nothing else', async (t) => {
  const bytes = new Uint8Array(1 << 16);
  const frameOf = (index: number) =>
    ({ port: `p${index % 300}`, direction: 'rx', timeNs: BigInt(index), lengthBytes: bytes.length, bytes }) as const;
  const pcapng = new Pcapng(bytes.length);
  let sink: CaptureSink = () => {};
  let stops = 0;
  const { body, end } = captureStream((own) => {
    sink = own;
    return () => stops++;
  });
  const sent = (3 * CAPTURE_BUFFER_BYTES) / bytes.length;
  sink(pcapng.header('test'), 0, 0);
  for (let index = 0; index < sent; index++) {
    const frames = [frameOf(index)];
    sink(pcapng.interfaces(frames), 0, 0);
    sink(pcapng.frames(frames), 1, 0);
  }
  end();
  t.equal(stops, 1);
  sink(pcapng.frames([frameOf(0)]), 1, 0);

  const received: PcapngFrame[] = [];
  const reader = new PcapngReader();
  let lost = 0;
  let waitedBytes = 0;
  for await (const event of messages(Readable.from(body))) {
    if (event.kind === 'lost') lost += event.count;
    else {
      waitedBytes += event.blocks.length;
      const frames = [...reader.read(event.blocks)];
      t.equal(frames.length, event.frames);
      received.push(...frames);
    }
  }
  t.ok(waitedBytes < 1.1 * CAPTURE_BUFFER_BYTES, `${waitedBytes} bytes waited`);
  t.ok(lost > 0);
  t.equal(received.length + lost, sent, 'every frame was received or told as lost');
  t.ok(
    received.every(({ port, timeNs }) => port === `p${Number(timeNs) % 300}`),
    'each port is known by its name, also those that came when there was no room',
  );
});

t.test('stopping answers the one who asked, cuts followers off, and refuses the rest', async (t) => {
  const { sw, client, path } = await serve(t);
  const follower = client.followFlows(new AbortController().signal);
  await follower.next();
  const cut = t.rejects(follower.next(), { code: 'unreachable', message: /went away/ });
  await client.shutdown({ purge: true });
  await cut;
  t.same(sw.calls, ['shutdown true']);
  await t.rejects(client.status(), {
    code: 'unreachable',
    message: `no weft daemon answers on ${path}: start it with \`weft up\`, or name its socket with --socket`,
  });
});

t.test('connections are capped: idle ones make room, requests in progress do not', async (t) => {
  const path = join(directory(t), 'weft.sock');
  const sw = fakeSwitch();
  const api = await openApi(path, { cap: 4 });
  await api.serve({ sw, isStopping: () => false, shutdown: async () => {} }, (error) => t.fail(String(error)));
  const client = new Client(path);
  const stop = new AbortController();
  t.teardown(async () => {
    stop.abort();
    await api.close(AbortSignal.timeout(20_000));
  });

  const idle = Array.from({ length: 12 }, () => connect(path).on('error', () => {}));
  const ended = idle.map((socket) => once(socket, 'close'));
  await Promise.all(idle.map((socket) => once(socket, 'connect')));
  t.equal((await client.status()).forwarding, true);
  await Promise.all(ended.slice(0, 8));
  t.pass('those that have been idle longest are ended');

  const followers = Array.from({ length: 3 }, () => client.followFlows(stop.signal));
  for (const follower of followers) t.match((await follower.next()).value, { kind: 'open' });
  for (let i = 0; i < 3; i++) await t.rejects(client.status(), { code: 'exhausted', message: /3 requests at once/ });
  sw.flowListeners.forEach((listener) => listener(flow));
  for (const follower of followers) t.match((await follower.next()).value, { kind: 'item' }, 'followers go on');
  await followers[0]!.return(undefined);
  await untilFollowers(sw, () => sw.flowListeners.size === 2);
  t.equal((await client.status()).forwarding, true, 'one that ends makes room');
});

t.test('a daemon that is too busy to read a request says so', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), `weft-busy-${process.pid}-`));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const socket = join(directory, 'weft.sock');
  const server = createServer((peer) => peer.end('HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n'));
  await once(server.listen(socket), 'listening');
  t.teardown(() => server.close());
  await t.rejects(new Client(socket).status(), { code: 'unreachable', message: /^the daemon is too busy: / });
});
