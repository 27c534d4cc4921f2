/**
 * What passes an isolated endpoint all the same, by real frames through both datapaths: what it has asked for, errors about that,
 * and what it sends to its own address.
 *
 *   client 10.0.0.2 ── weft ── 10.0.0.3, which receives nothing by policy; or both send nothing
 */
import t from 'tap';
import { formatIp, parseIp, parseMac } from '../../src/flow/types.ts';
import { buildIcmp4 } from '../../src/wire/icmp.ts';
import { buildIpv4, IP_ICMP, IP_UDP } from '../../src/wire/ipv4.ts';
import { buildUdp } from '../../src/wire/l4.ts';
import { ACK, backendLab, datapaths, gateway, macOf, SYN, VNI } from '../support/backend-lab.ts';
import { echo, ip, tcp, udp, wireIp, type Ends } from '../support/frames.ts';
import { policyOf } from '../support/policy/tables.ts';
import type { NetworkPolicy } from '../support/policy/world.ts';
import { backend, service, servicePort } from '../support/services.ts';

const [CLIENT, ISOLATED, OTHER, ROUTER] = [2, 3, 4, 6];
const everybody = 'ff:ff:ff:ff:ff:ff';
/** A MAC that no port has. */
const nobody = '02:00:00:00:00:99';
const addressOf = (last: number): string => `10.0.0.${last}`;
const ends = (from: number, to: number): Ends => ({
  ...{ src: addressOf(from), dst: addressOf(to), srcMac: macOf(from), dstMac: macOf(to) },
});

