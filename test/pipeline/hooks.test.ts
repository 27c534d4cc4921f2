/**
 * Flow hooks, by real frames through both datapaths: what they deny, what they cost, and that what they have read and changes is
 * decided again.
 *
 *   client 10.0.0.2 ── weft ─┬─ 10.0.0.3, 10.0.0.4, 10.0.0.5     service web: TCP 80 → 8080
 */
import t from 'tap';
import { renderText } from '../../src/pipeline/text.ts';
import { ACK, backendLab, datapaths, gateway, macOf, RST, SYN, VNI } from '../support/backend-lab.ts';
import { echo, tcp, udp, type Ends } from '../support/frames.ts';
import { hookOf, type TestHook } from '../support/hooks.ts';
import { policyOf } from '../support/policy/tables.ts';
import { backend, service, servicePort } from '../support/services.ts';

const addressOf = (last: number): string => `10.0.0.${last}`;
const ends = (from: number, to: number): Ends => ({
  ...{ src: addressOf(from), dst: addressOf(to), srcMac: macOf(from), dstMac: macOf(to) },
});

for (const [kind, open] of Object.entries(datapaths)) {
  function lab() {
    const { net, host, client, ports } = backendLab(open);
    const { tables, controller, datapath } = host.forwarding;
    t.teardown(() => net.close());
    const hook = (...hooks: readonly TestHook[]): void => {
      tables.hooks.set(hooks);
      controller.enforce();
    };
    /** @returns how many frames come out at the other end */
    const sent = (to: number, frame: Uint8Array): number => {
      const port = to === 2 ? client : ports.get(to)!;
      port.received.splice(0);
      client.send(frame);
      return port.received.splice(0).length;
    };
    const ask = (to: number, port: number, sourcePort = 4000): number =>
      sent(to, tcp(ends(2, to), { sourcePort, destinationPort: port, flags: SYN }));
    const drops = (reason: string): number => (datapath.counters().drops as Record<string, number>)[reason] ?? 0;
    return { net, host, client, ports, tables, controller, datapath, hook, sent, ask, drops };
  }

  t.test(`${kind}: what a hook denies is dropped, by a cached flow as wide as what it has read`, (t) => {
    const { hook, ask, drops, datapath, controller } = lab();
    const fence = hookOf('fence', `if (destination.port === 22) return deny('no shell')`);
    hook(fence);
    t.equal(ask(3, 80), 1);
    t.equal(ask(3, 22), 0);
    t.equal(ask(4, 22), 0, 'whoever it is for');
    const { upcalls } = datapath.counters();
    for (let port = 1; port <= 50; port++) {
      t.equal(ask(3, 80, port), 1);
      t.equal(ask(3, 22, port), 0);
    }
    t.equal(datapath.counters().upcalls, upcalls, 'other source ports are alike');
    t.equal(drops('hook_denied'), 52);
    t.equal(fence.asked, 2);
    const [drop] = controller.drops.records();
    const { stage, because, read } = drop!.decision.stages.at(-1)!;
    t.equal(stage, 'hooks');
    t.equal(renderText(because), 'hook fence denies it: no shell');
    t.same(read, ['eth_type', 'ip_proto', 'l4_dst']);
    t.end();
  });

  t.test(`${kind}: replies and open connections do not ask, also when the hook changes`, (t) => {
    const { hook, sent, ask, client, ports } = lab();
    const first = hookOf('a', '');
    hook(first);
    t.equal(ask(3, 80), 1);
    const answers = (): number => {
      client.received.splice(0);
      ports.get(3)!.send(tcp(ends(3, 2), { sourcePort: 80, destinationPort: 4000, flags: 0x12 }));
      return client.received.splice(0).length;
    };
    t.equal(answers(), 1);
    hook(hookOf('a', `return deny('nothing')`));
    t.equal(answers(), 1);
    t.equal(sent(3, tcp(ends(2, 3), { sourcePort: 4000, destinationPort: 80, flags: 0x10 })), 1, 'it goes on');
    t.equal(ask(3, 80, 4001), 0, 'another one does not begin');
    hook();
    t.equal(ask(3, 80, 4001), 1);
    t.end();
  });

  t.test(`${kind}: what hooks set is in the record of the connection, and stays there`, (t) => {
    const { net, hook, client, ports, tables, drops } = lab();
    const marks = hookOf('a', 'return allow({ mark: 7, dscp: 46 })');
    const limits = `return allow({ mark: 9, dscp: 1, rate: { by: source.address, packetsPerSecond: 20 } })`;
    hook(marks, hookOf('b', `if (flow.mark === 7) ${limits}`));
    const tos = (sourcePort: number, flags: number = ACK): (number | undefined)[] => {
      const port = ports.get(3)!;
      port.received.splice(0);
      client.send(tcp(ends(2, 3), { sourcePort, destinationPort: 80, flags }));
      return port.received.splice(0).map((frame) => frame[15]);
    };
    t.same(tos(1, SYN), [184]);
    const [first] = [...tables.connections.entries()];
    t.match(first!.treatment, { mark: 7, dscp: 46, meter: { kbits: 0, packets: 20 } }, 'the first has the say');
    t.same(tos(1), [184]);
    client.received.splice(0);
    ports.get(3)!.send(tcp(ends(3, 2), { sourcePort: 80, destinationPort: 1, flags: ACK }));
    t.same(
      client.received.map((frame) => frame[15]),
      [0],
      'replies are left alone',
    );
    t.equal(Array.from({ length: 30 }, (_, n) => tos(n < 15 ? 1 : 2, ACK)).flat().length, 8, 'both share the rate');
    t.equal(drops('hook_rate_limit'), 22);
    hook();
    net.advance(1000);
    t.same(tos(1), [184], 'it goes on like this');
    t.same(tos(3, SYN), [0], 'another one does not');
    hook(marks);
    t.same(tos(4, SYN), [184]);
    t.match([...tables.connections.entries()].at(-1)!.treatment, { mark: 7, dscp: 46, meter: undefined });
    t.end();
  });

  t.test(`${kind}: what the answer itself reads of the flow is what it depends on, too`, (t) => {
    const { hook, ask, tables } = lab();
    hook(hookOf('a', `return { verdict: 'allow', treatment: { get dscp() { return destination.port; } } }`));
    for (const destinationPort of [10, 11]) t.equal(ask(3, destinationPort), 1);
    t.same(
      [...tables.connections.entries()].map(({ treatment }) => treatment?.dscp),
      [10, 11],
    );
    t.end();
  });

  t.test(`${kind}: reject tells the sender`, (t) => {
    const { hook, client } = lab();
    hook(hookOf('a', `return reject('no')`));
    const answer = (frame: Uint8Array): Uint8Array => {
      client.received.splice(0);
      client.send(frame);
      t.equal(client.received.length, 1);
      return client.received[0]!;
    };
    const reset = answer(tcp(ends(2, 3), { sourcePort: 1, destinationPort: 2, flags: SYN }));
    t.equal(reset[14 + 20 + 13]! & RST, RST);
    const unreachable = answer(udp(ends(2, 3), 1, 2));
    t.same([...unreachable.subarray(34, 36)], [3, 3], 'ICMP port unreachable');
    t.end();
  });

  t.test(`${kind}: a hook opens nothing that policies deny, and denies what they allow`, (t) => {
    const { hook, ask, tables, controller, drops } = lab();
    const identity = { namespace: 'default', labels: {}, namespaceLabels: {}, ports: [] };
    const closed = policyOf({
      ...{ kind: 'NetworkPolicy', metadata: { name: 'closed', namespace: 'default' } },
      spec: { podSelector: {}, policyTypes: ['Egress'], egress: [{ to: [{ ipBlock: { cidr: '10.0.0.3/32' } }] }] },
    });
    tables.policies.setSubject('e2', { identity, policies: [closed], onDeny: 'drop' });
    controller.enforce();
    hook(hookOf('a', 'return allow()'));
    t.equal(ask(3, 80), 1);
    t.equal(ask(4, 80), 0);
    t.equal(drops('policy_egress'), 1);
    hook(hookOf('a', `return deny('all')`));
    t.equal(ask(3, 81, 1), 0);
    t.equal(drops('hook_denied'), 1);
    t.end();
  });

  t.test(`${kind}: what it has read and changes is decided again`, (t) => {
    const { hook, tables, controller, datapath, ask } = lab();
    let labels: Readonly<Record<string, string>> = { app: 'web' };
    tables.policies.workloadsFrom((address) => ({
      endpoint: `e${address.at(-1)}`,
      identity: { namespace: 'default', labels: address.at(-1) === 2 ? labels : {}, namespaceLabels: {}, ports: [] },
    }));
    hook(hookOf('a', `if (source.labels.app === 'web' && destination.endpoint === 'e3') return deny('web')`));
    t.equal(ask(3, 80), 0);
    t.equal(ask(4, 80), 1);
    labels = { app: 'db' };
    tables.policies.workloadsChanged([parse(2)]);
    controller.enforce();
    const { upcalls } = datapath.counters();
    t.equal(ask(3, 80, 5), 1);
    t.equal(datapath.counters().upcalls - upcalls <= 1, true);
    labels = { app: 'web' };
    tables.policies.workloadsChanged([parse(2)]);
    controller.enforce();
    t.equal(ask(3, 80, 6), 0);
    t.end();
  });

  t.test(
    `${kind}: a service: its address is what is asked for, and connections are balanced without decisions`,
    (t) => {
      const { host, hook, client, ports, datapath } = lab();
      const { forwarding } = host;
      const backends = [3, 4, 5].map((last) =>
        backend(addressOf(last), { vni: VNI, host: 'here', endpoint: `default/e${last}` }),
      );
      forwarding.setService(service({ backends, ports: [servicePort(3)] }));
      forwarding.servicesLoaded();
      const connect = (sourcePort: number): number => {
        const to = { srcMac: macOf(2), dstMac: gateway, src: addressOf(2), dst: '10.96.0.1' };
        client.send(tcp(to, { sourcePort, destinationPort: 80, flags: SYN }));
        for (const [last, { received }] of ports) if (received.splice(0).length > 0) return last;
        return 0;
      };
      const cost = (first: number): number => {
        for (let port = first; port < first + 40; port++) connect(port);
        const { upcalls } = datapath.counters();
        for (let port = first + 40; port < first + 80; port++) t.ok(connect(port) > 0);
        return datapath.counters().upcalls - upcalls;
      };
      hook(
        hookOf('a', `if (flow.service !== 'default/web' || destination.address !== '10.96.0.1') return deny('what?')`),
      );
      t.equal(cost(1000), 0);
      const choosy = hookOf('a', `if (destination.endpoint === 'e4') return deny('not that one')`);
      hook(choosy);
      const got = new Set(Array.from({ length: 60 }, (_, n) => connect(2000 + n)));
      t.same(got, new Set([0, 3, 5]), 'each connection is judged by its backend');
      hook(hookOf('a', `if (ctx.random() < 0.5) return deny('half of them')`));
      const lucky = Array.from({ length: 200 }, (_, n) => connect(3000 + n)).filter((last) => last > 0);
      t.ok(lucky.length > 50 && lucky.length < 150, `${lucky.length}`);
      t.end();
    },
  );

  t.test(`${kind}: a hook that fails denies, or leaves it to others`, (t) => {
    const { hook, ask, drops, controller } = lab();
    hook(hookOf('a', `if (destination.port > 1000) null.x`));
    t.equal(ask(3, 80), 1);
    t.equal(ask(3, 2000), 0);
    t.equal(drops('hook_failed'), 1);
    const { because } = controller.drops.records()[0]!.decision.stages.at(-1)!;
    t.match(renderText(because), /^hook a denies what it cannot judge: a\.ts:3:\d+: TypeError/);
    hook(hookOf('a', `if (destination.port > 1000) null.x`, 'allow'));
    t.equal(ask(3, 2000), 1);
    t.end();
  });

  t.test(`${kind}: the link goes on, and pings are asked about`, (t) => {
    const { hook, sent } = lab();
    const closed = hookOf('a', `return deny(flow.protocol)`);
    hook(closed);
    t.equal(sent(3, echo(ends(2, 3), 1, 1)), 0);
    t.equal(closed.asked, 1);
    t.end();
  });
}

function parse(last: number): Uint8Array {
  const address = new Uint8Array(16);
  address.set([0xff, 0xff, 10, 0, 0, last], 10);
  return address;
}
