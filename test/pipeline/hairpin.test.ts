/**
 * A backend that calls its own service from another address than the service leads to, on both datapaths: it would not take a
 * packet from an address that it has itself, so it gets its connections from the address of the service.
 *
 *   me 10.1.0.2, 10.1.0.99 ── weft ── other 10.1.0.3      service web: TCP 80 → 8080 of both
 */
import t from 'tap';
import { formatMac, type Vni } from '../../src/flow/types.ts';
import { createSimulation } from '../../src/simulation.ts';
import { gatewayMac } from '../../src/table/topology.ts';
import { parseEthernet } from '../../src/wire/ethernet.ts';
import { parseIpv4 } from '../../src/wire/ipv4.ts';
import { arpReply, tcp } from '../support/frames.ts';
import { parsePacket } from '../support/packets.ts';
import { backend, service, servicePort } from '../support/services.ts';
import { ACK, datapaths, SYN } from './outside-lab.ts';

const RED = 100 as Vni;
const VIP = '10.96.0.1';
const gateway = formatMac(gatewayMac(RED));
const ME = '02:00:00:00:00:01';

/** @returns its addresses; none if it is an ARP request */
function ends(frame: Uint8Array): string[] {
  const { source, destination } = parseIpv4(parseEthernet(frame)!.payload) ?? {};
  return source && destination ? [[...source].join('.'), [...destination].join('.')] : [];
}

for (const [name, open] of Object.entries(datapaths)) {
  t.test(`${name}: none of its connections comes from one of its own addresses`, async (t) => {
    const net = createSimulation({ open });
    const host = net.host('here', '192.0.2.1');
    host.createNetwork('red', RED, { subnets: ['10.1.0.0/24'] });
    const me = host.attach({
      name: 'me',
      network: 'red',
      mac: ME,
      addresses: ['10.1.0.2'],
      allowedAddresses: ['10.1.0.99'],
    });
    const other = host.attach({ name: 'other', network: 'red', mac: '02:00:00:00:00:02', addresses: ['10.1.0.3'] });
    const here = { vni: RED, host: 'here' };
    const backends = [
      backend('10.1.0.2', { ...here, endpoint: 'default/me' }),
      backend('10.1.0.3', { ...here, endpoint: 'default/other' }),
    ];
    host.forwarding.setService(service({ backends, ports: [servicePort(2)] }));
    host.forwarding.servicesLoaded();
    for (const src of ['10.1.0.2', '10.1.0.99']) {
      const got = { itself: 0, other: 0 };
      for (let sourcePort = 5000; sourcePort < 5040; sourcePort++) {
        const flow = { sourcePort, destinationPort: 80, sequence: 5, flags: SYN };
        me.send(tcp({ srcMac: ME, dstMac: gateway, src, dst: VIP }, flow));
        for (const frame of other.received.splice(0)) {
          got.other++;
          t.same(ends(frame), [src, '10.1.0.3']);
        }
        for (const frame of me.received.splice(0)) {
          got.itself++;
          t.same(ends(frame), [VIP, '10.1.0.2']);
          const reply = {
            sourcePort: 8080,
            destinationPort: parsePacket(frame).sourcePort,
            sequence: 9,
            acknowledgment: 6,
            flags: SYN | ACK,
          };
          me.send(tcp({ srcMac: ME, dstMac: gateway, src: '10.1.0.2', dst: VIP }, reply));
          if (me.received.length === 1 && ends(me.received[0]!).length === 0) {
            me.received.splice(0);
            me.send(arpReply({ srcMac: ME, dstMac: gateway, src, dst: '10.1.0.1' }));
          }
          t.same(me.received.splice(0).map(ends), [[VIP, src]], 'its answer comes back');
        }
      }
      t.ok(got.itself > 5 && got.other > 5, `from ${src} to both: ${got.itself} and ${got.other}`);
    }
    net.close();
  });
}
