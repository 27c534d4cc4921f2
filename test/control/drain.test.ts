/** Connections to a backend that is drained end when its time is over, not at the next tick. */
import t, { type Test } from 'tap';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { connectionBytes } from '../../src/flow/connection.ts';
import { formatIp, parseIp, type Vni } from '../../src/flow/types.ts';
import { connectionSlots, Forwarding } from '../../src/forwarding.ts';
import { prefixOf, routing } from '../../src/cluster/routing.ts';
import { IP_TCP } from '../../src/wire/ipv4.ts';
import { backend, service, VIP } from '../support/services.ts';

const VNI = 100 as Vni;
const ALL = ['10.0.0.2', '10.0.0.3', '10.0.0.4'];

interface Timer {
  readonly atMs: number;
  readonly work: () => void;
}

/** A switch with a service of three backends, at a time that the test says. @param later where work of later turns goes */
function openSwitch(
  t: Test,
  { connections = 64, later }: { connections?: number; later?: (work: () => void) => void },
) {
  let nowMs = 0;
  const timers = new Set<Timer>();
  const forwarding = new Forwarding(openReferenceDatapath, {
    hostId: Uint8Array.of(0, 0, 1),
    fdbQuota: 10,
    neighborQuota: 64,
    fdbAgeingMs: 300_000,
    flowCap: 100,
    flowIdleMs: 10_000,
    connections: new Uint8Array(connectionBytes(connectionSlots(connections))),
    connectionQuota: connections,
    wallClock: () => 0,
    natKey: new Uint8Array(8),
    clock: () => nowMs,
    after: (delayMs, work) => {
      const timer = { atMs: nowMs + delayMs, work };
      timers.add(timer);
      return () => void timers.delete(timer);
    },
    ...(later && { later }),
    onPortLost: () => {},
    onError: (error) => {
      throw error;
    },
  });
  const close = (): void => {
    forwarding.close();
    t.equal(timers.size, 0, 'nothing is waited for when it is closed');
  };
  const { tables } = forwarding;
  const passUntil = (ms: number): void => {
    for (nowMs = ms; ; ) {
      const due = [...timers].find(({ atMs }) => atMs <= nowMs);
      if (!due) return;
      timers.delete(due);
      due.work();
    }
  };
  const declare = (...drained: readonly string[]): void => {
    const backends = ALL.map((ip) => backend(ip, { vni: VNI, terminating: drained.includes(ip) }));
    forwarding.setService(service({ vips: [VIP], backends, drainMs: 1500 }));
  };
  forwarding.setNetwork({ name: 'net', vni: VNI, ...routing('net', ['10.0.0.0/24'], []) });
  forwarding.setServiceRanges([prefixOf('10.96.0.0/16')]);
  declare();
  forwarding.servicesLoaded();
  let opened = 0;
  const openConnections = (count: number): void => {
    for (const last = opened + count; opened < last; opened++) {
      // What a single client has not established is bounded.
      const source = parseIp(`10.0.1.${opened >> 8}`);
      const original = { source, sourcePort: (opened & 255) + 1, destination: VIP, destinationPort: 80 };
      const choice = tables.services.choose(tables.services.find(VIP, IP_TCP, 80)!, VNI, {
        protocol: IP_TCP,
        ...original,
      });
      if (choice.kind === 'none') throw new Error('there is no backend');
      tables.connections.open({ vni: VNI, protocol: IP_TCP, original, choice, replies: VNI }, nowMs);
    }
  };
  /** The backends that have connections. */
  const inUse = (): readonly string[] => {
    const open = [...tables.connections.entries()].filter(({ kind }) => kind === 'translated');
    return [...new Set(open.map(({ translated }) => formatIp(translated.destination)))].toSorted();
  };
  return { forwarding, close, passUntil, declare, openConnections, inUse, setTime: (ms: number) => (nowMs = ms) };
}

t.test('each backend by its own time, to the millisecond', async (t) => {
  const { close, passUntil, declare, openConnections, inUse } = openSwitch(t, {});
  openConnections(30);
  t.same(inUse(), ALL);
  declare('10.0.0.2');
  passUntil(200);
  declare('10.0.0.2', '10.0.0.3');
  passUntil(1499);
  t.same(inUse(), ALL);
  passUntil(1500);
  t.same(inUse(), ['10.0.0.3', '10.0.0.4']);
  passUntil(1699);
  t.same(inUse(), ['10.0.0.3', '10.0.0.4']);
  declare('10.0.0.2');
  passUntil(1700);
  t.same(inUse(), ['10.0.0.3', '10.0.0.4'], 'one is not drained any more');
  declare('10.0.0.2', '10.0.0.3');
  close();
});

t.test('also if it is over while many connections are looked through', async (t) => {
  const turns: (() => void)[] = [];
  const run = (): void => {
    for (let work = turns.shift(); work; work = turns.shift()) work();
  };
  const host = openSwitch(t, { connections: 20_000, later: (work) => turns.push(work) });
  host.openConnections(30);
  host.declare('10.0.0.2', '10.0.0.3');
  host.openConnections(16_400);
  host.declare('10.0.0.2');
  run();
  host.setTime(200);
  host.declare('10.0.0.2', '10.0.0.3');
  run();
  t.same(host.inUse(), ALL);
  host.passUntil(1500);
  t.ok(turns.length > 0, 'it takes several turns');
  host.setTime(1700);
  run();
  host.passUntil(1700);
  run();
  t.same(host.inUse(), ['10.0.0.4']);
  host.close();
});
