/**
 *   web ─┬─ weft (host) ── /metrics on the socket, 127.0.0.1 and [::1]
 *   db  ─┘
 *
 * Metrics say what `weft status` says at the same time, wherever they are read. A port that is taken is
 * told, and metrics are served there when it is free.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { StatusReport } from '../../src/model/report.ts';
import { parseMetrics, type Parsed } from '../metrics/parse.ts';
import { openLab, type Namespace } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { ping } from '../support/traffic.ts';
import { datapathKinds, Weft } from '../support/weft.ts';

t.setTimeout(300_000);

const PORT = 9464;
const LISTEN = `require('node:net').createServer().listen(${PORT}, '127.0.0.1', () => console.log('listening'))`;

/** Reads over TCP, inside a namespace. */
async function read(from: Namespace, url: string, accept = '*/*'): Promise<string> {
  const script = `fetch('${url}', { headers: { accept: '${accept}' } }).then(async (it) => process.stdout.write(it.status === 200 ? await it.text() : String(it.status)))`;
  return from.run([process.execPath, '-e', script]);
}

/** The part of a status that only changes with frames and operations. */
function steady({ memory: _, ...rest }: StatusReport): unknown {
  return rest;
}

for (const datapath of datapathKinds) {
  await t.test(datapath, async (t) => {
    const lab = openLab(t);
    const [host, web, db] = await Promise.all(['host', 'web', 'db'].map((role) => lab.namespace(role)));
    const config = join(lab.directory, 'weft.yaml');
    writeFileSync(config, `metrics: 127.0.0.1:${PORT}\n`);
    const squatter = host!.start([process.execPath, '-e', LISTEN]);
    await squatter.says('listening');
    const weft = await Weft.up(lab, host!, 'host', { datapath, arguments: ['--config', config] });
    await weft.createNetwork('blue --subnet 10.44.0.0/24');
    await weft.attach(web!, { network: 'blue' });
    const { addresses } = await weft.attach(db!, { network: 'blue' });
    await ping(web!, addresses[0]!);

    await t.test('they agree with the status of the same time', async (t) => {
      const both = await until(
        async () => {
          const before = await weft.status();
          const text = await weft.run('metrics');
          const after = await weft.status();
          return JSON.stringify(steady(before)) === JSON.stringify(steady(after)) ? { status: after, text } : undefined;
        },
        { what: 'a moment without frames' },
      );
      const { status } = both;
      const metrics = parseMetrics(both.text, 'prometheus');
      const value = (name: string, labels = ''): number | undefined => metrics.get(name)?.values.get(labels);
      const { datapath: counted } = status;
      for (const name of ['rx', 'originated', 'tx', 'consumed', 'coalesced'] as const)
        t.equal(value(`weft_${name}_frames_total`), counted[name], name);
      t.ok(counted.rx > 0 && counted.tx > 0, 'frames were counted');
      t.equal(value('weft_copied_frames_total'), counted.copies);
      t.equal(value('weft_held_frames'), counted.held);
      t.equal(value('weft_flows'), counted.flows);
      t.equal(value('weft_upcalls_total'), counted.upcalls);
      for (const [reason, count] of Object.entries(counted.drops))
        t.equal(value('weft_dropped_frames_total', `{reason="${reason}"}`), count, reason);
      t.equal(sum(metrics.get('weft_dropped_frames_total')), sumOf(counted.drops));
      const came = ['rx', 'originated', 'copied', 'segmented'].map((name) => value(`weft_${name}_frames_total`)!);
      const went = ['tx', 'consumed', 'coalesced'].map((name) => value(`weft_${name}_frames_total`)!);
      const dropped = sum(metrics.get('weft_dropped_frames_total'));
      t.equal(sumOf(came), sumOf(went) + dropped + value('weft_held_frames')!, 'every frame is accounted for');
      for (const { kind, name, rxFrames, rxBytes, txFrames, txBytes, drops } of status.ports) {
        const labels =
          kind === 'tap'
            ? `{kind="endpoint",network="blue",namespace="default",endpoint="${name}"}`
            : `{kind="${kind}",network="",namespace="",endpoint=""}`;
        t.same(
          ['rx_frames', 'rx_bytes', 'tx_frames', 'tx_bytes', 'dropped_frames'].map((what) =>
            value(`weft_port_${what}_total`, labels),
          ),
          [rxFrames, rxBytes, txFrames, txBytes, sumOf(drops)],
          name,
        );
      }
      t.equal(status.ports.length, 3, 'two of containers, and that of weft’s own sockets');
      t.equal(value('weft_endpoints'), 2);
      t.equal(value('weft_networks'), 1);
      t.equal(value('weft_forwarding'), 1);
      t.equal(value('process_start_time_seconds'), Date.parse(status.startedAt) / 1000);
      t.ok(value('process_resident_memory_bytes')! > 1 << 24);
      t.ok(value('process_open_fds')! > 10 && value('process_open_fds')! < value('process_max_fds')!);
      t.ok(value('process_cpu_seconds_total')! > 0);
    });

    await t.test('a port that is taken is told, and tried again', async (t) => {
      t.match((await weft.status()).metrics, { open: false, why: 'another program has this port' });
      t.match(await weft.run('status'), /^Metrics: +127\.0\.0\.1:9464, not open: another program has this port$/m);
      await squatter.stop('SIGTERM');
      await until(async () => (await weft.status()).metrics?.open, { what: 'metrics are served' });
      t.match(await weft.run('status'), /^Metrics: +127\.0\.0\.1:9464$/m);
      const metrics = parseMetrics(await read(host!, `http://127.0.0.1:${PORT}/metrics`), 'prometheus');
      t.equal(metrics.get('weft_endpoints')?.values.get(''), 2);
      const open = await read(host!, `http://127.0.0.1:${PORT}/metrics`, 'application/openmetrics-text');
      t.same([...parseMetrics(open, 'openmetrics').keys()], [...metrics.keys()]);
      t.equal(await read(host!, `http://127.0.0.1:${PORT}/v1/status`), '404', 'nothing else is there');
    });

    await t.test('after a detach its series is gone, and a restart serves again, also over IPv6', async (t) => {
      await weft.run('detach', 'db');
      const metrics = parseMetrics(await read(host!, `http://127.0.0.1:${PORT}/metrics`), 'prometheus');
      t.equal(metrics.get('weft_port_rx_frames_total')?.values.size, 2, 'web, and weft’s own sockets');
      writeFileSync(config, `metrics: "[::1]:${PORT}"\n`);
      await weft.stop();
      await weft.start();
      await until(async () => (await weft.status()).metrics?.open, { what: 'metrics are served' });
      parseMetrics(await read(host!, `http://[::1]:${PORT}/metrics`), 'prometheus');
    });
  });
}

function sum(metric: Parsed | undefined): number {
  return sumOf([...(metric?.values.values() ?? [])]);
}

function sumOf(values: readonly number[] | Readonly<Record<string, number>>): number {
  return Object.values(values).reduce((all, one) => all + one, 0);
}
