/**
 *   ┌ left ──────┐  the underlay marks   ┌ right ─────┐
 *   │ web ─ weft ┼───────────────────────┼ weft ─ db  │
 *   └────────────┘                       └────────────┘
 *
 * ECN and DSCP across the tunnel, on a real underlay (RFC 6040): the inner marks show outside,
 * and a congestion mark from a router of the underlay arrives inside.
 */
import t from 'tap';
import { openLab, type Namespace } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { attachContainer, overlay, underlay, underlayLink, type Family } from '../support/topology.ts';
import { ping, python } from '../support/traffic.ts';
import { transfer } from '../support/transfer.ts';
import { modeName, modes, twoHosts, type Mode } from '../support/two-hosts.ts';
import { captureVxlan } from '../support/wire-capture.ts';

t.setTimeout(600_000);

const PORT = 7033;
const [ECT1, ECT0, CE] = [1, 2, 3];
/** Expedited forwarding. */
const EF = 46 << 2;

/** The TOS or traffic class with which each of `sent` arrives; those that do not arrive are left out. */
async function arrivals(from: Namespace, to: Namespace, ip: string, sent: readonly number[]): Promise<number[]> {
  const sink = to.start(python('tos_sink.py', PORT));
  await sink.says('ready');
  await from.run(python('tos_send.py', ip, PORT, ...sent));
  await until(() => sink.lines.some(({ text }) => text === 'end'), { what: 'the last datagram' });
  await sink.stop();
  return sink.lines.map(({ text }) => Number(text)).filter((tos) => !Number.isNaN(tos));
}

function tunnel(mode: Mode, family: Family, copiesDscp: boolean): void {
  t.test(`${modeName(mode)} over ${family}${copiesDscp ? ', copying DSCP' : ''}`, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const under = await underlay(lab, family);
    const more = { arguments: copiesDscp ? ['--copy-dscp'] : [] };
    const { left, right, createNetwork } = await twoHosts(lab, under, mode, more);
    await createNetwork(overlay.create);
    const web = await attachContainer(lab, left, 'web', 11);
    const db = await attachContainer(lab, right, 'db', 21);
    await ping(web.namespace, db.ip4);
    const all = [0, ECT1, ECT0, CE].map((ecn) => EF | ecn);

    await t.test('the outer header has the ECN of the packet inside', async (t) => {
      for (const ip of [db.ip4, db.ip6]) {
        await ping(web.namespace, ip);
        const datagrams = await captureVxlan(lab, under.right, underlayLink, 1000, async () => {
          t.same(await arrivals(web.namespace, db.namespace, ip, all), all, `${ip}: inside nothing changes`);
        });
        const outer = datagrams
          .filter(({ inner }) => inner.includes(`.${PORT}: `))
          .map((datagram) => Number(/(?:tos|class) (0x[0-9a-f]+)/.exec(datagram.outer)?.[1] ?? 0));
        t.same(outer, [...(copiesDscp ? all : all.map((tos) => tos & 3)), ECT0]);
      }
    });

    await t.test('what the underlay marks arrives inside, or is dropped where it cannot', async (t) => {
      await under.right.run(['nft', '-f', '-'], {
        input: [
          'table inet congestion { chain marks { type filter hook input priority mangle;',
          ...['ip', 'ip6'].map((ip) => `meta nfproto ${ip === 'ip' ? 'ipv4' : 'ipv6'} udp dport 4789 ${ip} ecn set ce`),
          '}',
          '}',
        ].join('\n'),
      });
      for (const ip of [db.ip4, db.ip6]) {
        const before = (await right.drops())['ecn_ce_not_ect'] ?? 0;
        t.same(
          await arrivals(web.namespace, db.namespace, ip, all),
          [CE, CE, CE].map((ecn) => EF | ecn),
        );
        // Perhaps also frames that a container’s kernel has sent meanwhile.
        t.ok(((await right.drops())['ecn_ce_not_ect'] ?? 0) > before);
      }
      await under.right.run(['nft', 'delete', 'table', 'inet', 'congestion']);
    });

    await t.test('superframes pass with their marks', async () => {
      for (const { namespace } of [web, db]) await namespace.run(['sysctl', '-qw', 'net.ipv4.tcp_ecn=1']);
      await transfer(web.namespace, db.namespace, [db.ip4, db.ip6], [{ kind: 'tcp', bytes: 3_000_000 }]);
    });
  });
}

for (const mode of modes) {
  const families: readonly Family[] = mode.store === 'etcd' ? ['ipv4'] : ['ipv4', 'ipv6'];
  for (const family of families) tunnel(mode, family, family === 'ipv6');
}
