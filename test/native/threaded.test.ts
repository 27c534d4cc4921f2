/**
 * The native datapath on its own thread, with the real kernel. The test puts the flows: what one port
 * sends goes to the other side.
 *
 *   ┌ a ┐ eth0 ── datapath ── eth0 ┌ b ┐                       one host
 *   ┌ a ┐ eth0 ── datapath ── 127.0.0.1 ~ VXLAN ~ 127.0.0.2 ── datapath ── eth0 ┌ b ┐
 */
import t, { type Test } from 'tap';
import {
  openPort,
  type Datapath,
  type DatapathOptions,
  type MirroredFrame,
  type Upcall,
} from '../../src/datapath/datapath.ts';
import type { TapOpened } from '../../src/flow/tap.ts';
import { openNativeDatapath, TURN_MS, type NativeSwitch } from '../../src/datapath/native/native.ts';
import { WeftError } from '../../src/error.ts';
import type { Action } from '../../src/flow/action.ts';
import { fields } from '../../src/flow/fields.ts';
import { readNumber } from '../../src/flow/key.ts';
import { parseIp } from '../../src/flow/types.ts';
import { checkConservation, encap, flowId, maskOf, output, portNo } from '../conformance/harness.ts';
import * as frames from '../support/frames.ts';
import { openLab, type Namespace } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { sendFrames } from '../support/traffic.ts';

/** Datapaths of other tests on this machine have other ports. */
const l4Port = 20_000 + (process.pid % 20_000);

function open(t: Test, options: Partial<DatapathOptions> = {}): NativeSwitch {
  const dp = openNativeDatapath({
    threads: 1,
    flowCap: 1000,
    clock: () => performance.now(),
    onUpcall: () => {},
    onPortLost: () => {},
    ...options,
  });
  t.teardown(() => dp.close());
  return dp;
}

/** A datapath that sends what comes in by a port to where `actionsOf` says, and caches that. */
function openForwarding(t: Test, actionsOf: (port: number) => Action[]): NativeSwitch & { upcalls: Upcall[] } {
  const upcalls: Upcall[] = [];
  const dp = open(t, {
    onUpcall: (batch) => {
      upcalls.push(...batch);
      for (const { token, key } of batch) {
        const port = readNumber(key, fields.in_port);
        const actions = actionsOf(port);
        dp.flowPut({ id: flowId(port), key, mask: maskOf('in_port'), actions });
        dp.execute(token, actions);
      }
    },
  });
  return Object.assign(dp, { upcalls });
}

function addTap(dp: Datapath, port: number, netns: Namespace): TapOpened {
  return openPort(dp, portNo(port), { kind: 'tap', name: `tap${port}`, netns: netns.path, ifname: 'eth0' })!;
}

async function configure(netns: Namespace, host: number): Promise<void> {
  await netns.ip(`address add 10.77.0.${host}/24 dev eth0`);
  await netns.ip('link set eth0 up');
}

/** To a port that does not exist. */
const nowhere = output(9);

/** Counts how much is done in one turn of the event loop. */
class Turns {
  noted = 0;
  /** In one turn. */
  most = 0;
  #now = 0;

  constructor(t: Test) {
    let isOver = false;
    t.teardown(() => (isOver = true));
    const begin = (): void => {
      this.#now = 0;
      if (!isOver) setImmediate(begin);
    };
    begin();
  }

