/**
 * The benchmark's own load tool against itself, over the loopback of a namespace: it must count
 * correctly before it measures anything.
 */
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { busySeconds } from '../../bench/cpu.ts';
import { loadTool } from '../../bench/load/tool.ts';
import { openLab, type Namespace } from '../support/lab.ts';
import type { Background } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';

const PORT = '7100';

async function sinkAt(namespace: Namespace, ports = 1): Promise<Background> {
  const sink = namespace.start([loadTool.path, 'sink', '--port', PORT, '--ports', String(ports)]);
  await sink.says('ready');
  return sink;
}

async function send(from: Namespace, words: string): Promise<{ sent: number; seconds: number }> {
  const command = [loadTool.path, 'send', '--to', '127.0.0.1', '--port', PORT, ...words.split(' ')];
  return JSON.parse(await from.run(command)) as { sent: number; seconds: number };
}

async function reportOf(sink: Background): Promise<Record<string, number>> {
  sink.end();
  t.equal(await sink.wait(), 0);
  return JSON.parse(sink.stdout.split('\n')[1] ?? '') as Record<string, number>;
}

t.test('the load tool', { skip: needsRoot }, async (t) => {
  loadTool.build();

  t.test('counts every datagram of every flow, apart from those of the warm-up', async (t) => {
    const namespace = await openLab(t).namespace('load');
    const sink = await sinkAt(namespace, 5);
    const sent = await send(namespace, '--sockets 8 --ports 5 --sizes 18,548 --rate 20000 --warmup 0.1 --seconds 0.3');
    const { received, bytes, flows, reordered, foreign, warmup } = await reportOf(sink);
    t.ok(sent.sent > 0);
    t.same({ received, flows, reordered, foreign }, { received: sent.sent, flows: 40, reordered: 0, foreign: 0 });
    t.ok(warmup! > 0);
    t.ok(bytes! > 18 * sent.sent && bytes! < 548 * sent.sent, 'of both sizes');
  });

  t.test('never sends faster than asked', async (t) => {
    const namespace = await openLab(t).namespace('load');
    const sink = await sinkAt(namespace);
    const { sent, seconds } = await send(
      namespace,
      '--sockets 1 --ports 1 --sizes 18 --rate 5000 --warmup 0 --seconds 0.3',
    );
    t.ok(sent > 0 && sent <= 5000 * seconds, `${sent} in ${seconds} s`);
    t.equal((await reportOf(sink)).received, sent);
  });

  t.test('tells what came out of order, twice, or from elsewhere', async (t) => {
    const namespace = await openLab(t).namespace('load');
    const sink = await sinkAt(namespace);
    // Two senders use the same flow numbers: those of the second one are behind.
    const words = '--sockets 1 --ports 1 --sizes 18 --rate 5000 --warmup 0 --seconds 0.1';
    const first = await send(namespace, words);
    const second = await send(namespace, words);
    const foreigner = `printf %s ${randomBytes(9).toString('hex')} | socat -u - UDP:127.0.0.1:${PORT}`;
    await namespace.run(['sh', '-c', foreigner]);
    const { received, reordered, foreign } = await reportOf(sink);
    t.equal(received, first.sent + second.sent);
    t.equal(reordered, Math.min(first.sent, second.sent));
    t.equal(foreign, 1);
  });

  t.test('asks and answers', async (t) => {
    const namespace = await openLab(t).namespace('load');
    const server = namespace.start([loadTool.path, 'rr-server', '--port', PORT]);
    await server.says('ready');
    const words = ['rr-client', '--to', '127.0.0.1', '--port', PORT, '--warmup', '0.1', '--seconds', '0.2'];
    const report = JSON.parse(await namespace.run([loadTool.path, ...words])) as Record<string, number>;
    t.ok(report['transactions']! > 0 && report['seconds']! >= 0.2);
    t.ok(report['p50Us']! > 0 && report['p50Us']! <= report['p99Us']!);
    t.equal(await server.wait(), 0, 'and ends with its client');
  });

  t.test('makes connections, as many at once as asked, and leaves none behind', async (t) => {
    const namespace = await openLab(t).namespace('load');
    const server = namespace.start([loadTool.path, 'crr-server', '--port', PORT]);
    await server.says('ready');
    const words = ['--to', '127.0.0.1', '--port', PORT, '--at-once', '32', '--warmup', '0.1', '--seconds', '0.3'];
    const report = JSON.parse(await namespace.run([loadTool.path, 'crr-client', ...words])) as Record<string, number>;
    t.ok(
      report['connections']! > 32 && report['seconds']! >= 0.3,
      `${report['connections']} in ${report['seconds']} s`,
    );
    t.equal(report['failed'], 0);
    t.ok(report['p50Us']! > 0 && report['p50Us']! <= report['p99Us']!);
    const counters = await namespace.run(['cat', '/proc/net/sockstat']);
    t.match(counters, /^TCP: .* tw 0 /m, 'nothing waits: each was closed by a reset');
    const opened = await namespace.run(['nstat', '--zeros', '--noupdate', '--ignore', 'TcpPassiveOpens']);
    const passive = Number(/TcpPassiveOpens\s+(\d+)/.exec(opened)?.[1]);
    t.ok(passive >= report['connections']!, `the kernel has seen ${passive}`);
    server.end();
    t.equal(await server.wait(), 0, 'and ends with its input');

    const refused = await namespace.attempt([loadTool.path, 'crr-client', ...words]);
    t.equal(refused.code, 1);
    t.match(refused.stderr, /^load: no connection was answered, [1-9]\d* failed\n$/);
  });

  t.test('refuses what it does not understand', async (t) => {
    const namespace = await openLab(t).namespace('load');
    for (const words of [
      'sned',
      'sink --port 1',
      'send --to nowhere',
      'sink --port x --ports 1',
      'rr-server --port',
      'crr-client --to 1',
    ]) {
      const { code, stderr } = await namespace.attempt([loadTool.path, ...words.split(' ')]);
      t.equal(code, 2, words);
      t.match(stderr, /^load: .+\n$/);
    }
  });
});

t.test('busy is what is neither idle nor waiting nor stolen', (t) => {
  //                    user nice system idle iowait irq softirq steal guest
  t.equal(busySeconds('cpu  100 20 300 9999 8888 4 50 7777 10 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n'), 4.74);
  t.end();
});
