/**
 *   ┌ host ─────────────────────────────┐
 *   │ web (10.44.0.11) ── weft ── db (10.44.0.12) │
 *   │ fd44::b                     fd44::c         │
 *   └─────────────────────────────────────────────┘
 *
 * Two containers on one host talk with real programs, and weft can say why.
 */
import { join } from 'node:path';
import t from 'tap';
import type { DecisionReport, WhyReport } from '../../src/model/report.ts';
import { openLab } from '../support/lab.ts';
import { run, until } from '../support/process.ts';
import { attachContainer, oneHost, overlay, overlayIps } from '../support/topology.ts';
import { askOverUdp, isUnreachable, ping, sendFrames, Sniffer, stream } from '../support/traffic.ts';
import { datapathKinds } from '../support/weft.ts';
import { udp } from '../support/frames.ts';
import { transfer, type Transfer } from '../support/transfer.ts';

t.setTimeout(600_000);

/** Includes what comes before the first echo: neighbor discovery. */
const CAPTURED = 12;
const TCP_BYTES = 10_000_000;
const gateways = ['10.44.0.1', 'fd44::1'];
const udpDatagrams: Transfer = { kind: 'datagrams', bytes: 80_000, segmentBytes: 1000 };

/** An ARP request, or a neighbor solicitation. */
const isQuestion = (hex: string): boolean => /^.{24}(0806.{12}0001|86dd.{8}.{4}3a.{66}87)/.test(hex);

