/**
 * What passes an isolated endpoint all the same, by real frames through both datapaths: what it has asked for, errors about that,
 * and what it sends to its own address.
 *
 *   client 10.0.0.2 ── weft ── 10.0.0.3, which receives nothing by policy; or both send nothing
 */
import t from 'tap';
import { formatIp } from '../../src/flow/types.ts';
import { buildIcmp4 } from '../../src/wire/icmp.ts';
import { buildIpv4, IP_ICMP, IP_UDP } from '../../src/wire/ipv4.ts';
import { buildUdp } from '../../src/wire/l4.ts';
import { backendLab, datapaths, gateway, macOf, SYN } from '../support/backend-lab.ts';
import { echo, ip, tcp, udp, wireIp, type Ends } from '../support/frames.ts';
import { policyOf } from '../support/policy/tables.ts';
import type { NetworkPolicy } from '../support/policy/world.ts';

const [CLIENT, ISOLATED] = [2, 3];
const addressOf = (last: number): string => `10.0.0.${last}`;
const ends = (from: number, to: number): Ends => ({
  ...{ src: addressOf(from), dst: addressOf(to), srcMac: macOf(from), dstMac: macOf(to) },
});

for (const [kind, open] of Object.entries(datapaths)) {
  function lab(spec: Omit<NetworkPolicy['spec'], 'podSelector'>) {
    const { net, host, client, ports } = backendLab(open);
    const isolated = ports.get(ISOLATED)!;
    const { tables, controller } = host.forwarding;
    const identity = { namespace: 'default', labels: {}, namespaceLabels: {}, ports: [] };
    const policy: NetworkPolicy = {
      ...{ kind: 'NetworkPolicy', metadata: { name: 'closed', namespace: 'default' } },
      spec: { podSelector: {}, ...spec },
    };
    tables.policies.workloadsFrom((address) => ({ endpoint: `e${formatIp(address).split('.').at(-1)}`, identity }));
    tables.policies.setSubject(`e${ISOLATED}`, { identity, policies: [policyOf(policy)], onDeny: 'drop' });
    controller.enforce();
    t.teardown(() => net.close());
    /** @returns how many frames come out where they should */
    const sent = (from: number, to: number, frame: Uint8Array): number => {
      for (const { received } of [client, isolated]) received.splice(0);
      (from === CLIENT ? client : isolated).send(frame);
      return (to === CLIENT ? client : isolated).received.splice(0).length;
    };
    return { sent };
  }
  /** That a datagram from one end to the other met a closed port, as the receiver tells its sender. */
  const unreachable = (teller: number, told: number, sourcePort: number): Uint8Array => {
    const [source, destination] = [wireIp(addressOf(told)), wireIp(addressOf(teller))];
    const datagram = buildUdp(source, destination, { sourcePort, destinationPort: 53, payload: new Uint8Array(8) });
    const quoted = buildIpv4({ source, destination, protocol: IP_UDP, payload: datagram });
    const body = Uint8Array.from([0, 0, 0, 0, ...quoted]);
    return ip(ends(teller, told), IP_ICMP, buildIcmp4({ type: 3, code: 3, body }));
  };

  t.test(`${kind}: 15 replies and errors about what was asked for pass, and nothing else`, (t) => {
    const { sent } = lab({ ingress: [] });
    t.equal(sent(CLIENT, ISOLATED, tcp(ends(CLIENT, ISOLATED), { sourcePort: 9, destinationPort: 80, flags: SYN })), 0);
    t.equal(sent(CLIENT, ISOLATED, udp(ends(CLIENT, ISOLATED), 53, 5000)), 0, 'no reply without a question');
    t.equal(
      sent(CLIENT, ISOLATED, unreachable(CLIENT, ISOLATED, 5000)),
      0,
      'and no error about one that there was not',
    );
    t.equal(sent(ISOLATED, CLIENT, udp(ends(ISOLATED, CLIENT), 5000, 53, new Uint8Array(8))), 1, 'it may ask');
    t.equal(sent(CLIENT, ISOLATED, udp(ends(CLIENT, ISOLATED), 53, 5000)), 1, 'its reply');
    t.equal(sent(CLIENT, ISOLATED, unreachable(CLIENT, ISOLATED, 5000)), 1, 'and an error about it');
    t.equal(sent(CLIENT, ISOLATED, udp(ends(CLIENT, ISOLATED), 53, 5001)), 0, 'not to another port');
    t.end();
  });

  t.test(`${kind}: 15 an echo is of a protocol without ports`, (t) => {
    const ports = lab({ ingress: [{ ports: [{ protocol: 'TCP' }, { protocol: 'UDP' }] }] });
    t.equal(ports.sent(CLIENT, ISOLATED, echo(ends(CLIENT, ISOLATED), 7, 1)), 0, 'ports do not mean it');
    t.equal(ports.sent(ISOLATED, CLIENT, echo(ends(ISOLATED, CLIENT), 8, 1)), 1);
    const all = lab({ ingress: [{}] });
    t.equal(all.sent(CLIENT, ISOLATED, echo(ends(CLIENT, ISOLATED), 7, 1)), 1, 'all protocols do');
    t.end();
  });

  t.test(`${kind}: 18 what it sends to its own address is always allowed`, (t) => {
    const { sent } = lab({ policyTypes: ['Ingress', 'Egress'] });
    const own = { ...ends(ISOLATED, ISOLATED), dstMac: gateway };
    t.equal(sent(ISOLATED, ISOLATED, udp(own, 5000, 53)), 1);
    t.equal(sent(ISOLATED, CLIENT, udp(ends(ISOLATED, CLIENT), 5000, 53)), 0, 'to nobody else');
    t.end();
  });
}