  note(count: number): void {
    this.noted += count;
    this.#now += count;
    this.most = Math.max(this.most, this.#now);
  }
}

t.test('two containers on one host reach each other; established flows never reach JavaScript', async (t) => {
  const lab = openLab(t);
  const [a, b] = [await lab.namespace('a'), await lab.namespace('b')];
  const dp = openForwarding(t, (port) => output(3 - port));
  const [tapA, tapB] = [addTap(dp, 1, a), addTap(dp, 2, b)];
  t.ok(tapA.created);
  t.ok(tapA.ino !== tapB.ino);
  await configure(a, 1);
  await configure(b, 2);
  await a.run(['ping', '-c', '3', '-i', '0.01', '-W', '2', '10.77.0.2']);
  const before = dp.counters();
  checkConservation(before);
  const mirrored: MirroredFrame[] = [];
  dp.mirror({ port: portNo(2), snapBytes: 60 }, (batch) => mirrored.push(...batch));
  await a.run(['ping', '-c', '200', '-i', '0.002', '-s', '1000', '-q', '10.77.0.2']);
  const received = (): number => dp.counters().ports.get(portNo(1))!.rxFrames;
  await until(() => received() >= before.ports.get(portNo(1))!.rxFrames + 200, { what: '200 requests' });
  const after = dp.counters();
  checkConservation(after);
  t.equal(after.upcalls, before.upcalls);
  await until(() => mirrored.length >= 400, { what: 'mirrored frames' });
  t.ok(mirrored.every(({ port, bytes }) => port === 2 && bytes.length <= 60));
  dp.mirror(null);
  const now = performance.now();
  for (const { lastUsedMs } of dp.flowDump())
    t.ok(lastUsedMs <= now && lastUsedMs > now - 60_000, 'by the given clock');
});

t.test('across two hosts over VXLAN', async (t) => {
  const lab = openLab(t);
  const [a, b] = [await lab.namespace('a'), await lab.namespace('b')];
  const hosts = ['127.0.0.1', '127.0.0.2'];
  const switches = hosts.map((local, index) => {
    const dp = openForwarding(t, (port) => (port === 1 ? [encap(77, hosts[1 - index]!)] : output(1)));
    openPort(dp, portNo(2), { kind: 'vxlan', name: 'vxlan', local: parseIp(local), l4Port });
    return dp;
  });
  const [left, right] = switches as [(typeof switches)[0], (typeof switches)[0]];
  addTap(left, 1, a);
  addTap(right, 1, b);
  await configure(a, 1);
  await configure(b, 2);
  await a.run(['ping', '-c', '5', '-i', '0.01', '-W', '2', '10.77.0.2']);
  const tunnelled = left.upcalls.find(({ key }) => readNumber(key, fields.in_port) === 2)!;
  t.equal(readNumber(tunnelled.key, fields.tun_vni), 77);
  for (const dp of switches) checkConservation(dp.counters());
  t.throws(
    () => openPort(left, portNo(3), { kind: 'vxlan', name: 'again', local: parseIp('127.0.0.3'), l4Port }),
    WeftError,
  );
  left.portDel(portNo(2));
  right.portDel(portNo(2));
  const [first, second] = switches.map(() => open(t));
  const vxlan = { kind: 'vxlan', name: 'vxlan', local: parseIp('127.0.0.1'), l4Port } as const;
  openPort(first!, portNo(1), vxlan);
  t.throws(() => openPort(second!, portNo(1), vxlan), { code: 'conflict', message: /in use/ });
  first!.portDel(portNo(1));
  openPort(second!, portNo(1), vxlan);
});

t.test('a port whose interface goes is told of once, and the rest goes on', async (t) => {
  const lab = openLab(t);
  const [a, b] = [await lab.namespace('a'), await lab.namespace('b')];
  const lost: string[] = [];
  const dp = open(t, { onPortLost: (port, why) => lost.push(`${port} ${why}`) });
  addTap(dp, 1, a);
  addTap(dp, 2, b);
  await a.ip('link delete eth0');
  await until(() => lost.length > 0, { what: 'the port to be lost' });
  t.same(lost, ['1 its interface was deleted']);
  dp.execute({ frame: frames.arpRequest({}) }, output(1, 2));
  t.match(dp.counters(), { originated: 1, copies: 1, tx: 0 });
  checkConservation(dp.counters());
  dp.portDel(portNo(1));
  addTap(dp, 1, a);
  t.same([...dp.counters().ports.keys()], [1, 2]);
  dp.portDel(portNo(1), { keep: true });
  t.equal(addTap(dp, 1, a).created, false, 'it was kept');
  dp.portDel(portNo(1));
  t.match(await a.attempt(['ip', 'link', 'show', 'eth0']), { code: 1 }, 'it was not kept');
});

t.test('what a thread cannot have is refused', async (t) => {
  const lab = openLab(t);
  const a = await lab.namespace('a');
  const dp = open(t);
  t.throws(() => openPort(dp, portNo(1), { kind: 'memory', name: 'm', transmit: () => {} }), { code: 'invalid' });
  const manual = openNativeDatapath({
    threads: 0,
    flowCap: 1,
    clock: () => 0,
    onUpcall: () => {},
    onPortLost: () => {},
  });
  t.throws(() => addTap(manual, 1, a), { code: 'invalid' });
  manual.close();
  t.throws(() => openPort(dp, portNo(1), { kind: 'tap', name: 't', netns: '/run/netns/none', ifname: 'eth0' }), {
    code: 'not_found',
  });
  t.throws(() => openPort(dp, portNo(1), { kind: 'tap', name: 't', netns: a.path, ifname: 'lo' }), {
    code: 'conflict',
  });
  t.throws(() => dp.execute({ frame: new Uint8Array(60) }, []), RangeError);
  t.throws(() => dp.execute({ frame: new Uint8Array(60) }, [...output(1), { op: 'consume' }]), RangeError);
  t.match(dp.counters(), { originated: 0, tx: 0 });
});

t.test('a turn of the event loop takes upcalls only as long as there is time', async (t) => {
  const lab = openLab(t);
  const a = await lab.namespace('a');
  let nowMs = 0;
  const turns = new Turns(t);
  const dp = open(t, {
    clock: () => nowMs,
    onUpcall: (batch) => {
      for (const { token } of batch) dp.execute(token, nowhere);
      turns.note(batch.length);
      nowMs += TURN_MS * batch.length;
    },
  });
  addTap(dp, 1, a);
  await configure(a, 1);
  const ends = { srcMac: '02:00:00:00:00:01', dstMac: '02:00:00:00:00:02' };
  await sendFrames(
    a,
    Array.from({ length: 200 }, (_, n) => frames.udp(ends, 1000, 2000 + n)),
  );
  await until(() => turns.noted >= 200, { what: '200 upcalls' });
  t.ok(turns.most <= 2, `${turns.most} upcalls in a turn at most, since each answer takes long`);
  checkConservation(dp.counters());
});

t.test('upcalls that keep coming keep nobody else from his turn', async (t) => {
  const lab = openLab(t);
  const a = await lab.namespace('a');
  const turns = new Turns(t);
  const question = frames.arpRequest({ srcMac: '02:00:00:00:00:02', src: '10.77.0.2', dst: '10.77.0.1' });
  const dp = open(t, {
    onUpcall: (batch) => {
      for (const { token } of batch) dp.execute(token, nowhere);
      turns.note(1);
      if (turns.noted >= 200) return;
      // The kernel's answer is an upcall, too, and waits before this one is done.
      const before = dp.counters().upcalls;
      dp.execute({ frame: question }, output(1));
      for (const endMs = performance.now() + 1000; dp.counters().upcalls === before; ) {
        if (performance.now() > endMs) throw new Error('the kernel did not answer');
      }
    },
  });
  addTap(dp, 1, a);
  await configure(a, 1);
  await sendFrames(a, [frames.udp({}, 1000, 2000)]);
  await until(() => turns.noted >= 200, { what: 'one upcall after the other' });
  t.ok(turns.most <= 4, `${turns.most} times in a turn at most`);
});
