/** A simulated host that loses its power leaves forwarding on the others, and is back when it is. */
import t from 'tap';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { formatIp } from '../../src/flow/types.ts';
import { createSimulation } from '../../src/simulation.ts';
import { udp } from '../support/frames.ts';
import { checkConservation, type Open } from '../conformance/harness.ts';

const datapaths: Readonly<Record<string, Open>> = {
  reference: openReferenceDatapath,
  native: (options) => openNativeDatapath({ ...options, threads: 0 }),
};

for (const [name, open] of Object.entries(datapaths)) {
  t.test(name, async (t) => {
    let dead: string | undefined;
    const net = createSimulation({
      open,
      liveness: { intervalMs: 100, multiplier: 3 },
      carry: (datagram) =>
        [datagram.source, datagram.destination].map(formatIp).includes(dead ?? '') ? undefined : datagram,
    });
    t.teardown(() => net.close());
    const hosts = ['a', 'b', 'c'].map((host, i) => net.host(host, `192.0.2.${i + 1}`));
    const ports = hosts.map((host, i) => {
      host.createNetwork('blue', 100);
      const mac = `02:00:00:00:00:0${i + 1}`;
      return host.attach({ name: host.name, network: 'blue', mac, addresses: [`10.0.0.${i + 1}`] });
    });
    const [a, b, c] = ports;
    const frame = (to: number) =>
      udp({ srcMac: '02:00:00:00:00:01', dstMac: `02:00:00:00:00:0${to}`, src: '10.0.0.1', dst: `10.0.0.${to}` }, 1, 2);
    const send = (to: number): void => a!.send(frame(to));
    const downs = (): number => hosts[0]!.forwarding.datapath.counters().drops.vtep_down ?? 0;
    for (const [i, port] of ports.entries()) {
      port.send(
        udp(
          {
            srcMac: `02:00:00:00:00:0${i + 1}`,
            dstMac: 'ff:ff:ff:ff:ff:ff',
            src: `10.0.0.${i + 1}`,
            dst: '10.0.0.255',
          },
          1,
          2,
        ),
      );
    }
    net.advance(1000);
    t.same(
      hosts[0]!.forwarding.remote.peers().map(({ state }) => state),
      ['up', 'up'],
    );
    send(2);
    t.equal(b!.received.length > 0, true);

    dead = '192.0.2.2';
    const lastMs = net.nowMs;
    while (hosts[0]!.forwarding.remote.peers()[0]!.state === 'up') net.advance(1);
    t.ok(net.nowMs - lastMs <= 303, `known after ${net.nowMs - lastMs} ms`);
    const before = b!.received.length;
    const others = c!.received.length;
    send(2);
    send(3);
    t.equal(downs(), 1, 'refused at once, by the flow that was cached');
    t.equal(b!.received.length, before);
    t.equal(c!.received.length, others + 1, 'others get theirs');

    dead = undefined;
    net.advance(110);
    send(2);
    t.equal(b!.received.length, before + 1, 'it is back');
    t.equal(downs(), 1);
    const { controller, remote } = hosts[0]!.forwarding;
    const enforce = controller.enforce.bind(controller);
    let changes = 0;
    controller.enforce = () => {
      changes++;
      return enforce();
    };
    remote.setVtepsDown(remote.peers().map(({ address }) => ({ vtep: address, isDown: true })));
    send(2);
    send(3);
    t.same([downs(), changes], [3, 1], 'those that go down together are refused in one change');
    for (const { forwarding } of hosts) checkConservation(forwarding.datapath.counters());
  });
}
