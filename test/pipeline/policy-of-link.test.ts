/**
 * What keeps a link working passes isolated endpoints, and what only looks like it does not, by real frames through both datapaths.
 *
 *   blue  fd00::2 isolated, fd00::3, fd00::6 a trusted router ── weft ── green  fd00:1::4
 */
import t from 'tap';
import { formatIp, formatMac, linkLocalOf, parseIp, parseMac, type Vni } from '../../src/flow/types.ts';
import { createSimulation, type SimulatedPort } from '../../src/simulation.ts';
import { gatewayMac } from '../../src/table/topology.ts';
import { buildIcmp6 } from '../../src/wire/icmp.ts';
import { IP_ICMPV6 } from '../../src/wire/ipv4.ts';
import { ND_HOP_LIMIT, ND_ROUTER_ADVERTISEMENT, ND_ROUTER_SOLICITATION } from '../../src/wire/nd.ts';
import { datapaths, macOf } from '../support/backend-lab.ts';
import { advertisement, ip, solicitation, udp, wireIp, type Ends } from '../support/frames.ts';
import { policyOf } from '../support/policy/tables.ts';

const [BLUE, GREEN] = [1, 2] as Vni[] as [Vni, Vni];
const gateway = formatMac(gatewayMac(BLUE));
const [ISOLATED, NEIGHBOR, FAR, ROUTER] = [2, 3, 4, 6];
const IGMP = 2;
const allNodes = { dst: 'ff02::1', dstMac: '33:33:00:00:00:01' };
const mdns = '01:00:5e:00:00:fb';
const address6 = (last: number): string => (last === FAR ? `fd00:1::${last}` : `fd00::${last}`);
const address4 = (last: number): string => `10.0.0.${last}`;
const linkLocal = (last: number): string => formatIp(linkLocalOf(parseMac(macOf(last))));
const ends = (from: number, to: number): Ends => ({
  ...{ src: address6(from), dst: address6(to), srcMac: macOf(from), dstMac: macOf(to) },
});

