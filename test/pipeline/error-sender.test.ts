/**
 * ICMP errors about connections by somebody who has no part in them, on both datapaths; transcripts 13, 24 and 27 have more.
 *
 *   ┌ a ────────────────────────────┐   ┌ b ─────────────────────────┐
 *   │ x (red)  outside              │   │ far (red)                  │
 *   └───────────────────────────────┘   └────────────────────────────┘
 */
import t from 'tap';
import { formatMac, type Vni } from '../../src/flow/types.ts';
import { createSimulation, type SimulatedPort } from '../../src/simulation.ts';
import { gatewayMac, OUTSIDE_HOST_MAC, OUTSIDE_MAC } from '../../src/table/topology.ts';
import { IP_UDP } from '../../src/wire/ipv4.ts';
import { udp, type Ends } from '../support/frames.ts';
import { backend, service, servicePort } from '../support/services.ts';
import { datapaths, icmp } from './outside-lab.ts';

const RED = 100;
const gateway = formatMac(gatewayMac(RED as Vni));
const x = { mac: '02:00:00:00:00:02', ip: '10.1.0.7' };
const far = { mac: '02:00:00:00:00:03', ip: '10.1.0.9' };
const stranger = '203.0.113.9';
const transit = '169.254.77.2';

for (const [name, open] of Object.entries(datapaths)) {
  const lab = () => {
    const net = createSimulation({ open, sharesStore: true });
    const [a, b] = [net.host('a', '192.0.2.1'), net.host('b', '192.0.2.2')];
    for (const host of [a, b]) host.createNetwork('red', RED, { subnets: ['10.1.0.0/24'], outside: true });
    const attach = (host: typeof a, what: string, { mac, ip }: typeof x) =>
      host.attach({ name: what, network: 'red', mac, addresses: [ip] });
    const ports = { x: attach(a, 'x', x), far: attach(b, 'far', far) };
    const outside = a.openOutside({ transit: [transit] });
    return { net, a, b, ...ports, outside };
  };
  /** A port is unreachable, as somebody says to whom that packet was not sent. */
  const error = (ends: Ends, about: Uint8Array): Uint8Array =>
    icmp(ends, 'ip4', 3, 3, new Uint8Array([0, 0, 0, 0, ...about.subarray(14, 42)]));
  const dropsOf = ({ forwarding }: ReturnType<typeof lab>['a']) => forwarding.datapath.counters().drops;
  const got = ({ received }: SimulatedPort): number => received.splice(0).length;

  /** Somebody outside has a connection to `far`, by a node port of `a`. */
  const enter = ({ a, b, outside }: ReturnType<typeof lab>): void => {
    const backends = [backend(far.ip, { vni: RED as Vni, host: 'b', endpoint: 'default/far' })];
    const ports = [servicePort(1, { protocol: IP_UDP, l4Port: 53, nodePort: 30_053 })];
    for (const { forwarding } of [a, b]) forwarding.setService(service({ backends, ports }));
    const [srcMac, dstMac] = [formatMac(OUTSIDE_HOST_MAC), formatMac(OUTSIDE_MAC)];
    outside.send(udp({ srcMac, dstMac, src: stranger, dst: transit }, 8001, 30_053));
  };

  t.test(`${name}: a container of the host that a client comes to does not speak of its connection`, async (t) => {
    const all = lab();
    enter(all);
    t.equal(got(all.far), 1);
    const answer = udp({ src: far.ip, dst: stranger }, 8080, 8001);
    all.x.send(error({ srcMac: x.mac, dstMac: gateway, src: x.ip, dst: far.ip }, answer));
    t.equal(got(all.far), 0);
    t.match(dropsOf(all.b), { icmp_unrelated: 1 });
    all.net.close();
  });
}
