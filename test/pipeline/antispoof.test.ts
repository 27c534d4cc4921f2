/**
 * What an untrusted port may send, and the reasons for which everything else is dropped, on both
 * datapaths; `netns/antispoof.test.ts` sends the same from a container.
 *
 *   ┌ a ──────────────────┐           ┌ b ────┐
 *   │ web (forges)   db   │  underlay │ far   │
 *   └─────────────────────┴───────────┴───────┘
 */
import t from 'tap';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { parseMac, type Vni } from '../../src/flow/types.ts';
import { createSimulation } from '../../src/simulation.ts';
import { forgeries } from '../support/forgeries.ts';
import { ethernet } from '../support/frames.ts';

const web = { mac: '02:00:00:00:00:01', ip4: '10.44.0.1', ip6: 'fd44::1' };
const db = { mac: '02:00:00:00:00:02', ip4: '10.44.0.2', ip6: 'fd44::2' };
const far = { mac: '02:00:00:00:00:03', ip4: '10.44.0.3', ip6: 'fd44::3' };
const PTP = 0x88f7;

const datapaths = {
  native: (options: Parameters<typeof openReferenceDatapath>[0]) => openNativeDatapath({ ...options, threads: 0 }),
  reference: openReferenceDatapath,
};

function lab(open: (typeof datapaths)['native'], more: { trust?: boolean; allowedEtherTypes?: number[] } = {}) {
  const net = createSimulation({ open });
  const [a, b] = [net.host('a', '192.0.2.1'), net.host('b', '192.0.2.2')];
  for (const host of [a, b]) host.createNetwork('blue', 100);
  const attach = (host: typeof a, name: string, { mac, ip4, ip6 }: typeof web, options = {}) =>
    host.attach({ name, network: 'blue', mac, addresses: [ip4, ip6], ...options });
  const port = attach(a, 'web', web, more);
  const others = [attach(a, 'db', db), attach(b, 'far', far)];
  const arrived = (): number => others.reduce((sum, { received }) => sum + received.splice(0).length, 0);
  const { datapath } = a.forwarding;
  return {
    net,
    forwarding: a.forwarding,
    port,
    arrived,
    drops: () => datapath.counters().drops,
    upcalls: () => datapath.counters().upcalls,
  };
}

for (const [name, open] of Object.entries(datapaths)) {
  void t.test(`anti-spoofing on ${name}`, async (t) => {
    for (const { what, reason, frame, isLifted } of forgeries(web, db)) {
      t.test(`${what}: ${reason}`, async (t) => {
        const { net, port, arrived, drops, upcalls } = lab(open);
        for (let i = 0; i < 3; i++) port.send(frame);
        t.same([arrived(), drops()], [0, { [reason]: 3 }]);
        t.ok(upcalls() <= 1, 'the refusal is cached');
        net.close();

        const trusted = lab(open, { trust: true });
        trusted.port.send(frame);
        if (isLifted) t.same([trusted.arrived() > 0, trusted.drops()], [true, {}], 'trust lifts it');
        else t.same([trusted.arrived(), trusted.drops()], [0, { [reason]: 1 }], 'trust does not lift it');
        trusted.net.close();
      });
    }

    t.test('a port that is no longer trusted has no MACs of others', async (t) => {
      const { net, forwarding, port } = lab(open, { trust: true });
      const { topology, fdb } = forwarding.tables;
      const other = '02:00:00:00:00:77';
      const where = () => fdb.lookup(100 as Vni, parseMac(other))?.where;
      port.send(ethernet({ srcMac: other, dstMac: db.mac }, PTP, new Uint8Array(46)));
      t.match(where(), { kind: 'port', port: port.portNo });
      forwarding.changePort({ ...topology.port(port.portNo)!, trust: false });
      t.equal(where(), undefined);
      net.close();
    });

    t.test('an EtherType that is listed passes, from that port and with its own MAC only', async (t) => {
      const { net, port, arrived, drops } = lab(open, { allowedEtherTypes: [PTP] });
      const ptp = (srcMac: string) => ethernet({ srcMac, dstMac: db.mac }, PTP, new Uint8Array(46));
      port.send(ptp(web.mac));
      t.equal(arrived(), 1);
      port.send(ptp(far.mac));
      port.send(ethernet({ srcMac: web.mac, dstMac: db.mac }, 0x88f8, new Uint8Array(46)));
      t.same([arrived(), drops()], [0, { spoof_mac: 1, ethertype_refused: 1 }]);
      net.close();
    });
  });
}
