/**
 * A flood goes to all ports of its network, so every port that joins or leaves concerns every cached flood. What one
 * such change costs does not grow with the number of floods: it decides some of the most used ones again, and the
 * others with their next frame.
 */
import t from 'tap';
import { routing } from '../../src/cluster/routing.ts';
import { REDECIDE_FLOOD_ACTIONS } from '../../src/control/revalidator.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { formatMac, parseIp, type PortNo } from '../../src/flow/types.ts';
import { Forwarding } from '../../src/forwarding.ts';
import { buildVxlan } from '../../src/wire/vxlan.ts';
import { udp } from '../support/frames.ts';
import { endpoint, FIRST_PORT, macOf, vni } from './workloads.ts';

const ENDPOINTS = 400;
/** Frames to different group addresses that each endpoint sends when it starts. */
const FLOODS_EACH = 2;
const UNDERLAY = 1 as PortNo;
const local = parseIp('192.0.2.1');
const peer = parseIp('192.0.2.2');

/** A host without endpoints. */
function emptyHost() {
  let nowMs = 0;
  const received = new Map<number, number>();
  const forwarding = new Forwarding(openReferenceDatapath, {
    hostId: Uint8Array.of(0, 0, 1),
    fdbQuota: 64,
    neighborQuota: 64,
    fdbAgeingMs: 300_000,
    flowCap: 100_000,
    flowIdleMs: 600_000,
    connections: new Uint8Array(0),
    connectionQuota: 1,
    storm: { port: 0, tunnel: 0 },
    wallClock: () => 0,
    natKey: new Uint8Array(8),
    clock: () => nowMs,
    onPortLost: () => {},
    onError: (error) => {
      throw error;
    },
  });
  forwarding.openUnderlay(UNDERLAY, { kind: 'memory-vxlan', name: 'underlay', local, transmit() {} });
  forwarding.remote.addVtep(peer);
  forwarding.setNetwork({ name: 'blue', vni, mtu: 1450, ...routing('blue', ['10.0.0.0/16'], []) });
  const attach = (n: number): void => {
    nowMs += 10;
    const transmit = (): void => void received.set(n, (received.get(n) ?? 0) + 1);
    forwarding.addPort(endpoint(n), { kind: 'memory', name: `w${n}`, transmit });
  };
  const flood = (n: number, group: number): void => {
    const ends = { srcMac: formatMac(macOf(n)), src: `10.0.${n >> 8}.${n & 0xff}` };
    const frame = udp({ ...ends, dstMac: `01:00:5e:00:00:0${group}`, dst: `224.0.0.${group}` }, 1000, 53);
    forwarding.datapath.inject((FIRST_PORT + n) as PortNo, frame);
  };
  const receivedBy = (n: number): number => received.get(n) ?? 0;
  return { forwarding, attach, flood, receivedBy };
}

t.test('joining and leaving a large network decides some floods again, not all', async (t) => {
  const { forwarding, attach, flood, receivedBy } = emptyHost();
  const { controller, datapath } = forwarding;
  const redecidedBy = (change: () => void): number => {
    const before = controller.revalidator.statistics().redecided;
    change();
    return controller.revalidator.statistics().redecided - before;
  };
  for (let n = 0; n < ENDPOINTS; n++) {
    attach(n);
    for (let group = 1; group <= FLOODS_EACH; group++) flood(n, group);
  }
  for (let n = 0; n < ENDPOINTS; n++) for (let group = 1; group <= FLOODS_EACH; group++) flood(n, group);
  t.equal(controller.flows.size, ENDPOINTS * FLOODS_EACH, 'all floods are cached');
  // One of them is used often, which the next dump tells.
  for (let i = 0; i < 10; i++) flood(7, 2);
  controller.tick();

  const most = REDECIDE_FLOOD_ACTIONS / ENDPOINTS;
  const joined = redecidedBy(() => attach(ENDPOINTS));
  t.ok(joined > 0 && joined <= most, `joining: ${joined} of ${ENDPOINTS * FLOODS_EACH} floods are decided again`);
  t.equal(datapath.counters().flows, joined, 'the others are gone');
  t.equal(controller.flows.size, joined);

  const { upcalls } = datapath.counters();
  const before = receivedBy(ENDPOINTS);
  flood(7, 2);
  t.equal(datapath.counters().upcalls, upcalls, 'the most used one is among those that stay');
  t.equal(receivedBy(ENDPOINTS) - before, 1, 'and the new port receives it');
  for (let n = 0; n < ENDPOINTS; n++) flood(n, 1);
  t.equal(receivedBy(ENDPOINTS) - before, 1 + ENDPOINTS, 'and also what the others flood from now on');

  const gone = endpoint(3).portNo;
  const left = redecidedBy(() => forwarding.removePort(gone));
  t.ok(left > 0 && left <= most, `leaving: ${left} floods are decided again`);
  const outputs = [...datapath.flowDump()].flatMap(({ actions }) => actions);
  t.notOk(
    outputs.some((action) => action.op === 'output' && action.port === gone),
    'and none that is cached leads there',
  );
  datapath.close();
});

t.test('a frame of the tunnel to a single station is decided without a look at the ports', async (t) => {
  const { forwarding, attach, receivedBy } = emptyHost();
  const { tables, datapath } = forwarding;
  for (let n = 0; n < 10; n++) attach(n);
  const { ports } = tables.topology.network(vni)!;
  let looks = 0;
  const values = ports.values.bind(ports);
  Object.assign(ports, {
    [Symbol.iterator]: () => {
      looks++;
      return values();
    },
  });
  const send = (destination: number, dstMac = formatMac(macOf(destination))): void => {
    const ends = { srcMac: '02:00:00:00:99:99', dstMac, src: '10.0.99.1', dst: `10.0.0.${destination}` };
    const payload = buildVxlan({ vni, frame: udp(ends, 1000, 53) });
    datapath.injectDatagram(UNDERLAY, { source: peer, destination: local, sourcePort: 50_000, payload });
  };
  send(3);
  t.equal(receivedBy(3), 1, 'it arrives');
  send(99);
  t.match(datapath.counters().drops, { no_destination: 1 }, 'nobody has the other MAC');
  t.equal(looks, 0, 'the ports were not listed');
  send(0, 'ff:ff:ff:ff:ff:ff');
  t.equal(receivedBy(3), 2);
  t.ok(looks > 0, 'a flood lists them, so this would have been noticed');
  datapath.close();
});

t.test('many floods that no frame has hit are not decided again, and a few are', (t) => {
  const { forwarding, attach, flood, receivedBy } = emptyHost();
  const { flows, revalidator } = forwarding.controller;
  const FEW_ENDPOINTS = 40;
  for (let n = 0; n < FEW_ENDPOINTS; n++) attach(n);
  for (let n = 0; n < 10; n++) flood(n, 1);
  const before = revalidator.statistics().redecided;
  attach(FEW_ENDPOINTS);
  t.equal(revalidator.statistics().redecided - before, 10);
  t.equal(flows.size, 10);
  for (let n = 10; n < FEW_ENDPOINTS; n++) flood(n, 1);
  t.equal(flows.size, FEW_ENDPOINTS);
  attach(FEW_ENDPOINTS + 1);
  t.equal(flows.size, 0);
  flood(0, 1);
  t.equal(receivedBy(FEW_ENDPOINTS + 1), 1, 'and each that is still needed is decided with its next frame');
  forwarding.datapath.close();
  t.end();
});
