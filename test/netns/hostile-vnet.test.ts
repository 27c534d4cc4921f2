/**
 *   ┌ left ──────────────────┐              ┌ right ──────────┐
 *   │ rogue (11) ─┐          │              │                 │
 *   │             ├─ weft ───┼── underlay ──┼─── weft ─ far   │
 *   │ near (12) ──┘          │              │            (21) │
 *   └────────────────────────┘              └─────────────────┘
 *
 * A container chooses the virtio_net_hdrs of its frames. Each frame is dropped with a reason or
 * arrives as what it is, through the switch and through the tunnel, and nobody else notices.
 */
import t from 'tap';
import { parseMac } from '../../src/flow/types.ts';
import { concat, getU16 } from '../../src/wire/bytes.ts';
import { ETH_IPV4, ETH_IPV6, parseEthernet } from '../../src/wire/ethernet.ts';
import { IP_TCP, IP_UDP, parseIpv4 } from '../../src/wire/ipv4.ts';
import { parseIpv6 } from '../../src/wire/ipv6.ts';
import { tcp, udp, wireIp } from '../support/frames.ts';
import { FIRST_PORT, hostileFrames } from '../support/hostile-frames.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { attachContainer, overlay, underlay, type Container } from '../support/topology.ts';
import { askOverUdp, ping, sendFrames, Sniffer } from '../support/traffic.ts';
import { transfer } from '../support/transfer.ts';
import { modeName, modes, twoHosts } from '../support/two-hosts.ts';
import { sendWithVnet } from '../support/vnet.ts';
import { conservationError } from '../support/weft.ts';

t.setTimeout(600_000);

const LAST_PORT = 4999;
const ACK = 16;
const TCP_BYTES = 3_000_000;
/** So often at least, for the attack. */
const TIMES = 3;

for (const mode of modes) {
  await t.test(modeName(mode), { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const under = await underlay(lab, 'ipv4');
    const { left, right, createNetwork } = await twoHosts(lab, under, mode);
    await createNetwork(overlay.create);
    const rogue = await attachContainer(lab, left, 'rogue', 11);
    const near = await attachContainer(lab, left, 'near', 12);
    const far = await attachContainer(lab, right, 'far', 21);
    for (const { ip4, ip6 } of [near, far]) {
      await ping(rogue.namespace, ip4);
      await ping(rogue.namespace, ip6);
    }

    for (const [where, victim] of Object.entries({ 'beside the switch': near, 'through the tunnel': far })) {
      await t.test(where, async (t) => {
        const frames = hostileFrames(between(rogue, victim));
        const before = await left.drops('rogue');
        const sniffer = await Sniffer.open(victim.namespace);
        // A flow that is not decided yet lets few frames wait, and one of these has a thousand segments.
        const { ip4, ip6 } = between(rogue, victim);
        const first = [ip4, ip6].flatMap((ends) => [
          udp(ends, 4000, LAST_PORT, new Uint8Array(8)),
          tcp(ends, { sourcePort: 4000, destinationPort: LAST_PORT, flags: ACK }),
        ]);
        await sendFrames(rogue.namespace, first);
        for (const frame of first) await sniffer.sees(frame, 'each protocol to be forwarded');
        await sendWithVnet(rogue.namespace, frames);
        const last = udp(ip4, 4000, LAST_PORT, new Uint8Array(32));
        await sendFrames(rogue.namespace, [last]);
        await sniffer.sees(last, 'what was sent last');
        const arrived = arrivals(sniffer.frames(), rogue);
        const after = await left.drops('rogue');
        await sniffer.close();

        for (const [n, { what, isRight, reason, payload }] of frames.entries()) {
          const got = arrived.get(FIRST_PORT + n);
          if (isRight || (got && reason === undefined))
            t.ok(same(got ?? new Uint8Array(), payload), `${what}: arrives as it is`);
          else t.equal(got, undefined, `${what}: ${reason ?? 'not sent by this kernel'}`);
        }
        const strangers = [...arrived.keys()].filter(
          (port) => port !== LAST_PORT && frames[port - FIRST_PORT] === undefined,
        );
        t.same(strangers, [], 'nothing else arrives');
        for (const reason of new Set(Object.keys(after))) {
          const count = (after[reason] ?? 0) - (before[reason] ?? 0);
          const sent = frames.filter((frame) => frame.reason === reason).length;
          t.ok(count <= sent, `${reason}: ${count} of ${sent} that this kernel may send`);
        }
        const bad = (after['bad_vnet_hdr'] ?? 0) - (before['bad_vnet_hdr'] ?? 0);
        t.ok(bad > 0, `${bad} frames were dropped for their virtio_net_hdr`);
      });
    }

    await t.test('others talk on meanwhile', async (t) => {
      const frames = [near, far].flatMap((victim) => hostileFrames(between(rogue, victim)));
      let isOver = false;
      let times = 0;
      const attack = async (): Promise<void> => {
        for (; !isOver; times++) await sendWithVnet(rogue.namespace, frames);
      };
      const attacked = attack();
      const traffic = async (): Promise<void> => {
        const bytes = [{ kind: 'tcp', bytes: TCP_BYTES }] as const;
        await transfer(near.namespace, far.namespace, [far.ip4, far.ip6], bytes);
        await askOverUdp(far.namespace, near.namespace, near.ip6);
        await until(() => times >= TIMES, { what: `${TIMES} times of the attack` });
      };
      await traffic().finally(() => (isOver = true));
      await attacked;
      t.ok(times >= TIMES, `every byte arrived while ${frames.length} frames came ${times} times`);
    });

    for (const weft of [left, right]) {
      const status = await until(
        async () => {
          const now = await weft.status();
          return now.datapath.held === 0 ? now : undefined;
        },
        { what: 'no frame that waits' },
      );
      t.equal(conservationError(status), undefined, `${status.host}: every frame is accounted for`);
    }
  });
}

function between(from: Container, to: Container) {
  const macs = { srcMac: from.mac, dstMac: to.mac };
  return { ip4: { ...macs, src: from.ip4, dst: to.ip4 }, ip6: { ...macs, src: from.ip6, dst: to.ip6 } };
}

/**
 * Payloads of TCP and UDP from a container's MAC, concatenated by destination port.
 * @throws if a frame claims to be from another address
 */
function arrivals(hexFrames: readonly string[], from: Container): Map<number, Uint8Array> {
  const payloads = new Map<number, Uint8Array>();
  for (const text of hexFrames) {
    const frame = parseEthernet(Buffer.from(text, 'hex'));
    if (!frame || !same(frame.source, parseMac(from.mac))) continue;
    const ip4 = frame.type === ETH_IPV4 ? parseIpv4(frame.payload) : undefined;
    const ip6 = frame.type === ETH_IPV6 ? parseIpv6(frame.payload) : undefined;
    const { source, payload: segment } = ip4 ?? ip6 ?? {};
    const protocol = ip4?.protocol ?? ip6?.nextHeader;
    if (!source || !segment || (protocol !== IP_TCP && protocol !== IP_UDP)) continue;
    if (!same(source, wireIp(ip4 ? from.ip4 : from.ip6))) throw new Error(`from another address: ${text}`);
    const port = getU16(segment, 2);
    const headerBytes = protocol === IP_TCP ? (segment[12]! >>> 4) * 4 : 8;
    payloads.set(port, concat(payloads.get(port) ?? new Uint8Array(), segment.subarray(headerBytes)));
  }
  return payloads;
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
