/**
 *   ┌ left ──────┐   MTU 1500, then 1300   ┌ right ─────┐
 *   │ web ─ weft ┼────────underlay─────────┼ weft ─ db  │
 *   └────────────┘                         └────────────┘
 *
 * The MTU of the underlay becomes smaller: nothing is dropped silently, and an open connection
 * continues.
 */
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { attachContainer, overlay, underlay, underlayLink, withoutOffloads } from '../support/topology.ts';
import { iperfClient, iperfServer, ping, python } from '../support/traffic.ts';
import { monotonicMs, until } from '../support/process.ts';
import { modeName, modes, twoHosts } from '../support/two-hosts.ts';

t.setTimeout(600_000);

/** Longer than everything that is measured meanwhile. */
const STREAM_SECONDS = 600;
const SESSION_PORT = 7022;

for (const mode of modes) {
  await t.test(modeName(mode), async (t) => {
    const lab = openLab(t);
    const under = await underlay(lab, 'ipv4');
    await withoutOffloads(under);
    const { left, right, createNetwork } = await twoHosts(lab, under, mode);
    await createNetwork(overlay.create);
    const web = await attachContainer(lab, left, 'web', 11);
    const db = await attachContainer(lab, right, 'db', 21);
    await ping(web.namespace, db.ip4);
    t.equal((await left.status()).pathMtus[under.rightIp], 1500);

    const server = await iperfServer(db.namespace);
    const client = web.namespace.start(iperfClient(db.ip4, { seconds: STREAM_SECONDS }));
    const sent = async (): Promise<number> =>
      (await right.status()).ports.find(({ name }) => name === 'db')?.txBytes ?? 0;
    const before = await sent();
    await until(async () => (await sent()) > before + 500_000, { what: 'the stream is under way' });

    for (const host of [under.left, under.right]) await host.ip(`link set ${underlayLink} mtu 1300`);
    const loweredAt = performance.now();
    const then = await sent();
    await until(async () => (await left.drops())['too_big'] !== undefined, { what: 'a segment was too big' });
    const stalled = Math.max(then, await sent());
    await until(async () => (await sent()) > stalled + 100_000, { what: 'the stream goes on' });
    const tookMs = performance.now() - loweredAt;
    t.comment(`the stream goes on after ${tookMs.toFixed(0)} ms`);
    t.ok(client.isRunning, 'on the same connection');
    await client.stop('SIGKILL');
    await server.stop('SIGKILL');

    await t.test('the operator sees it', async (t) => {
      t.equal((await left.status()).pathMtus[under.rightIp], 1300);
      t.match(await left.run('status'), /192\.0\.2\.2 \((?:up, )?path MTU 1300[,)]/);
      const { stdout } = await left.attempt('doctor');
      t.match(
        stdout,
        /path 192\.0\.2\.2.*MTU 1300(?: \(found by probes: larger ones are lost\))?: packets of blue over 1250 bytes/,
      );
    });

    await t.test('the sender is told what passes, and fragments where it may', async (t) => {
      const words = ['-n', '-M', 'do', '-c', '1', '-s', '1400', '-W', '30', db.ip4];
      const probe = await web.namespace.attempt(['ping', ...words]);
      t.match(`${probe.stdout}${probe.stderr}`, /mtu ?= ?1250/i);
      t.match(await web.namespace.run(['ip', 'route', 'get', db.ip4]), /mtu 1250/);
      await ping(web.namespace, db.ip4, { size: 4000 });
      await ping(db.namespace, web.ip4, { size: 4000 });
    });

    /** The MTU of all paths; nobody remembers another value. */
    const setMtu = async (mtu: number): Promise<void> => {
      for (const host of [under.left, under.right]) await host.ip(`link set ${underlayLink} mtu ${mtu}`);
    };
    for (const [ip, mtu] of [
      [db.ip4, 1300],
      [db.ip6, 1400],
    ] as const) {
      await t.test(`a session with ${ip} goes on when the underlay takes only ${mtu} bytes`, async (t) => {
        await setMtu(1500);
        await until(
          async () => {
            const known = [
              (await left.status()).pathMtus[under.rightIp],
              (await right.status()).pathMtus[under.leftIp],
            ];
            return known.every((one) => one === 1500);
          },
          { what: 'both hosts know that the path takes 1500 bytes' },
        );
        for (const { namespace } of [web, db])
          for (const f of ['-4', '-6']) await namespace.ip(`${f} route flush cache`);
        const session = db.namespace.start(python('session.py', 'serve', SESSION_PORT));
        await session.says('ready');
        const asking = web.namespace.start(python('session.py', 'ask', ip, SESSION_PORT));
        const answered = (times: number, what: string): Promise<boolean> =>
          until(() => asking.lines.length >= times, { what });
        await answered(10, 'the session is under way');
        await setMtu(mtu);
        const loweredAt = monotonicMs();
        await until(() => asking.lines.filter(({ atMs }) => atMs > loweredAt).length >= 20, {
          what: 'the session goes on',
        });
        const times = asking.lines.map(({ atMs }) => atMs).filter((atMs) => atMs > loweredAt - 100);
        const pauses = times.map((atMs, i) => atMs - (times[i - 1] ?? atMs));
        t.pass(`it stood still for ${Math.max(...pauses).toFixed(0)} ms`);
        await asking.stop();
        await session.stop();
      });
    }
  });
}
