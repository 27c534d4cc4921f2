/**
 *   web ── weft ── db        an iperf3 stream, held back in one direction of one port
 *
 * A rate limit admits its rate: UDP sent at three times the rate exactly, and TCP most of it.
 * It can be changed during a stream. Floods of one container are limited, too.
 *
 * The rate that passes is computed from the port counters at two times. They do not include the
 * headers that the segments of a superframe have on a wire, which a limit counts: 3 % for these
 * datagrams.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { EndpointResource } from '../../src/model/kinds/endpoint.ts';
import { udp } from '../support/frames.ts';
import { openLab, type Lab } from '../support/lab.ts';
import { monotonicMs, until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { oneHost, type Container } from '../support/topology.ts';
import { checkIperf, iperfClient, iperfServer, ping, sendFrames } from '../support/traffic.ts';
import { transfer } from '../support/transfer.ts';
import { datapathKinds, type Weft } from '../support/weft.ts';

t.setTimeout(600_000);
// Limited traffic leaves the processors idle.
t.jobs = datapathKinds.length;

const TOLERANCE = 0.05;
/** The part of a limit that TCP reaches, at least. */
const TCP_SHARE = 0.85;
const TCP_SECONDS = 4;
/** Small compared with what passes in a sample: a pause of the sender cannot save up more. */
const burst = '128kb';
/** How long to measure a rate. */
const SAMPLE_SECONDS = 1.5;
const SAMPLES = 3;
/** As long as all samples may take. */
const STREAM_SECONDS = 30;
const FLOODED = 4000;

type RateLimit = NonNullable<EndpointResource['spec']['rateLimit']>;

/** Changes the rate limit of a declared endpoint, and nothing else. */
async function limit(lab: Lab, weft: Weft, name: string, rateLimit: RateLimit | undefined): Promise<string> {
  const [declared] = (await weft.client.get('Endpoint', name)) as [EndpointResource];
  const { rateLimit: _, ...spec } = declared.spec;
  const file = join(lab.directory, `${name}.json`);
  writeFileSync(file, JSON.stringify({ ...declared, spec: { ...spec, ...(rateLimit && { rateLimit }) } }));
  return weft.run('apply', '-f', file);
}

async function sentTo(weft: Weft, name: string): Promise<{ bytes: number; fromMs: number; toMs: number }> {
  const fromMs = monotonicMs();
  const { ports } = await weft.status();
  return { bytes: ports.find((port) => port.name === name)!.txBytes, fromMs, toMs: monotonicMs() };
}

/** Bytes a second that are sent to `name` now, while more arrive than that: minimum and maximum. */
async function rateTo(weft: Weft, name: string, reason: string, megabits: number): Promise<[number, number]> {
  const dropped = (await weft.drops())[reason] ?? 0;
  await until(async () => ((await weft.drops())[reason] ?? 0) > dropped, {
    what: `${reason} at ${megabits} Mbit/s`,
  });
  const begin = await sentTo(weft, name);
  const enough = begin.bytes + (SAMPLE_SECONDS * megabits * 1e6) / 8;
  const end = await until(
    async () => {
      const now = await sentTo(weft, name);
      return now.bytes >= enough ? now : undefined;
    },
    { what: `${SAMPLE_SECONDS} s of ${megabits} Mbit/s` },
  );
  const megabitsIn = (ms: number): number => ((end.bytes - begin.bytes) * 8) / 1e3 / ms;
  return [megabitsIn(end.toMs - begin.fromMs), megabitsIn(end.fromMs - begin.toMs)];
}

/** It must never be more. Less may be due to a sender that waited for a processor, so the measurement is repeated. */
async function isHeldTo(t: Test, weft: Weft, reason: string, megabits: number): Promise<void> {
  for (let sample = 1; sample <= SAMPLES; sample++) {
    const [least, greatest] = await rateTo(weft, 'db', reason, megabits);
    const figures = `${least.toFixed(2)} to ${greatest.toFixed(2)} of ${megabits} Mbit/s`;
    t.ok(least <= megabits * (1 + TOLERANCE), figures);
    const isReached = greatest >= megabits * (1 - TOLERANCE);
    if (isReached || sample === SAMPLES) return void t.ok(isReached, `${figures} are reached`);
  }
}

