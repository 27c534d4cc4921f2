/**
 * A client that sends UDP to a service from one socket and never pauses, by real frames through both datapaths: its record is renewed
 * by its own packets, so nothing but weft leads it away from a backend that is out.
 *
 *   host a: client, near    host b: far      service web: UDP 5000 → 8080
 */
import t from 'tap';
import { formatMac, parseIp, type Vni } from '../../src/flow/types.ts';
import { createSimulation } from '../../src/simulation.ts';
import type { Backend, Service } from '../../src/table/service.ts';
import { gatewayMac } from '../../src/table/topology.ts';
import { IP_UDP } from '../../src/wire/ipv4.ts';
import { datapaths, macOf } from '../support/backend-lab.ts';
import * as frames from '../support/frames.ts';
import { backend, service, servicePort } from '../support/services.ts';

const VNI = 100 as Vni;
const [CLIENT, NEAR, FAR] = [2, 3, 4] as const;
const OUT = { ready: false, serving: false };
type State = Partial<Backend>;

for (const [kind, open] of Object.entries(datapaths)) {
  function lab(given: Partial<Service> = {}) {
    const net = createSimulation({ open, sharesStore: true });
    const [a, b] = [net.host('a', '192.0.2.1'), net.host('b', '192.0.2.2')];
    for (const host of [a, b]) host.createNetwork('blue', VNI, { subnets: ['10.0.0.0/24'] });
    const attach = (host: typeof a, last: number) =>
      host.attach({ name: `e${last}`, network: 'blue', mac: macOf(last), addresses: [`10.0.0.${last}`] });
    const [client, near, far] = [attach(a, CLIENT), attach(a, NEAR), attach(b, FAR)];
    const { forwarding } = a;
    const declare = (nearState: State, farState: State): void => {
      const of = (last: number, host: string, state: State): Backend =>
        backend(`10.0.0.${last}`, { vni: VNI, host, endpoint: `default/e${last}`, ...state });
      const ports = [servicePort(2, { protocol: IP_UDP, l4Port: 5000 })];
      forwarding.setService(service({ backends: [of(NEAR, 'a', nearState), of(FAR, 'b', farState)], ports, ...given }));
    };
    const failCheck = (last: number, why: string | undefined): void =>
      forwarding.setHealth('default/web', 'check_failed', [[parseIp(`10.0.0.${last}`), why]]);
    /** @returns who gets the next datagram; 0: nobody */
    const send = (): number => {
      const ends = { srcMac: macOf(CLIENT), dstMac: formatMac(gatewayMac(VNI)), src: '10.0.0.2', dst: '10.96.0.1' };
      client.send(frames.udp({ ...ends, ip4: { ttl: 64 } }, 4000, 5000));
      const got = near.received.splice(0).length > 0 ? NEAR : far.received.splice(0).length > 0 ? FAR : 0;
      // By an answer, the record lasts for longer.
      const back = { srcMac: macOf(FAR), dstMac: macOf(CLIENT), src: '10.0.0.4', dst: '10.0.0.2' };
      if (got === FAR) far.send(frames.udp({ ...back, ip4: { ttl: 64 } }, 8080, 4000));
      return got;
    };
    declare(OUT, {});
    forwarding.servicesLoaded();
    t.same([send(), send()], [FAR, FAR]);
    declare({}, {});
    t.equal(send(), FAR, 'it stays with its backend');
    return { net, forwarding, client, declare, failCheck, send };
  }

  for (const balancing of ['maglev', 'round-robin'] as const) {
    t.test(
      `${kind}: from one that is not ready, or whose check fails, UDP goes on with another, ${balancing}`,
      async (t) => {
        for (const way of ['not ready', 'check failed', 'affinity']) {
          const { net, declare, failCheck, send } = lab({
            balancing,
            ...(way === 'affinity' && { affinityMs: 60_000 }),
          });
          if (way === 'not ready') declare({}, OUT);
          else failCheck(FAR, 'refused');
          t.same([send(), send()], [NEAR, NEAR], way);
          if (way === 'not ready') declare({}, {});
          else failCheck(FAR, undefined);
          t.equal(send(), NEAR, `${way}: and stays with it`);
          net.close();
        }
      },
    );
  }

  t.test(`${kind}: UDP leaves a host that has died with its first datagram`, async (t) => {
    const { net, forwarding, client, declare, send } = lab();
    forwarding.remote.setVtepsDown([{ vtep: parseIp('192.0.2.2'), isDown: true }]);
    client.received.splice(0);
    declare({}, { ...OUT, whyNotReady: 'host "b" does not answer' });
    t.equal(send(), NEAR);
    t.equal(client.received.length, 0, 'nobody was told of an error');
    net.close();
  });

  t.test(`${kind}: while there is no other, UDP stays, and goes to the first that is ready`, async (t) => {
    for (const first of [NEAR, FAR]) {
      const { net, declare, failCheck, send } = lab();
      declare(OUT, OUT);
      t.equal(send(), FAR, 'it may be there all the same');
      failCheck(NEAR, 'refused');
      declare({}, OUT);
      t.equal(send(), FAR, 'the check of the other one fails');
      declare(first === NEAR ? {} : OUT, first === FAR ? {} : OUT);
      failCheck(NEAR, undefined);
      t.same([send(), send()], [first, first]);
      net.close();
    }
  });
}
