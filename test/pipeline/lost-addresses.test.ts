/**
 * A service loses its address of type LoadBalancer and its node port, and goes on without them, on both datapaths: UDP that never
 * pauses does not go on with its backends, TCP does.
 *
 *   client ── weft ─┬─ 10.1.0.3   service a, then b
 *   outside ────────┴─ 10.1.0.4   service b
 */
import t from 'tap';
import { formatMac, parseIp, type Vni } from '../../src/flow/types.ts';
import { createSimulation } from '../../src/simulation.ts';
import { gatewayMac, OUTSIDE_HOST_MAC, OUTSIDE_MAC } from '../../src/table/topology.ts';
import { IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';
import { tcp, udp, type Ends } from '../support/frames.ts';
import { backend, service, servicePort } from '../support/services.ts';
import { ACK, datapaths, SYN } from './outside-lab.ts';

const RED = 100 as Vni;
const ADDRESS = '203.0.113.7';
const CLIENT = '02:00:00:00:00:01';
const within: Ends = { srcMac: CLIENT, dstMac: formatMac(gatewayMac(RED)), src: '10.1.0.2', dst: ADDRESS };
const transit = '169.254.77.2';
const without: Ends = {
  ...{ srcMac: formatMac(OUTSIDE_HOST_MAC), dstMac: formatMac(OUTSIDE_MAC) },
  ...{ src: '198.51.100.9', dst: transit },
};

for (const [name, open] of Object.entries(datapaths)) {
  function lab() {
    const net = createSimulation({ open });
    const host = net.host('here', '192.0.2.1');
    host.createNetwork('red', RED, { subnets: ['10.1.0.0/24'], outside: true });
    const outside = host.openOutside({ transit: [transit] });
    const attach = (last: number) =>
      host.attach({
        name: `e${last}`,
        network: 'red',
        mac: `02:00:00:00:00:0${last - 1}`,
        addresses: [`10.1.0.${last}`],
      });
    const [client, ...backends] = [attach(2), attach(3), attach(4)] as const;
    /** @param hasAll with the address and the node ports, or without them */
    const declare = (id: 'a' | 'b', hasAll: boolean): void => {
      const last = id === 'a' ? 3 : 4;
      const nodePort = hasAll ? 30_053 : undefined;
      const ports = [IP_UDP, IP_TCP].map((protocol) => servicePort(1, { protocol, l4Port: 53, nodePort }));
      const backends = [backend(`10.1.0.${last}`, { vni: RED, host: 'here', endpoint: `default/e${last}` })];
      const addresses = { vips: [parseIp(`10.96.0.${last}`)], externalAddresses: hasAll ? [parseIp(ADDRESS)] : [] };
      host.forwarding.setService(service({ id: `default/${id}`, ...addresses, backends, ports }));
    };
    declare('a', true);
    declare('b', false);
    host.forwarding.servicesLoaded();
    const got = (): string =>
      ['a', 'b'].filter((_, at) => backends[at]!.received.splice(0).length > 0).join() || 'nobody';
    /** Sends from one socket each. @returns whose backend got it */
    const ask = () => {
      client.send(udp(within, 4000, 53));
      const inside = got();
      outside.send(udp(without, 4000, 30_053));
      return [inside, got()];
    };
    const go = (flags: number) => {
      const rest = { sourcePort: 4000, sequence: 5, flags };
      client.send(tcp(within, { ...rest, destinationPort: 53 }));
      const inside = got();
      outside.send(tcp(without, { ...rest, destinationPort: 30_053 }));
      return [inside, got()];
    };
    return { net, host, client, outside, backends, declare, ask, go, got };
  }

  t.test(`${name}: UDP follows them to the service that has them now`, async (t) => {
    const { net, client, backends, declare, ask, go, got } = lab();
    t.same(ask(), ['a', 'a']);
    t.same(go(SYN), ['a', 'a']);
    declare('a', false);
    t.same(ask(), ['nobody', 'nobody'], 'nobody has them');
    t.same(go(ACK), ['a', 'a'], 'TCP goes on');
    declare('b', true);
    t.same(ask(), ['b', 'b']);
    client.received.splice(0);
    backends[0].send(
      udp({ srcMac: '02:00:00:00:00:02', dstMac: within.srcMac!, src: '10.1.0.3', dst: '10.1.0.2' }, 8080, 4000),
    );
    t.equal(client.received.length, 0, 'what the one before still sends is refused');
    declare('a', true);
    declare('b', false);
    t.same([ask(), got()], [['a', 'a'], 'nobody']);
    net.close();
  });
}
