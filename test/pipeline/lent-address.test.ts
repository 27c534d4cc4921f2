/**
 * Policies know a client to which its host lends an address by that one, on whichever host the backend is; on both datapaths.
 *
 *   a container ─► a node port of host a ─► weft, as 192.0.2.1 ─┬─ near, on host a
 *                                                               └─ far, on host b
 */
import t from 'tap';
import { formatMac, type Vni } from '../../src/flow/types.ts';
import { createSimulation } from '../../src/simulation.ts';
import { OUTSIDE_HOST_MAC, OUTSIDE_MAC } from '../../src/table/topology.ts';
import { IP_UDP } from '../../src/wire/ipv4.ts';
import { udp } from '../support/frames.ts';
import { policyOf } from '../support/policy/tables.ts';
import { backend, service, servicePort } from '../support/services.ts';
import { datapaths } from './outside-lab.ts';

const RED = 100 as Vni;
/** The host's end of its link, by which its containers come that call a node port. */
const END = '169.254.77.1';
const places = [
  { name: 'near', host: 'a', address: '10.1.0.3', nodePort: 30_001 },
  { name: 'far', host: 'b', address: '10.1.0.4', nodePort: 30_002 },
] as const;

for (const [name, open] of Object.entries(datapaths)) {
  function lab() {
    const net = createSimulation({ open, sharesStore: true });
    const hosts = { a: net.host('a', '192.0.2.1'), b: net.host('b', '192.0.2.2') };
    for (const host of Object.values(hosts))
      host.createNetwork('red', RED, { subnets: ['10.1.0.0/24'], outside: true });
    const outside = hosts.a.openOutside({ transit: ['169.254.77.2'] });
    const ports = places.map(({ name, host, address }, at) =>
      hosts[host].attach({ name, network: 'red', mac: `02:00:00:00:00:0${at + 1}`, addresses: [address] }),
    );
    for (const { name, host, address, nodePort } of places) {
      const id = `default/${name}`;
      const backends = [backend(address, { vni: RED, host, endpoint: id })];
      const servicePorts = [servicePort(1, { protocol: IP_UDP, l4Port: 53, nodePort })];
      for (const { forwarding } of Object.values(hosts))
        forwarding.setService(service({ id, vips: [], backends, ports: servicePorts }));
    }
    const call = (sourcePort = 4000): number[] =>
      places.map(({ nodePort }, at) => {
        const ends = { srcMac: formatMac(OUTSIDE_HOST_MAC), dstMac: formatMac(OUTSIDE_MAC), src: END };
        outside.send(udp({ ...ends, dst: '169.254.77.2' }, sourcePort, nodePort));
        return ports[at]!.received.splice(0).length;
      });
    const admit = (cidr: string): void => {
      const identity = { namespace: 'default', labels: {}, namespaceLabels: {}, ports: [] };
      const spec = { podSelector: {}, policyTypes: ['Ingress' as const], ingress: [{ from: [{ ipBlock: { cidr } }] }] };
      const policy = policyOf({ kind: 'NetworkPolicy', metadata: { name: cidr, namespace: 'default' }, spec });
      for (const { name, host } of places) {
        const { tables, controller } = hosts[host].forwarding;
        tables.policies.setSubject(name, { identity, policies: [policy], onDeny: 'drop' });
        controller.enforce();
      }
    };
    return { net, call, admit };
  }

  t.test(`${name}: a rule for the hosts admits it, one for the end of the link does not`, async (t) => {
    const { net, call, admit } = lab();
    admit('192.0.2.0/24');
    t.same(call(), [1, 1]);
    admit(`${END}/32`);
    t.same(call(4001), [0, 0]);
    net.close();
  });

  t.test(`${name}: so it is when policies change`, async (t) => {
    const { net, call, admit } = lab();
    t.same(call(), [1, 1]);
    admit('192.0.2.0/24');
    net.advance(1000);
    t.same(call(), [1, 1], 'it goes on');
    admit(`${END}/32`);
    net.advance(1000);
    t.same(call(), [0, 0], 'it does not');
    net.close();
  });
}
