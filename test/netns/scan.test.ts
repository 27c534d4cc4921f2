/**
 *   ┌ left ──────────────────────┐    underlay    ┌ right ─────┐
 *   │ listeners ─ weft0 ─ weft ──┼── 192.0.2.0/24 ┼─ weft ─ db │
 *   │                    web ─┘  │ 2001:db8::/64  │ listeners  │
 *   └────────────────────────────┘                └────────────┘
 *
 * A container with an outside scans its own host and finds nothing; it does find right, which
 * is outside. Nor can it inject a VXLAN packet of its own into any network.
 */
import t from 'tap';
import { buildVxlan } from '../../src/wire/vxlan.ts';
import { udp } from '../support/frames.ts';
import { openLab, type Lab, type Namespace } from '../support/lab.ts';
import { until, type Background } from '../support/process.ts';
import { attachContainer, overlay, underlay, underlayLink } from '../support/topology.ts';
import { ping, python, sendFrames, Sniffer } from '../support/traffic.ts';
import { modeName, modes, twoHosts, type Mode } from '../support/two-hosts.ts';

t.setTimeout(600_000);

const PORTS = [22, 179, 6443, 9100, 40_000];
const ip6 = { left: '2001:db8::1', right: '2001:db8::2' };

async function listenersIn(host: Namespace): Promise<Background> {
  const listeners = host.start(python('listeners.py', ...PORTS));
  await listeners.says('ready');
  return listeners;
}

/** Who answers, as `tcp ADDRESS PORT`. Everything has been tried when the last address has answered at all ports. */
async function scan(from: Namespace, addresses: readonly string[]): Promise<string[]> {
  const output = await from.run(python('scan.py', PORTS.join(), ...addresses));
  return output.trim().split('\n').toSorted();
}

const allOf = (address: string): string[] =>
  ['tcp', 'udp'].flatMap((kind) => PORTS.map((port) => `${kind} ${address} ${port}`));

async function linkLocal(host: Namespace, ifname: string): Promise<string> {
  const find = async (): Promise<string | undefined> =>
    / (fe80::\S+)\/64/.exec(await host.ip(`-6 address show dev ${ifname} scope link -tentative`))?.[1];
  return until(find, { what: `a link-local address of ${ifname}` });
}

async function place(lab: Lab, mode: Mode) {
  const under = await underlay(lab, 'ipv4');
  await under.left.ip(`address add ${ip6.left}/64 dev ${underlayLink} nodad`);
  await under.right.ip(`address add ${ip6.right}/64 dev ${underlayLink} nodad`);
  const { left, right, createNetwork } = await twoHosts(lab, under, mode);
  await createNetwork(`${overlay.create} --outside`);
  const web = await attachContainer(lab, left, 'web', 11);
  const db = await attachContainer(lab, right, 'db', 21);
  return { under, left, web, db };
}

for (const mode of modes) {
  await t.test(modeName(mode), async (t) => {
    const lab = openLab(t);
    const { under, left, web, db } = await place(lab, mode);
    await ping(web.namespace, db.ip4);
    await ping(web.namespace, under.rightIp);

    await t.test('a scan finds nothing of its own host, and what is outside', async (t) => {
      const here = await listenersIn(under.left);
      await listenersIn(under.right);
      const own = [
        under.leftIp,
        ip6.left,
        '169.254.77.1',
        'fd77:6566:7430::1',
        `${await linkLocal(under.left, underlayLink)}%eth0`,
        '10.44.0.1',
        'fd44::1',
      ];
      for (const outside of [under.rightIp, ip6.right]) {
        t.same(await scan(web.namespace, [...own, outside]), allOf(outside).toSorted());
      }
      t.same(await scan(under.right, [under.leftIp]), allOf(under.leftIp).toSorted(), 'who may, finds them');
      await until(() => here.lines.length > 2 * PORTS.length, { what: 'what the listeners heard' });
      const heard = here.lines.slice(1).map(({ text }) => text);
      t.ok(
        heard.every((line) => line.endsWith(` from ${under.rightIp}`)),
        heard.join('; '),
      );
    });

    await t.test('no VXLAN of its own comes into a network', async (t) => {
      const sniffer = await Sniffer.open(db.namespace);
      const inner = (marker: string): Uint8Array =>
        udp({ srcMac: web.mac, dstMac: db.mac, src: web.ip4, dst: db.ip4 }, 4000, 4001, Buffer.from(marker));
      const send = (from: Namespace, to: string, frame: Uint8Array): Promise<string> => {
        const packet = Buffer.from(buildVxlan({ vni: overlay.vni, frame }));
        return from.run(python('udp_send.py', to, 4789, packet.toString('hex')));
      };
      const forged = inner('forged');
      const targets = [under.rightIp, under.leftIp, ip6.right, ip6.left, '169.254.77.1', 'fd77:6566:7430::1'];
      for (const to of targets) await send(web.namespace, to, forged);
      await until(async () => (await left.drops('web'))['vxlan_injection'] === targets.length, {
        what: 'all of them dropped, under their name',
      });
      const real = inner('as weft on left would send it');
      await send(under.left, under.rightIp, real);
      await sniffer.sees(real, 'what the host itself sends');
      const honest = inner('honest');
      await sendFrames(web.namespace, [honest]);
      await sniffer.sees(honest, 'what goes through the switch');
      t.notOk(sniffer.hasSeen(forged));
      await sniffer.close();
    });
  });
}