for (const datapath of datapathKinds) {
  await t.test(datapath, async (t) => {
    const lab = openLab(t);
    const { host, weft, web, db } = await oneHost(lab, datapath);

    await t.test('they ping each other, also with more than an MTU', async () => {
      for (const [from, to] of [
        [web, db],
        [db, web],
      ] as const) {
        await ping(from.namespace, to.ip4);
        await ping(from.namespace, to.ip6);
        await ping(from.namespace, to.ip4, { size: 1472 });
        await ping(from.namespace, to.ip6, { size: 4000 });
        await ping(from.namespace, to.ip4, { size: 4000 });
      }
    });

    await t.test('an interface has one queue of the kernel, not 256', async (t) => {
      const [{ qdisc }] = JSON.parse(await web.namespace.ip('-j link show dev eth0')) as [{ qdisc: string }];
      t.equal(qdisc, 'pfifo_fast');
    });

    await t.test('who asks for a neighbor is answered by weft, and nobody else hears of it', async (t) => {
      // Until then web asks whether somebody else has its own addresses (RFC 4862 §5.4), which all may hear.
      await until(async () => (await web.namespace.ip('-6 address show dev eth0 tentative')).trim() === '', {
        what: 'the addresses of web are its own',
      });
      const sniffer = await Sniffer.open(db.namespace);
      await web.namespace.ip('neighbor flush dev eth0');
      for (const ip of [db.ip4, db.ip6, ...gateways]) await ping(web.namespace, ip);
      const known = await web.namespace.ip('neighbor show dev eth0');
      for (const ip of [db.ip4, db.ip6, ...gateways]) t.match(known, new RegExp(`^${ip} lladdr `, 'm'));
      // This frame comes after all of that.
      const last = udp({ srcMac: web.mac, dstMac: db.mac, src: web.ip4, dst: db.ip4 }, 4000, 4001);
      await sendFrames(web.namespace, [last]);
      await sniffer.sees(last, 'the last frame');
      const fromWeb = sniffer.frames().filter((hex) => hex.slice(12, 24) === web.mac.replaceAll(':', ''));
      t.ok(fromWeb.length > 4, `${fromWeb.length} frames of web, its pings`);
      t.same(fromWeb.filter(isQuestion), [], 'no question is among them');
      await sniffer.close();
    });

    await t.test('TCP, UDP and questions over UDP arrive', async () => {
      for (const ip of [db.ip4, db.ip6]) {
        await stream(web.namespace, db.namespace, ip, { bytes: TCP_BYTES });
        await askOverUdp(web.namespace, db.namespace, ip);
      }
      await transfer(web.namespace, db.namespace, [db.ip4, db.ip6], [udpDatagrams]);
      await stream(web.namespace, db.namespace, db.ip4, { reverse: true, bytes: TCP_BYTES });
    });

    await t.test('trace shows each stage, what it read, the megaflow and the actions', async (t) => {
      const flow = `in_port=web,tcp,ip_dst=${db.ip4},tcp_dst=80`;
      const text = await weft.run('trace', flow);
      for (const part of [
        /^ingress .*\(read: .*in_port.*\)$/m,
        /^bridge .*\(read: .*eth_dst.*\)$/m,
        /^Megaflow: .*in_port=web/m,
        /^Actions: .*db/m,
      ]) {
        t.match(text, part);
      }
      const report = (await weft.json('trace', flow)) as DecisionReport;
      t.equal(report.verdict, 'forward');
      t.ok(report.stages.length >= 2);
    });

    await t.test('why shows the decision of a live flow', async (t) => {
      const pinging = web.namespace.start(['ping', '-n', '-i', '0.1', db.ip4]);
      await pinging.says('bytes from');
      const flows = (await weft.json('flows')).filter(({ actions }) => actions.includes('output(db)'));
      // The flow of the ping, which keeps it in the cache.
      const live = flows.reduce((best, flow) => (flow.idleMs < best.idleMs ? flow : best));
      const why = (await weft.json('why', String(live.id))) as WhyReport;
      t.equal(why.decision!.megaflow, live.megaflow);
      t.equal(why.decision!.actions, live.actions);
      t.ok(Date.parse(why.decidedAt!) <= Date.now(), `decided at ${why.decidedAt}`);
      t.ok((why.packets ?? 0) >= live.packets, `${why.packets} packets`);
      t.match(await weft.run('why', String(live.id)), live.megaflow);
      await pinging.stop();
    });

    await t.test('drops and why tell what became of a frame that was refused', async (t) => {
      const forged = udp({ srcMac: web.mac, dstMac: db.mac, src: '10.44.0.99', dst: db.ip4 }, 4000, 4001);
      await sendFrames(web.namespace, [forged]);
      const drop = await until(
        async () => (await weft.json('drops')).find(({ port, reason }) => port === 'web' && reason === 'spoof_ip4'),
        { what: 'the drop' },
      );
      t.match(drop, { count: 1, flow: /10\.44\.0\.99/ });
      const why = (await weft.json('why', drop.id ?? '')) as WhyReport;
      t.match(why.decision, { verdict: 'drop', reason: 'spoof_ip4' });
      t.match(await weft.run('drops'), /web +spoof_ip4/);
    });

    await t.test('capture writes a file that tcpdump reads', async (t) => {
      const file = join(lab.directory, `${datapath}.pcapng`);
      const capture = lab.start(weft.command(['capture', '--port', 'web', '-w', file, '--count', String(CAPTURED)]));
      while (capture.isRunning) await ping(web.namespace, db.ip4);
      t.equal(await capture.exited, 0);
      const text = await run(['tcpdump', '-n', '-r', file]);
      t.equal(text.trim().split('\n').length, CAPTURED);
      t.match(text, /ICMP echo request/);
      t.match(text, /ICMP echo reply/);
    });

    await t.test('captures at the same time each have what their filters want, also what was on the way', async (t) => {
      const large = 1000;
      const wanted = [
        { name: 'requests', filter: ['icmp[icmptype] == icmp-echo'], snaplen: '64', is: / ICMP echo request, / },
        { name: 'large', filter: ['icmp', 'and', 'greater', String(large)], snaplen: '2000', is: / length 1208$/ },
        { name: 'answers', filter: ['icmp[8 + 600] >= 0 and icmp[0] == 0'], snaplen: '64', is: / ICMP echo reply, / },
      ];
      const captures = wanted.map(({ name, filter, snaplen, is }) => {
        const file = join(lab.directory, `${datapath}-${name}.pcapng`);
        const words = ['capture', '--port', 'web', '-w', file, '--snaplen', snaplen, ...filter];
        return { file, is, program: lab.start(weft.command(words)) };
      });
      for (const { program } of captures) await program.says('listening on web');
      await ping(web.namespace, db.ip4);
      await ping(web.namespace, db.ip4, { size: large + 200 });
      for (const { program } of captures) program.signal('SIGINT');
      const counts: number[] = [];
      for (const { program, file, is } of captures) {
        t.equal(await program.exited, 0);
        const lines = (await run(['tcpdump', '-n', '-r', file])).trim().split('\n');
        counts.push(lines.length);
        t.same(
          lines.filter((line) => !is.test(line)),
          [],
        );
      }
      t.ok(counts[0]! >= 2, counts.join(', '));
      t.equal(counts[1], 2 * counts[2]!, 'a large request and its answer');
    });

    await t.test('the address of a detached endpoint can be given again', async (t) => {
      const cache = await attachContainer(lab, weft, 'cache', 13);
      await ping(web.namespace, cache.ip4);
      await weft.run('detach', 'cache');
      t.same(await cache.namespace.links(), [], 'its interface is gone');
      t.ok(await isUnreachable(web.namespace, cache.ip4));

      const [ip4, ip6] = overlayIps(13);
      const next = await lab.namespace('next');
      const endpoint = await weft.attach(next, { network: overlay.network, arguments: ['--ip', ip4, '--ip', ip6] });
      t.same(endpoint.addresses, [ip4, ip6]);
      await ping(web.namespace, ip4);
      await ping(next, web.ip6);
    });

    await t.test('free addresses are chosen, and none is given twice', async (t) => {
      const given = [web, db].flatMap(({ ip4, ip6 }) => [ip4, ip6]);
      for (const role of ['one', 'two']) {
        const container = await lab.namespace(role);
        const { addresses, state } = await weft.attach(container, { network: overlay.network });
        t.equal(state, 'attached');
        t.equal(addresses.length, 2);
        for (const ip of addresses) {
          t.notOk(given.includes(ip), `${ip} is new`);
          given.push(ip);
          await ping(web.namespace, ip);
        }
      }
    });

    await t.test('status exits 0 while it forwards, and 1 when it does not', async (t) => {
      t.match(await weft.run('status'), /web/);
      await weft.stop();
      const { code, stderr } = await weft.attempt('status');
      t.equal(code, 1);
      t.match(stderr, weft.socket);
      await weft.start();
    });

    t.same(await host.links(), [], 'the host’s own namespace has no interface of weft');
  });
}