/** An iperf3 UDP stream from one container to another while `action` runs. */
async function duringUdp(from: Container, to: Container, megabits: number, action: () => Promise<void>): Promise<void> {
  const server = await iperfServer(to.namespace);
  const udp = ['-u', '-b', `${megabits}M`, '-l', '1400', '-t', String(STREAM_SECONDS)];
  const client = from.namespace.start(['iperf3', '-c', to.ip4, '--connect-timeout', '30000', ...udp]);
  try {
    await action();
  } finally {
    await client.stop('SIGKILL');
    await server.stop('SIGKILL');
  }
}

for (const datapath of datapathKinds) {
  void t.test(datapath, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const { weft, web, db } = await oneHost(lab, datapath);

    for (const [direction, endpoint] of [
      ['ingress', 'web'],
      ['egress', 'db'],
    ] as const) {
      const reason = `rate_limit_${direction}`;

      await t.test(`UDP at three times the ${direction} limit, which changes`, async (t) => {
        t.equal(
          await limit(lab, weft, endpoint, { [direction]: '16mbit', burst }),
          `endpoint/${endpoint} configured\n`,
        );
        t.equal(await limit(lab, weft, endpoint, { [direction]: '2mbps', burst }), `endpoint/${endpoint} unchanged\n`);
        await duringUdp(web, db, 72, async () => {
          await isHeldTo(t, weft, reason, 16);
          await limit(lab, weft, endpoint, { [direction]: '24mbit', burst });
          await isHeldTo(t, weft, reason, 24);
        });
      });

      await t.test(`TCP has the ${direction} limit, also with a small burst`, async (t) => {
        // The limits of docs/manifests.md.
        await limit(lab, weft, endpoint, { [direction]: '50mbit', burst: '512kb' });
        for (const congestion of ['cubic', 'bbr'] as const) {
          const server = await iperfServer(db.namespace);
          const client = iperfClient(db.ip4, { seconds: TCP_SECONDS, congestion });
          const report = checkIperf(await web.namespace.run(client));
          const megabits = (report.end.sum_received?.bits_per_second ?? 0) / 1e6;
          const figures = `${congestion}: ${megabits.toFixed(1)} of 50 Mbit/s`;
          t.ok(megabits <= 50 * (1 + TOLERANCE), `${figures}, and not more`);
          t.ok(megabits >= 50 * TCP_SHARE, figures);
          await server.stop('SIGKILL');
        }
      });

      await t.test('the other direction is not limited', async (t) => {
        const before = (await weft.drops())[reason];
        await transfer(
          db.namespace,
          web.namespace,
          [web.ip4],
          [{ kind: 'datagrams', bytes: 2_000_000, segmentBytes: 1400 }],
        );
        t.equal((await weft.drops())[reason], before);
        await limit(lab, weft, endpoint, undefined);
      });
    }

    await t.test('it is shown', async (t) => {
      await limit(lab, weft, 'web', { ingress: '12.5mbps', egress: '50mbit', burst: '1024kb' });
      const rateLimit = { ingress: '100mbit', egress: '50mbit', burst: '1mb' };
      const endpoints = await weft.client.endpoints();
      t.same(
        endpoints.map((one) => one.rateLimit),
        [undefined, rateLimit],
      );
      t.match(await weft.run('describe', 'Endpoint', 'web'), /rateLimit: +ingress=100mbit,egress=50mbit,burst=1mb/);
      await limit(lab, weft, 'web', undefined);
    });

    await t.test('what a container floods is held back, and the rest of it is not', async (t) => {
      const broadcast = udp(
        { srcMac: web.mac, dstMac: 'ff:ff:ff:ff:ff:ff', src: web.ip4, dst: '255.255.255.255' },
        4000,
        4001,
      );
      const flood = Array.from({ length: FLOODED }, () => broadcast);
      await until(
        async () => {
          await sendFrames(web.namespace, flood);
          return (await weft.drops('web'))['storm_control'];
        },
        { what: 'storm_control' },
      );
      // The flood is over when what was sent after it arrives.
      await ping(web.namespace, db.ip4);
      const before = await weft.drops('web');
      await transfer(
        web.namespace,
        db.namespace,
        [db.ip4],
        [{ kind: 'datagrams', bytes: 1_000_000, segmentBytes: 1400 }],
      );
      t.equal((await weft.drops('web'))['storm_control'], before['storm_control']);
    });
  });
}
