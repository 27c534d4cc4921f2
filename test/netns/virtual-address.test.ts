/**
 *   ┌ host ──────────────────────────────────────────┐
 *   │ client (red .2) ── gateway ─┬─ one (blue .3)   │
 *   │                             └─ two (blue .4)   │
 *   └────────────────────────────────────────────────┘
 *
 * A virtual address that both `one` and `two` may carry is reached from another network at
 * whichever has it, and moves as soon as the other one announces it.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parseMac } from '../../src/flow/types.ts';
import { advertisement, arpRequest } from '../support/frames.ts';
import { openLab, type Namespace } from '../support/lab.ts';
import { ping, sendFrames, Sniffer } from '../support/traffic.ts';
import { datapathKinds, Weft } from '../support/weft.ts';

t.setTimeout(600_000);

const vip = { ip4: '10.72.0.100', ip6: 'fd72::100' };
const mac = (n: number): string => `02:72:00:00:00:0${n}`;

const network = (name: string, vni: number, to: string, other: number): string => `
apiVersion: weft.dev/v1
kind: Network
metadata: { name: ${name} }
spec:
  subnets: [10.${vni}.0.0/24, 'fd${vni}::/64']
  routes: [{ to: 10.${other}.0.0/24, network: ${to} }, { to: 'fd${other}::/64', network: ${to} }]
---`;

const endpoint = (container: Namespace, name: string, vni: number, n: number, more = ''): string => `
apiVersion: weft.dev/v1
kind: Endpoint
metadata: { name: ${name} }
spec: { network: n${vni}, netns: ${container.path}, mac: '${mac(n)}', addresses: [10.${vni}.0.${n}, 'fd${vni}::${n}']${more} }
---`;

async function carry(namespace: Namespace): Promise<void> {
  await namespace.ip(`address add ${vip.ip4}/32 dev eth0`);
  await namespace.ip(`address add ${vip.ip6}/128 dev eth0 nodad`);
}

/** ARP that the gateway sends to everybody, because it does not know who has an address. */
const isQuestion = (hex: string): boolean => /^f{12}027766.{6}0806/.test(hex);

/** Does what keepalived does: takes the address, and sends frames that say so. */
async function takeOver(from: Namespace, to: Namespace, n: number): Promise<void> {
  for (const address of [`${vip.ip4}/32`, `${vip.ip6}/128`]) await from.ip(`address delete ${address} dev eth0`);
  await carry(to);
  const options = [{ type: 2, data: parseMac(mac(n)) }];
  const all = { dstMac: '33:33:00:00:00:01', dst: 'ff02::1' };
  await sendFrames(to, [
    arpRequest({ srcMac: mac(n), src: vip.ip4, dst: vip.ip4 }),
    advertisement({ srcMac: mac(n), src: vip.ip6, ...all, target: vip.ip6, flags: 0x20000000, options }),
  ]);
}

for (const datapath of datapathKinds) {
  await t.test(datapath, async (t) => {
    const lab = openLab(t);
    const host = await lab.namespace('host');
    const weft = await Weft.up(lab, host, 'host', { datapath });
    const [client, one, two] = [
      await lab.namespace('client'),
      await lab.namespace('one'),
      await lab.namespace('two'),
    ] as const;
    const allowed = `, allowedAddresses: [${vip.ip4}, '${vip.ip6}']`;
    const manifest = join(lab.directory, 'manifest.yaml');
    writeFileSync(
      manifest,
      [
        network('n71', 71, 'n72', 72),
        network('n72', 72, 'n71', 71),
        endpoint(client, 'client', 71, 2),
        endpoint(one, 'one', 72, 3, allowed),
        endpoint(two, 'two', 72, 4, allowed),
      ].join('\n'),
    );
    await weft.run('apply', '-f', manifest);
    await carry(one);
    for (const ip of [vip.ip4, vip.ip6]) await ping(client, ip);
    const sniffers = [await Sniffer.open(one), await Sniffer.open(two)];

    for (const [from, to, n] of [
      [one, two, 4],
      [two, one, 3],
    ] as const) {
      await takeOver(from, to, n);
      for (const ip of [vip.ip4, vip.ip6]) await ping(client, ip);
    }
    // By itself the gateway would keep the old one for half a minute, and then ask everybody.
    t.same(sniffers.flatMap((sniffer) => sniffer.frames()).filter(isQuestion), [], 'nobody was asked');
    for (const sniffer of sniffers) await sniffer.close();
  });
}
