/**
 * Objects are as fine as what can change. On a host with 1,000 endpoints and 10,000 cached flows from or into the
 * tunnel, a change causes new decisions only for flows that consulted what has changed, and no other flow leaves the
 * datapath.
 */
import t, { type Test } from 'tap';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { CONNECTION_BYTES } from '../../src/flow/connection.ts';
import { formatIp, formatMac, parseIp, type FlowId, type PortNo } from '../../src/flow/types.ts';
import { Forwarding } from '../../src/forwarding.ts';
import { routing } from '../../src/cluster/routing.ts';
import { gatewayMac, publishedId, type Published } from '../../src/table/topology.ts';
import { IP_TCP } from '../../src/wire/ipv4.ts';
import { buildVxlan } from '../../src/wire/vxlan.ts';
import { udp } from '../support/frames.ts';
import { endpoint, FIRST_PORT, ipOf, macOf, vni } from './workloads.ts';

const ENDPOINTS = 1000;
const TUNNEL_FLOWS = 10_000;
const OUTSIDE_FLOWS = 200;
const FLOODS = 10;
/** The most of the 10,000 flows that one change may cause to be decided again. */
const MOST = 50;

const [UNDERLAY, OUTSIDE] = [1 as PortNo, 2 as PortNo];
const local = parseIp('192.0.2.1');
const vteps = ['192.0.2.2', '192.0.2.3'].map(parseIp);
const published: Published = { endpoint: 'w0', vni, addresses: [ipOf(0)], l4Port: 80 };
const link = { portNo: OUTSIDE, transit: [parseIp('169.254.77.2')], mtu: 1500 };

/** Endpoints below ENDPOINTS are on this host, the others on the other hosts in turn. */
function fullHost() {
  let nowMs = 0;
  const forwarding = new Forwarding(openReferenceDatapath, {
    hostId: Uint8Array.of(0, 0, 1),
    fdbQuota: 2048,
    neighborQuota: 64,
    fdbAgeingMs: 300_000,
    flowCap: 100_000,
    flowIdleMs: 10_000,
    connections: new Uint8Array(1024 * CONNECTION_BYTES),
    connectionQuota: 512,
    wallClock: () => 0,
    natKey: new Uint8Array(8),
    clock: () => nowMs,
    onPortLost: () => {},
    onError: (error) => {
      throw error;
    },
  });
  const { datapath } = forwarding;
  forwarding.openUnderlay(UNDERLAY, { kind: 'memory-vxlan', name: 'underlay', local, transmit() {} });
  forwarding.setNetwork({ name: 'blue', vni, mtu: 1450, outside: true, ...routing('blue', ['10.0.0.0/16'], []) });
  forwarding.setOutside(
    { ...link, published: new Map([[publishedId(IP_TCP, 8080), published]]) },
    { kind: 'memory', name: 'outside', transmit() {} },
  );
  for (const vtep of vteps) forwarding.remote.addVtep(vtep);
  for (let n = 0; n < ENDPOINTS; n++) {
    forwarding.addPort(endpoint(n), { kind: 'memory', name: `w${n}`, transmit() {} });
  }

  const send = (from: number, to: number, l4Port: number): void => {
    const ends = {
      srcMac: formatMac(macOf(from)),
      src: formatIp(ipOf(from)),
      dstMac: formatMac(macOf(to)),
      dst: formatIp(ipOf(to)),
    };
    const frame = udp(ends, 1000, l4Port);
    if (from < ENDPOINTS) datapath.inject((FIRST_PORT + from) as PortNo, frame);
    else {
      const source = vteps[from % vteps.length]!;
      const payload = buildVxlan({ vni, frame });
      datapath.injectDatagram(UNDERLAY, { source, destination: local, sourcePort: 50_000, payload });
    }
  };
  const each = TUNNEL_FLOWS / 2 / ENDPOINTS;
  for (let i = 0; i < each; i++) {
    // The rate of upcalls is limited.
    nowMs += 1000;
    for (let n = 0; n < ENDPOINTS; n++) {
      const remote = ENDPOINTS + 40 * i + (n % 40);
      send(remote, n, 53);
      send(n, remote, 53);
    }
  }
  for (let i = 0; i < OUTSIDE_FLOWS; i++) {
    const ends = { srcMac: formatMac(macOf(i)), src: formatIp(ipOf(i)), dstMac: formatMac(gatewayMac(vni)) };
    datapath.inject((FIRST_PORT + i) as PortNo, udp({ ...ends, dst: '203.0.113.9' }, 1000, 53));
  }
  for (let i = 0; i < FLOODS; i++) send(i, 9999, 53);
  nowMs += 1;
  return { forwarding, nowMs };
}