for (const [kind, open] of Object.entries(datapaths)) {
  function lab() {
    const net = createSimulation({ open });
    const host = net.host('here', '192.0.2.1');
    host.createNetwork('blue', BLUE, {
      subnets: ['10.0.0.0/24', 'fd00::/64'],
      routes: [{ to: 'fd00:1::/64', network: 'green' }],
    });
    host.createNetwork('green', GREEN, {
      subnets: ['fd00:1::/64'],
      routes: [{ to: 'fd00::/64', network: 'blue' }],
    });
    const ports = new Map<number, SimulatedPort>();
    for (const last of [ISOLATED, NEIGHBOR, FAR, ROUTER]) {
      const network = last === FAR ? 'green' : 'blue';
      const addresses = last === FAR ? [address6(last)] : [address6(last), address4(last)];
      ports.set(last, host.attach({ name: `e${last}`, network, mac: macOf(last), addresses, trust: last === ROUTER }));
    }
    const { tables, controller } = host.forwarding;
    const identity = { namespace: 'default', labels: {}, namespaceLabels: {}, ports: [] };
    const policy = policyOf({
      ...{ kind: 'NetworkPolicy', metadata: { name: 'closed', namespace: 'default' } },
      spec: { podSelector: {}, policyTypes: ['Ingress', 'Egress'] },
    });
    const isolate = (last: number, isIsolated = true): void => {
      const policies = isIsolated ? [policy] : [];
      tables.policies.setSubject(`e${last}`, { identity, policies, onDeny: 'drop' });
      controller.enforce();
    };
    isolate(ISOLATED);
    t.teardown(() => net.close());
    /** @returns the ports that get it */
    const got = (from: number, frame: Uint8Array): readonly number[] => {
      for (const { received } of ports.values()) received.splice(0);
      ports.get(from)!.send(frame);
      return [...ports].filter(([, { received }]) => received.length > 0).map(([last]) => last);
    };
    /** @returns how many cached flows are decided again because of what is done */
    const redecided = (change: () => void): number => {
      const before = controller.revalidator.statistics().redecided;
      change();
      return controller.revalidator.statistics().redecided - before;
    };
    return { got, isolate, redecided };
  }
  const ofRouters = (on: Ends, type: number): Uint8Array => {
    const message = buildIcmp6(wireIp(on.src!), wireIp(on.dst!), { type, code: 0, body: new Uint8Array(12) });
    return ip({ ...on, ip6: { hopLimit: ND_HOP_LIMIT } }, IP_ICMPV6, message);
  };

  t.test(`${kind}: neighbors discover each other`, (t) => {
    const { got } = lab();
    const asks = (from: number, to: number) => got(from, solicitation({ ...ends(from, to), target: address6(to) }));
    t.same(asks(ISOLATED, NEIGHBOR), [NEIGHBOR]);
    t.same(asks(NEIGHBOR, ISOLATED), [ISOLATED]);
    const answer = { ...ends(ISOLATED, NEIGHBOR), dst: linkLocal(NEIGHBOR), target: address6(ISOLATED) };
    t.same(got(ISOLATED, advertisement(answer)), [NEIGHBOR], 'by link-local addresses, too');
    t.same(
      got(ISOLATED, solicitation({ ...ends(ISOLATED, NEIGHBOR), dst: 'fd00::1', dstMac: gateway, target: 'fd00::1' })),
      [ISOLATED],
      'and the gateway answers',
    );
    t.end();
  });

  t.test(`${kind}: what is routed is judged, also if it looks like neighbor discovery`, (t) => {
    const { got } = lab();
    const through = (from: number, to: number): Ends => ({
      ...ends(from, to),
      dstMac: formatMac(gatewayMac(from === FAR ? GREEN : BLUE)),
    });
    const asks = (from: number, to: number) => got(from, solicitation({ ...through(from, to), target: address6(to) }));
    const seeks = (from: number, to: number) => got(from, ofRouters(through(from, to), ND_ROUTER_SOLICITATION));
    t.same(asks(NEIGHBOR, FAR), [FAR], 'it is routed if nobody is isolated');
    t.same([asks(ISOLATED, FAR), asks(FAR, ISOLATED)], [[], []]);
    t.same([seeks(ISOLATED, FAR), seeks(FAR, ISOLATED)], [[], []]);
    t.same(
      [asks(ISOLATED, NEIGHBOR), seeks(ISOLATED, NEIGHBOR)],
      [[], []],
      'nor does the gateway pass it on to a neighbor',
    );
    t.end();
  });

  t.test(`${kind}: a router says what it is to everybody, and so do members of groups`, (t) => {
    const { got } = lab();
    const fromRouter = { ...ends(ROUTER, ISOLATED), src: linkLocal(ROUTER) };
    t.same(got(ROUTER, ofRouters({ ...fromRouter, ...allNodes }, ND_ROUTER_ADVERTISEMENT)), [ISOLATED, NEIGHBOR]);
    t.same(
      got(ROUTER, ofRouters({ ...fromRouter, dst: linkLocal(ISOLATED) }, ND_ROUTER_ADVERTISEMENT)),
      [ISOLATED],
      'or to one that has asked',
    );
    const report = { src: address4(ISOLATED), dst: '224.0.0.5', srcMac: macOf(ISOLATED) };
    const body = parseIp('::').slice(0, 8);
    t.same(got(ISOLATED, ip({ ...report, dstMac: '01:00:5e:00:00:05' }, IGMP, body)), [NEIGHBOR, ROUTER]);
    t.same(got(ISOLATED, ip({ ...report, dstMac: macOf(ROUTER) }, IGMP, body)), [], 'not to one of them alone');
    t.same(
      got(ISOLATED, solicitation({ ...ends(ISOLATED, ROUTER), dst: 'fd00:7::1', target: 'fd00:7::1' })),
      [],
      'and neighbors are asked by addresses of the network',
    );
    t.end();
  });

  t.test(
    `${kind}: a flood that the link needs does not depend on who is isolated, and one that is judged does`,
    (t) => {
      const { got, isolate, redecided } = lab();
      const fromRouter = { ...ends(ROUTER, ISOLATED), src: linkLocal(ROUTER), ...allNodes };
      const routers = ofRouters(fromRouter, ND_ROUTER_ADVERTISEMENT);
      const question = udp(
        { src: address4(ROUTER), dst: '224.0.0.251', srcMac: macOf(ROUTER), dstMac: mdns },
        5353,
        5353,
      );
      const both = () => [got(ROUTER, routers), got(ROUTER, question)];
      t.same(both(), [[ISOLATED, NEIGHBOR], [NEIGHBOR]]);
      const isJudgedAgain = (last: number, isIsolated?: boolean) => redecided(() => isolate(last, isIsolated));
      t.equal(isJudgedAgain(NEIGHBOR), 1);
      t.same(both(), [[ISOLATED, NEIGHBOR], []]);
      t.equal(isJudgedAgain(ISOLATED, false), 1);
      t.same(both(), [[ISOLATED, NEIGHBOR], [ISOLATED]]);
      t.equal(isJudgedAgain(NEIGHBOR, false), 2, 'both, when nobody is isolated any more');
      t.same(both(), [
        [ISOLATED, NEIGHBOR],
        [ISOLATED, NEIGHBOR],
      ]);
      t.equal(isJudgedAgain(ISOLATED), 2, 'or the first one is');
      t.same(both(), [[ISOLATED, NEIGHBOR], [NEIGHBOR]]);
      t.end();
    },
  );
}
