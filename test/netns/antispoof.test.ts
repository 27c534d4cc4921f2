/**
 *   ┌ host ──────────────────────────────┐
 *   │ web (forges) ─ weft ─ db (listens) │
 *   └────────────────────────────────────┘
 *
 * A container speaks for its own addresses only: each kind of forgery gets
 * nothing through and has its own drop reason; on a trusted port it passes.
 */
import t from 'tap';
import type { DropReason } from '../../src/flow/reason.ts';
import { parseIp, parseMac } from '../../src/flow/types.ts';
import { buildIcmp6 } from '../../src/wire/icmp.ts';
import { IP_ICMPV6 } from '../../src/wire/ipv4.ts';
import { ND_OPTION_SOURCE_LLA, ND_OPTION_TARGET_LLA } from '../../src/wire/nd.ts';
import { advertisement, arpReply, arpRequest, ethernet, ip, solicitation, udp, type Ends } from '../support/frames.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { oneHost, overlay, type Container } from '../support/topology.ts';
import { ping, sendFrames, Sniffer } from '../support/traffic.ts';
import { datapathKinds } from '../support/weft.ts';

t.setTimeout(600_000);

interface Forgery {
  readonly what: string;
  readonly reason: DropReason;
  readonly frame: Uint8Array;
  /** A trusted port may send it. */
  readonly isLifted: boolean;
}

const foreignMac = '02:66:66:66:66:66';
const foreign4 = '10.44.0.99';
const foreign6 = 'fd44::99';
const allNodes = { dst: 'ff02::1', dstMac: '33:33:00:00:00:01' };

function forgeries(web: Container, db: Container): Forgery[] {
  const own4 = { srcMac: web.mac, dstMac: db.mac, src: web.ip4, dst: db.ip4 };
  const own6 = { ...own4, src: web.ip6, dst: db.ip6 };
  const icmp6 = (type: number, ends: Required<Pick<Ends, 'src' | 'dst'>> & Ends): Uint8Array => {
    const [source, destination] = [parseIp(ends.src), parseIp(ends.dst)];
    const message = buildIcmp6(source, destination, { type, code: 0, body: new Uint8Array(36) });
    return ip({ ...ends, ip6: { hopLimit: 255 } }, IP_ICMPV6, message);
  };
  const forged = (what: string, reason: DropReason, frame: Uint8Array, isLifted = true): Forgery => ({
    what,
    reason,
    frame,
    isLifted,
  });
  return [
    forged('source MAC', 'spoof_mac', udp({ ...own4, srcMac: foreignMac }, 1, 2)),
    forged('IPv4 source', 'spoof_ip4', udp({ ...own4, src: foreign4 }, 1, 2)),
    forged('IPv6 source', 'spoof_ip6', udp({ ...own6, src: foreign6 }, 1, 2)),
    forged('ARP sender address', 'spoof_arp', arpReply({ ...own4, src: foreign4 })),
    forged(
      'ARP sender address, as a request',
      'spoof_arp',
      arpRequest({ srcMac: web.mac, src: foreign4, dst: '10.44.0.98' }),
    ),
    forged('ND target of an advertisement', 'spoof_nd', advertisement({ ...own6, target: foreign6 })),
    forged(
      'ND link-layer option',
      'spoof_nd',
      advertisement({
        ...own6,
        target: web.ip6,
        options: [{ type: ND_OPTION_TARGET_LLA, data: parseMac(foreignMac) }],
      }),
    ),
    forged(
      'ND link-layer option of a solicitation',
      'spoof_nd',
      solicitation({
        ...own6,
        target: 'fd44::98',
        options: [{ type: ND_OPTION_SOURCE_LLA, data: parseMac(foreignMac) }],
      }),
    ),
    forged('router advertisement', 'rogue_ra', icmp6(134, { ...own6, ...allNodes })),
    forged('redirect', 'rogue_ra', icmp6(137, own6)),
    forged('DHCP server', 'rogue_dhcp', udp(own4, 67, 68, new Uint8Array(20))),
    forged('DHCPv6 server', 'rogue_dhcp', udp(own6, 547, 546, new Uint8Array(20))),
    forged(
      'spanning tree',
      'bridge_control',
      ethernet({ ...own4, dstMac: '01:80:c2:00:00:00' }, 0x0027, new Uint8Array(46)),
      false,
    ),
    forged(
      'LLDP',
      'bridge_control',
      ethernet({ ...own4, dstMac: '01:80:c2:00:00:0e' }, 0x88cc, new Uint8Array(46)),
      false,
    ),
    forged('group source MAC', 'bad_source_mac', udp({ ...own4, srcMac: '03:00:00:00:00:01' }, 1, 2), false),
    forged('zero source MAC', 'bad_source_mac', udp({ ...own4, srcMac: '00:00:00:00:00:00' }, 1, 2), false),
  ];
}

for (const datapath of datapathKinds) {
  await t.test(datapath, async (t) => {
    const lab = openLab(t);
    const { weft, web, db } = await oneHost(lab, datapath);
    await ping(web.namespace, db.ip4);
    const sniffer = await Sniffer.open(db.namespace);
    let count = 0;
    /** An honest frame, unlike all before it: when it has come, what was sent before it would have. */
    const marker = (): Uint8Array => {
      const ends = { srcMac: web.mac, dstMac: db.mac, src: web.ip4, dst: db.ip4 };
      return udp(ends, 4000, 4001, Buffer.from(`marker ${++count}`));
    };

    for (const { what, reason, frame } of forgeries(web, db)) {
      await t.test(`a forged ${what} is dropped as ${reason}`, async (t) => {
        const before = await weft.drops('web');
        const honest = marker();
        // Each by itself: two of a burst may become one superframe, and one drop.
        await sendFrames(web.namespace, [frame]);
        await sendFrames(web.namespace, [frame, honest]);
        await sniffer.sees(honest, 'the honest frame that was sent after it');
        const after = await weft.drops('web');
        t.same(after, { ...before, [reason]: (before[reason] ?? 0) + 2 }, 'counted under its own reason, and no other');
        t.notOk(sniffer.hasSeen(frame), 'nothing got through');
      });
    }

    await t.test('--trust lifts it', async (t) => {
      await weft.run('detach', 'web');
      await weft.attach(web.namespace, {
        network: overlay.network,
        arguments: ['--ip', web.ip4, '--ip', web.ip6, '--mac', web.mac, '--trust'],
      });
      await ping(web.namespace, db.ip4);
      for (const { what, reason, frame, isLifted } of forgeries(web, db)) {
        const dropped = async (): Promise<number> => (await weft.drops('web'))[reason] ?? 0;
        const before = await dropped();
        await sendFrames(web.namespace, [frame]);
        if (isLifted) await sniffer.sees(frame, `${what}, which passes`);
        else await until(async () => (await dropped()) > before, { what: `${what} is dropped` });
        t.equal(sniffer.hasSeen(frame), isLifted, isLifted ? `${what} passes` : `${what} passes from no port`);
      }
    });
    await sniffer.close();
  });
}