for (const [kind, open] of Object.entries(datapaths)) {
  function lab(spec: Omit<NetworkPolicy['spec'], 'podSelector'>, subject = ISOLATED) {
    const { net, host, client, attach, ports } = backendLab(open);
    const isolated = ports.get(ISOLATED)!;
    const { tables, controller } = host.forwarding;
    const identity = { namespace: 'default', labels: {}, namespaceLabels: {}, ports: [] };
    const policy: NetworkPolicy = {
      ...{ kind: 'NetworkPolicy', metadata: { name: 'closed', namespace: 'default' } },
      spec: { podSelector: {}, ...spec },
    };
    tables.policies.workloadsFrom((address) => ({ endpoint: `e${formatIp(address).split('.').at(-1)}`, identity }));
    tables.policies.setSubject(`e${subject}`, { identity, policies: [policyOf(policy)], onDeny: 'drop' });
    controller.enforce();
    t.teardown(() => net.close());
    /** @returns how many frames come out where they should */
    const sent = (from: number, to: number, frame: Uint8Array): number => {
      for (const { received } of [client, isolated]) received.splice(0);
      (from === CLIENT ? client : isolated).send(frame);
      return (to === CLIENT ? client : isolated).received.splice(0).length;
    };
    /** @returns how many frames come out at each other port */
    const got = (from: number, frame: Uint8Array): Readonly<Record<number, number>> => {
      const all = new Map([[CLIENT, client] as const, ...ports]);
      for (const { received } of all.values()) received.splice(0);
      all.get(from)!.send(frame);
      return Object.fromEntries(
        [...all].flatMap(([last, { received }]) => (received.length > 0 ? [[last, received.length]] : [])),
      );
    };
    const attachTrusted = (last: number): void => void ports.set(last, attach(last, { trust: true }));
    const attachWith = (last: number, options: Parameters<typeof attach>[1]): void =>
      void ports.set(last, attach(last, options));
    return { sent, got, attachTrusted, attachWith, host };
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

  t.test(`${kind}: 15 an error passes if it is from the other end or from a router, and from nobody else`, (t) => {
    const { got, sent, attachTrusted } = lab({ ingress: [] });
    attachTrusted(ROUTER);
    const about = (teller: number): Uint8Array => {
      const [source, destination] = [wireIp(addressOf(ISOLATED)), wireIp(addressOf(CLIENT))];
      const datagram = buildUdp(source, destination, {
        sourcePort: 5000,
        destinationPort: 53,
        payload: new Uint8Array(8),
      });
      const quoted = buildIpv4({ source, destination, protocol: IP_UDP, payload: datagram });
      const body = Uint8Array.from([0, 0, 0, 0, ...quoted]);
      return ip(ends(teller, ISOLATED), IP_ICMP, buildIcmp4({ type: 3, code: 3, body }));
    };
    t.equal(sent(ISOLATED, CLIENT, udp(ends(ISOLATED, CLIENT), 5000, 53, new Uint8Array(8))), 1);
    t.same(got(CLIENT, about(CLIENT)), { [ISOLATED]: 1 });
    t.same(got(OTHER, about(OTHER)), {});
    t.same(got(ROUTER, about(ROUTER)), { [ISOLATED]: 1 });
    t.same(got(OTHER, about(OTHER)), {});
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

  t.test(`${kind}: a MAC leads to nobody but who has the IP address`, (t) => {
    const none = lab({ policyTypes: ['Egress'] });
    const wrong = { ...ends(ISOLATED, ISOLATED), dstMac: macOf(OTHER) };
    t.same(none.got(ISOLATED, udp(wrong, 5000, 53)), {}, 'its own address does not lead to the MAC of another one');
    t.same(none.got(ISOLATED, udp({ ...wrong, dstMac: everybody }, 5000, 53)), {}, 'nor to everybody');
    const one = lab({ policyTypes: ['Egress'], egress: [{ to: [{ ipBlock: { cidr: '10.0.0.2/32' } }] }] });
    const allowed = ends(ISOLATED, CLIENT);
    const beside = { ...allowed, dstMac: macOf(OTHER) };
    t.same(one.got(ISOLATED, udp(beside, 5000, 53)), {}, 'nor that of an allowed peer');
    t.same(one.got(ISOLATED, udp(allowed, 5000, 53)), { [CLIENT]: 1 });
    t.same(one.got(ISOLATED, udp(allowed, 5000, 53)), { [CLIENT]: 1 }, 'its conversation is known');
    t.same(one.got(ISOLATED, udp(beside, 5000, 53)), {}, 'nor that of a known conversation');
    t.same(one.got(ISOLATED, udp({ ...allowed, dstMac: everybody }, 5000, 53)), {}, 'nor to everybody');
    t.same(one.got(ISOLATED, udp({ ...allowed, dstMac: nobody }, 5000, 53)), {}, 'nor to a MAC that is unknown');
    one.attachTrusted(ROUTER);
    const router = { ...allowed, dstMac: macOf(ROUTER) };
    t.same(one.got(ISOLATED, udp(router, 5000, 53)), {}, 'a router does not get what is for a neighbor');
    t.end();
  });

  t.test(`${kind}: a known conversation does not lead to an isolated workload that is not part of it`, (t) => {
    const { got } = lab({ ingress: [] });
    const open = udp(ends(CLIENT, OTHER), 5000, 53);
    t.same([got(CLIENT, open), got(CLIENT, open)], [{ [OTHER]: 1 }, { [OTHER]: 1 }]);
    t.same(got(CLIENT, udp({ ...ends(CLIENT, OTHER), dstMac: macOf(ISOLATED) }, 5000, 53)), {});
    t.same(got(CLIENT, udp({ ...ends(CLIENT, OTHER), dstMac: everybody }, 5000, 53)), { 4: 1, 5: 1 });
    t.end();
  });

  t.test(`${kind}: a router is reached by the addresses behind it, and judged by these`, (t) => {
    const behind = { ...ends(ISOLATED, ROUTER), dst: '192.0.2.7' };
    const { got, attachTrusted } = lab({
      policyTypes: ['Egress'],
      egress: [{ to: [{ ipBlock: { cidr: '192.0.2.7/32' } }] }],
    });
    attachTrusted(ROUTER);
    t.same(got(ISOLATED, udp(behind, 5000, 53)), { [ROUTER]: 1 });
    t.same(got(ISOLATED, udp({ ...behind, dst: '192.0.2.8' }, 5000, 53)), {});
    t.same(got(ISOLATED, udp({ ...behind, dstMac: macOf(OTHER) }, 5000, 53)), {}, 'others are not');
    t.end();
  });

  t.test(`${kind}: whoever is behind a trusted endpoint has no identity but its own`, (t) => {
    const { got, attachTrusted } = lab({ ingress: [{ from: [{ podSelector: {} }] }] });
    attachTrusted(ROUTER);
    const own = ends(ROUTER, ISOLATED);
    t.same(got(ROUTER, udp(own, 5000, 53)), { [ISOLATED]: 1 });
    t.same(got(ROUTER, udp({ ...own, src: addressOf(OTHER) }, 5000, 53)), {}, 'nor that of whose address it uses');
    t.same(got(ROUTER, udp({ ...own, src: addressOf(OTHER), dstMac: gateway }, 5000, 53)), {}, 'also if it is routed');
    t.same(got(OTHER, udp(ends(OTHER, ISOLATED), 5000, 53)), { [ISOLATED]: 1 });
    const block = lab({ ingress: [{ from: [{ ipBlock: { cidr: '10.0.0.4/32' } }] }] });
    block.attachTrusted(ROUTER);
    t.same(block.got(ROUTER, udp({ ...own, src: addressOf(OTHER) }, 5000, 53)), { [ISOLATED]: 1 }, 'it has an address');
    t.end();
  });

  t.test(`${kind}: 22 a namespace with other labels is asked for anew`, (t) => {
    const from = { namespaceSelector: { matchLabels: { team: 'a' } } };
    const { got, host } = lab({ ingress: [{ from: [from] }] });
    const { tables, controller } = host.forwarding;
    const asked = udp(ends(CLIENT, ISOLATED), 5000, 53);
    for (const [team, expected] of [
      ['b', {}],
      ['a', { [ISOLATED]: 1 }],
      ['b', {}],
    ] as const) {
      const identity = { namespace: 'default', labels: {}, namespaceLabels: { team }, ports: [] };
      tables.policies.workloadsFrom(() => ({ endpoint: `e${CLIENT}`, identity }));
      tables.policies.namespaceChanged('default', { team });
      controller.enforce();
      t.same(got(CLIENT, asked), expected, team);
    }
    t.end();
  });

  t.test(`${kind}: who has an address is the same behind a router`, (t) => {
    const { got, attachTrusted, host } = lab({ policyTypes: ['Egress'], egress: [{ to: [{ podSelector: {} }] }] });
    attachTrusted(ROUTER);
    const routes = [{ to: '10.8.0.0/16', network: 'blue', via: [addressOf(ROUTER)] }];
    host.createNetwork('blue', VNI, { subnets: ['10.0.0.0/24'], routes });
    const routed = { ...ends(ISOLATED, ROUTER), dst: '10.8.0.5', dstMac: gateway };
    t.same(got(ISOLATED, udp(routed, 5000, 53)), { [ROUTER]: 1 });
    t.end();
  });

  t.test(`${kind}: no packet of a flood reaches an isolated workload`, (t) => {
    const { got, attachTrusted } = lab({ ingress: [] }, ROUTER);
    attachTrusted(ROUTER);
    const unknown = udp({ ...ends(CLIENT, CLIENT), dst: '192.0.2.7', dstMac: nobody }, 5000, 53);
    for (const which of ['the first', 'the second', 'the third'])
      t.same(got(CLIENT, unknown), { 3: 1, 4: 1, 5: 1 }, which);
    const untrusted = lab({ ingress: [{ from: [{ ipBlock: { cidr: '10.0.0.0/24' } }] }] });
    for (const which of ['the first', 'the second'])
      t.same(untrusted.got(CLIENT, unknown), { 4: 1, 5: 1 }, `${which}, whomever it admits: the MAC is not its own`);
    t.end();
  });

  t.test(
    `${kind}: nor does any packet of a connection through a service, of whose backend only the MAC is known`,
    (t) => {
      const [SERVICE_PORT, TARGET_PORT] = [80, 8080];
      const only = (port: number) => ({ ingress: [{ ports: [{ protocol: 'TCP' as const, port }] }] });
      for (const [spec, isAdmitted] of [
        [{ ingress: [] }, false],
        [only(SERVICE_PORT), false],
        [only(TARGET_PORT), true],
      ] as [Parameters<typeof lab>[0], boolean][]) {
        const { got, attachTrusted, host } = lab(spec, ROUTER);
        attachTrusted(ROUTER);
        const { forwarding } = host;
        forwarding.tables.services.setHost('here', undefined);
        forwarding.tables.neighbors.set(VNI, parseIp('10.0.0.9'), parseMac(nobody));
        const backends = [backend('10.0.0.9', { vni: VNI, host: 'here' })];
        forwarding.setService(service({ backends, ports: [servicePort(1)] }));
        forwarding.servicesLoaded();
        const request = { ...ends(CLIENT, CLIENT), dst: '10.96.0.1', dstMac: gateway };
        const send = (flags: number) =>
          got(CLIENT, tcp(request, { sourcePort: 9, destinationPort: SERVICE_PORT, flags }));
        const expected = { 3: 1, 4: 1, 5: 1, ...(isAdmitted && { [ROUTER]: 1 }) };
        for (const flags of [SYN, ACK, ACK]) t.same(send(flags), expected, JSON.stringify(spec));
      }
      t.end();
    },
  );

  const ROUTED: readonly (readonly [string, Omit<NetworkPolicy['spec'], 'podSelector'>, number])[] = [
    ['may send nothing', { policyTypes: ['Egress'], egress: [] }, ROUTER],
    ['is not whom the receiver admits', { ingress: [{ from: [{ podSelector: {} }] }] }, ISOLATED],
  ];
  for (const [why, spec, subject] of ROUTED)
    t.test(`${kind}: a trusted endpoint does not go on with a conversation of another one: it ${why}`, (t) => {
      const { got, attachTrusted } = lab(spec, subject);
      attachTrusted(ROUTER);
      const conversation = ends(CLIENT, ISOLATED);
      t.same(got(CLIENT, udp(conversation, 5000, 53)), { [ISOLATED]: 1 });
      t.same(got(CLIENT, udp(conversation, 5000, 53)), { [ISOLATED]: 1 }, 'which is known');
      t.same(got(ROUTER, udp({ ...conversation, srcMac: macOf(ROUTER) }, 5000, 53)), {});
      t.same(got(CLIENT, udp(conversation, 5000, 53)), { [ISOLATED]: 1 }, 'it goes on');
      t.end();
    });

  t.test(`${kind}: a conversation with one that shares an address is not gone on with to the other`, (t) => {
    const { got, attachWith } = lab({ ingress: [] }, 7);
    for (const last of [ROUTER, 7]) attachWith(last, { allowedAddresses: ['10.0.0.100'] });
    const to = (last: number): Uint8Array => udp({ ...ends(CLIENT, last), dst: '10.0.0.100' }, 5000, 53);
    t.same(got(CLIENT, to(7)), {});
    t.same(got(CLIENT, to(ROUTER)), { [ROUTER]: 1 });
    t.same(got(CLIENT, to(ROUTER)), { [ROUTER]: 1 });
    t.same(got(CLIENT, to(7)), {}, 'it is known, but not as one with this one');
    t.end();
  });
}