type Host = ReturnType<typeof fullHost>;

/** How many flows a change has caused to be decided again, and how many it has removed from the datapath. */
function effectOf(t: Test, { forwarding }: Host, change: () => void) {
  const { controller, datapath } = forwarding;
  const inDatapath = (): Set<FlowId> => new Set([...datapath.flowDump()].map(({ id }) => id));
  const flows = [...controller.flows.dump()].map(({ flow }) => ({ id: flow.id, decision: flow.decision }));
  const { redecided, withdrawn } = controller.revalidator.statistics();
  change();
  const after = controller.revalidator.statistics();
  const left = inDatapath();
  const gone = flows.filter(({ id }) => !left.has(id));
  t.equal(after.withdrawn - withdrawn, gone.length, 'the counter says what has left the datapath');
  return { redecided: after.redecided - redecided, gone };
}

t.test('a change has decided anew what looked at what has changed, and nothing else', async (t) => {
  const host = fullHost();
  const { forwarding } = host;
  const { controller } = forwarding;
  const tunnelled = [...controller.flows.dump()].filter(
    ({ flow: { decision } }) =>
      decision.actions.some(({ op }) => op === 'encap') || decision.consulted.some((one) => one.startsWith('vtep/')),
  );
  t.ok(tunnelled.length >= TUNNEL_FLOWS, `${tunnelled.length} flows from the tunnel or into it`);
  const translated = [...forwarding.tables.connections.entries()].filter(({ kind }) => kind === 'translated');
  t.equal(translated.length, OUTSIDE_FLOWS);

  const own = endpoint(ENDPOINTS - 1);
  const consultedIt = (consulted: readonly string[]): boolean =>
    [`port/${own.portNo}`, `fdb/${vni}/${formatMac(own.mac)}`].some((object) => consulted.includes(object));
  const detached = effectOf(t, host, () => forwarding.removePort(own.portNo));
  t.ok(detached.redecided > FLOODS && detached.redecided <= MOST, `detaching one endpoint: ${detached.redecided}`);
  t.same(
    detached.gone.filter(({ decision }) => !consultedIt(decision.consulted)),
    [],
    'only what was from it or to it leaves the datapath',
  );

  const attached = effectOf(t, host, () => {
    forwarding.addPort(own, { kind: 'memory', name: own.name, transmit() {} });
  });
  t.ok(attached.redecided <= MOST && attached.gone.length === 0, `attaching it again: ${attached.redecided}`);

  const changes: Record<string, () => void> = {
    'an endpoint that stays as it is': () => forwarding.changePort({ ...own }),
    'adding a VTEP': () => forwarding.remote.addVtep(parseIp('192.0.2.4')),
    'publishing a port': () => {
      const more = new Map([
        [publishedId(IP_TCP, 8080), published],
        [publishedId(IP_TCP, 8081), { ...published, l4Port: 81 }],
      ]);
      forwarding.setOutside({ ...link, published: more });
    },
    'declaring an endpoint of another host': () =>
      forwarding.remote.addEndpoint({ vni, mac: macOf(5000), addresses: [ipOf(5000)], vtep: vteps[0]!, trust: false }),
    'a route of the other family': () => {
      const { subnets, gateways, routes } = routing('blue', ['10.0.0.0/16'], [{ to: 'fd00::/8', type: 'prohibit' }]);
      forwarding.setNetwork({ name: 'blue', vni, mtu: 1450, outside: true, subnets, gateways, routes });
    },
  };
  for (const [what, change] of Object.entries(changes)) {
    const { redecided, gone } = effectOf(t, host, change);
    t.ok(redecided <= MOST, `${what}: ${redecided}`);
    t.same(gone.length, 0);
    if (what === 'adding a VTEP') t.equal(redecided, FLOODS, 'the floods');
    t.equal(effectOf(t, host, change).redecided, 0, 'the same again: none');
  }
  forwarding.datapath.close();
});
