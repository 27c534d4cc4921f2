/**
 * Rates and storm control, with a clock that the test moves: exactly the bytes and frames that a limit
 * admits, in bursts and in the long run, for single frames and superframes.
 */
import { openPort, type PortRates, type PortSpec } from '../../src/datapath/datapath.ts';
import type { Action } from '../../src/flow/action.ts';
import { buildVxlan } from '../../src/wire/vxlan.ts';
import * as frames from '../support/frames.ts';
import { segmentsOf, someBytes, superframeOf, type Stretch } from '../support/superframes.ts';
import { encap, output, portNo, type Harness, type Open } from './harness.ts';
import { conformanceTests } from './suite.ts';

const zero = (length: number) => new Uint8Array(length);
/** A frame of 1000 bytes. */
const kilobyte = frames.udp({}, 7, 9, zero(1000 - 42));
const broadcast = frames.udp({ dstMac: 'ff:ff:ff:ff:ff:ff' }, 7, 9, zero(100));
const storm = (perSecond: number, burst: number): PortRates => ({ storm: { perSecond, burst } });
export const times = (count: number, frame: Uint8Array): Uint8Array[] => new Array<Uint8Array>(count).fill(frame);

/** A memory port; what is returned gives it other rates. */
export function limited(h: Harness, port: number, rates: PortRates, offloads = false): (rates: PortRates) => void {
  h.sent.set(port, []);
  const spec: PortSpec = {
    kind: 'memory',
    name: `m${port}`,
    offloads,
    transmit: (frame, offload) => h.sent.get(port)!.push({ frame, offload }),
  };
  openPort(h.dp, portNo(port), { ...spec, rates });
  return (now) => h.dp.portSet(portNo(port), now);
}

export function runRates(name: string, open: Open): void {
  const test = conformanceTests(name, open);

  test('what comes in is held to the rate: a burst, and then as much as time brings', (t, h) => {
    limited(h, 1, { ingress: { perSecond: 100_000, burst: 5000 } });
    h.memory(2);
    h.forward(1, output(2));
    h.inject(1, ...times(20, kilobyte));
    t.equal(h.take(2).length, 5, 'the burst');
    t.same(h.drops(), { rate_limit_ingress: 15 });
    h.nowMs += 9;
    h.inject(1, kilobyte);
    t.equal(h.take(2).length, 1, 'something is left: it may pass');
    h.inject(1, kilobyte);
    t.equal(h.take(2).length, 0, 'nothing is left');
    for (let step = 0; step < 1000; step++) {
      h.nowMs += 10;
      h.inject(1, ...times(3, kilobyte));
    }
    t.equal(h.take(2).length, 1000, '100 kB a second for 10 seconds');
    h.nowMs += 1_000_000;
    h.inject(1, ...times(20, kilobyte));
    t.equal(h.take(2).length, 5, 'a pause saves up a burst, and no more');
    t.same(h.counters().ports.get(portNo(1))!.rxBytes, (20 + 2 + 3000 + 20) * 1000, 'all of it was received');
  });

  const from = (mac: string, l4Port: number) => frames.udp({ srcMac: mac }, l4Port, 9, zero(10));
  const [honest, other] = ['02:00:00:00:00:01', '02:00:00:00:00:02'];
  /** One frame from each of 200 senders. */
  const newcomers = (group: string) =>
    Array.from({ length: 200 }, (_, n) => from(`02:0a:00:00:${group}:${n.toString(16).padStart(2, '0')}`, 7));

  test('what comes up is held to the rate: half for each sender that was here before, a quarter for all others', (t, h) => {
    limited(h, 1, { upcalls: { perSecond: 800, burst: 80 } });
    limited(h, 2, { upcalls: { perSecond: 800, burst: 80 } });
    const comeUp = (port: number, ...burst: readonly Uint8Array[]): number => {
      const before = h.upcalls.length;
      h.inject(port, ...burst);
      for (const { token } of h.upcalls.slice(before)) h.dp.execute(token, [{ op: 'consume' }]);
      return h.upcalls.length - before;
    };
    t.equal(comeUp(1, from(honest, 1)), 1);
    t.equal(comeUp(1, ...newcomers('01')), 19, 'the first was a newcomer, too');
    t.same(h.drops(), { upcall_rate_limit: 181 });
    const flows = Array.from({ length: 100 }, (_, n) => from(honest, 1000 + n));
    t.equal(comeUp(1, ...flows), 39, 'whoever was admitted has its own half');
    t.equal(comeUp(2, ...flows), 40, 'another port has its own limit');
    h.nowMs += 50;
    t.equal(comeUp(1, ...newcomers('02')), 10, 'time brings as much again');
    t.equal(comeUp(1, from(other, 1)), 0);
    t.equal(comeUp(1, ...flows), 20);
    h.nowMs += 1_000_000;
    t.equal(comeUp(1, ...newcomers('03')), 20, 'a pause saves up a burst, and no more');
    t.equal(comeUp(1, ...flows), 40);
    t.equal(comeUp(1, ...newcomers('01').slice(0, 40)), 19, 'each that is known may, until the port has used up all');
    t.equal(comeUp(1, ...newcomers('02').slice(0, 10)), 1);
  });

  test('what parks behind another, and what a flow covers, costs no upcall', (t, h) => {
    limited(h, 1, { upcalls: { perSecond: 8, burst: 8 } });
    h.memory(2);
    h.inject(1, ...times(8, from(honest, 1)));
    t.equal(h.upcalls.length, 1);
    h.dp.execute(h.upcalls[0]!.token, output(2));
    t.equal(h.take(2).length, 8);
    h.forward(1, output(2));
    h.inject(1, ...newcomers('01'));
    t.equal(h.take(2).length, 200);
    t.same(h.drops(), {});
  });

  test('frames that are too big for their flow have a bucket of their own', (t, h) => {
    limited(h, 1, { upcalls: { perSecond: 64, burst: 64 } });
    h.memory(2);
    h.forward(1, [{ op: 'mtu', bytes: 600 }, ...output(2)]);
    const big = (n: number) => frames.udp({ srcMac: honest, ip4: { dontFragment: true } }, 7, n, zero(1000));
    h.inject(1, ...Array.from({ length: 20 }, (_, n) => big(1 + n)));
    t.equal(h.upcalls.length, 4);
    t.same(h.drops(), { too_big: 16 });
  });

  test('what goes out is held to the rate of its port, wherever it came from', (t, h) => {
    h.memory(1, 2, 4);
    limited(h, 3, { egress: { perSecond: 1_000_000, burst: 10_000 } });
    h.forward(1, output(3, 4));
    h.forward(2, output(3));
    for (let i = 0; i < 10; i++) {
      h.inject(1, kilobyte);
      h.inject(2, kilobyte);
    }
    t.equal(h.take(3).length, 10);
    t.equal(h.take(4).length, 10, 'the other copies are not held back');
    t.same(h.drops(), { rate_limit_egress: 10 });
    t.same(h.counters().ports.get(portNo(1))!.drops, { rate_limit_egress: 5 }, 'counted where they came in');
    h.dp.execute({ frame: kilobyte }, output(3));
    t.equal(h.take(3).length, 0, 'what weft makes goes over the same wire');
    h.nowMs += 1;
    h.dp.execute({ frame: kilobyte }, output(3));
    t.equal(h.take(3).length, 1);
  });

  for (const direction of ['ingress', 'egress'] as const) {
    const rates = (queue: number): PortRates => ({ [direction]: { perSecond: 100_000, burst: 2000, queue } });
    const [limitedPort, from, to] = direction === 'ingress' ? [1, 1, 2] : [2, 1, 2];
    const open = (h: Harness, queue: number) => {
      if (direction === 'egress') h.memory(1);
      const change = limited(h, limitedPort, rates(queue));
      if (direction === 'ingress') h.memory(2);
      h.forward(1, output(2));
      return change;
    };
    const numbered = (n: number) => frames.udp({}, 7, 9, zero(1000 - 42).fill(n));
    /** Frames that may continue do so when the datapath is next called with a frame. */
    const later = (h: Harness, milliseconds: number) => {
      h.nowMs += milliseconds;
      h.dp.execute({ frame: kilobyte }, [{ op: 'consume' }]);
    };

    test(`${direction}: what is over the rate waits in order while there is room, and is dropped then`, (t, h) => {
      open(h, 5000);
      h.inject(from, ...[0, 1, 2, 3, 4, 5, 6, 7, 8].map(numbered));
      t.same(
        h.take(to).map((frame) => frame[42]),
        [0, 1],
      );
      t.equal(h.counters().held, 5);
      t.same(h.drops(), { [`rate_limit_${direction}`]: 2 });
      later(h, 9);
      t.equal(h.take(to).length, 1, 'something is left: one may pass');
      later(h, 21);
      t.same(
        h.take(to).map((frame) => frame[42]),
        [3, 4],
      );
      h.inject(from, numbered(9));
      t.equal(h.take(to).length, 0, 'a frame does not overtake those that wait');
      later(h, 20);
      t.same(
        h.take(to).map((frame) => frame[42]),
        [5, 6],
      );
      later(h, 10);
      t.same(
        h.take(to).map((frame) => frame[42]),
        [9],
      );
      t.match(h.counters(), { held: 0 });
      t.same(h.drops(), { [`rate_limit_${direction}`]: 2 });
    });

    test(`${direction}: the long run is the rate, whatever waits`, (t, h) => {
      open(h, 10_000);
      for (let step = 0; step < 1000; step++) {
        h.inject(from, ...times(3, kilobyte));
        h.nowMs += 10;
      }
      later(h, 0);
      const passed = h.take(to).length;
      t.ok(passed >= 1000 && passed <= 1003, `${passed} kB in 10 s of 100 kB a second, with a burst of 2`);
      t.equal(h.counters().held, 9);
    });

    test(`${direction}: a frame finds room while any is left, and a small one takes 256 bytes`, (t, h) => {
      const change = open(h, 1);
      h.inject(from, ...times(4, kilobyte));
      t.equal(h.take(to).length, 2);
      t.equal(h.counters().held, 1);
      change({ [direction]: { perSecond: 1000, burst: 1, queue: 2560 } });
      t.equal(h.take(to).length, 1);
      h.inject(from, ...times(100, frames.udp({}, 7, 9)));
      t.equal(h.counters().held, 10);
    });

    test(`${direction}: a superframe that waits goes on whole, and costs what its segments do`, (t, h) => {
      const stretch: Stretch = { family: 4, protocol: 'tcp', payload: someBytes(20_001) };
      const superframe = superframeOf(stretch, 1000);
      const bytes = segmentsOf(stretch, 1000).reduce((sum, one) => sum + one.length, 0);
      const rate: PortRates = { [direction]: { perSecond: bytes, burst: bytes, queue: 2 * bytes } };
      limited(h, 1, direction === 'ingress' ? rate : {}, true);
      limited(h, 2, direction === 'egress' ? rate : {}, true);
      h.forward(1, output(2));
      for (let i = 0; i < 5; i++) h.burst(1, superframe);
      t.equal(h.takeOffloaded(2).length, 1);
      t.equal(h.counters().held, 2);
      t.same(h.drops(), { [`rate_limit_${direction}`]: 2 });
      for (let second = 0; second < 2; second++) {
        later(h, 1000);
        t.same(
          h.takeOffloaded(2).map(({ frame }) => frame),
          [superframe.frame],
        );
      }
      t.equal(h.counters().held, 0);
    });

    test(`${direction}: what waits goes on at once when the limit goes, and is dropped with its port`, (t, h) => {
      const change = open(h, 5000);
      h.inject(from, ...times(5, kilobyte));
      t.equal(h.counters().held, 3);
      change({});
      t.equal(h.take(to).length, 5);
      change(rates(5000));
      h.inject(from, ...times(5, kilobyte));
      t.equal(h.counters().held, 3);
      h.dp.portDel(portNo(limitedPort));
      t.same(h.drops(), { [direction === 'ingress' ? 'upcall_lost' : 'port_gone']: 3 });
      t.match(h.counters(), { held: 0 });
    });
  }

  test('a frame may wait at both ends, behind all others of its flow', (t, h) => {
    const numbered = (n: number) => frames.udp({}, 7, 9, zero(1000 - 42).fill(n));
    const rate = { perSecond: 100_000, burst: 1000, queue: 50_000 };
    limited(h, 1, { ingress: rate });
    limited(h, 2, { egress: { ...rate, perSecond: 50_000 } });
    h.inject(1, ...[0, 1, 2, 3].map(numbered));
    t.equal(h.upcalls.length, 1);
    t.equal(h.counters().held, 4, 'one is undecided, three wait at the door');
    const goOn = () => {
      h.nowMs += 10;
      h.dp.execute({ frame: kilobyte }, [{ op: 'consume' }]);
      return h.take(2).map((frame) => frame[42]);
    };
    t.same(goOn(), []);
    h.dp.execute(h.upcalls[0]!.token, output(2));
    t.same(
      h.take(2).map((frame) => frame[42]),
      [0],
    );
    h.forward(1, output(2));
    h.inject(1, numbered(4));
    const passed: (number | undefined)[] = [];
    for (let step = 0; step < 8; step++) passed.push(...goOn());
    t.same(passed, [1, 2, 3, 4]);
    t.match(h.counters(), { held: 0 });
    t.same(h.drops(), {});
  });

  test('frames that wait to go out stay when the port that they came in by is removed', (t, h) => {
    h.memory(1);
    limited(h, 2, { egress: { perSecond: 100_000, burst: 1000, queue: 50_000 } });
    h.forward(1, output(2));
    h.inject(1, ...times(3, kilobyte));
    h.dp.portDel(portNo(1));
    t.equal(h.counters().held, 2);
    for (let step = 0; step < 2; step++) {
      h.nowMs += 10;
      h.dp.execute({ frame: kilobyte }, [{ op: 'consume' }]);
    }
    t.equal(h.take(2).length, 3);
    t.same(h.drops(), {});
  });

  test('a frame that is held back at the door is not looked up and asks for nothing', (t, h) => {
    limited(h, 1, { ingress: { perSecond: 1000, burst: 1 } });
    h.memory(2);
    h.inject(1, kilobyte, kilobyte);
    t.equal(h.upcalls.length, 1);
    t.match(h.counters(), { held: 1, upcalls: 1 });
    t.same(h.drops(), { rate_limit_ingress: 1 });
    h.answer(0, output(2));
    t.equal(h.take(2).length, 1);
  });

  for (const direction of ['ingress', 'egress'] as const) {
    for (const family of [4, 6] as const) {
      for (const protocol of ['tcp', 'udp'] as const) {
        test(`${direction}: a superframe of ${protocol} over IPv${family} costs what its segments do`, (t, h) => {
          const stretch: Stretch = { family, protocol, payload: someBytes(20_001) };
          const bytes = segmentsOf(stretch, 1000).reduce((sum, one) => sum + one.length, 0);
          const rates = { [direction]: { perSecond: bytes, burst: 2 * bytes } };
          limited(h, 1, direction === 'ingress' ? rates : {}, true);
          limited(h, 2, direction === 'egress' ? rates : {}, true);
          h.forward(1, output(2));
          const burst = () => h.burst(1, superframeOf(stretch, 1000));
          for (let i = 0; i < 3; i++) burst();
          t.equal(h.takeOffloaded(2).length, 2);
          h.nowMs += 10_000;
          for (let i = 0; i < 3; i++) burst();
          t.equal(h.takeOffloaded(2).length, 2, 'two are in the bucket');
          for (let second = 0; second < 100; second++) {
            h.nowMs += 1000;
            burst();
            burst();
          }
          t.equal(h.takeOffloaded(2).length, 100, 'one a second');
          t.same(h.drops(), { [`rate_limit_${direction}`]: 102 });
        });
      }
    }
  }

  test('a superframe that a port does not take is held back whole, before it is cut', (t, h) => {
    h.offloading(1);
    limited(h, 2, { egress: { perSecond: 1000, burst: 1 } });
    h.forward(1, output(2));
    const superframe = superframeOf({ family: 4, protocol: 'tcp', payload: someBytes(4000) }, 1000);
    h.burst(1, superframe);
    h.burst(1, superframe);
    t.equal(h.take(2).length, 4);
    t.match(h.counters(), { segments: 3 });
    t.same(h.drops(), { rate_limit_egress: 1 });
  });

  test('frames that became a superframe cost what they cost alone', (t, h) => {
    const stretch: Stretch = { family: 4, protocol: 'tcp', payload: someBytes(10_000) };
    const segments = segmentsOf(stretch, 1000);
    const bytes = segments.reduce((sum, one) => sum + one.length, 0);
    limited(h, 1, { ingress: { perSecond: 1000, burst: bytes + 1 } });
    h.offloading(2);
    h.forward(1, output(2));
    h.burst(1, ...segments.map((frame) => ({ frame })));
    t.match(h.counters(), { rx: 10, coalesced: 9, tx: 1 });
    h.inject(1, kilobyte, kilobyte);
    t.match(h.counters(), { tx: 2, drops: { rate_limit_ingress: 1 } }, 'one byte was left');
    // In debt by a frame minus one byte: 999 ms at 1000 bytes a second.
    h.nowMs += 998;
    h.inject(1, kilobyte);
    t.match(h.counters(), { tx: 2 });
  });

  test('a frame that is larger than the bucket passes when the bucket is not empty', (t, h) => {
    limited(h, 1, { ingress: { perSecond: 10_000, burst: 100 } });
    h.memory(2);
    h.forward(1, output(2));
    const passed: number[] = [];
    for (let ms = 0; ms < 1000; ms++) {
      h.inject(1, kilobyte);
      if (h.take(2).length > 0) passed.push(ms);
      h.nowMs += 1;
    }
    t.equal(passed.length, 11, '10 kB in a second, and the one at the start');
    t.same(passed.slice(0, 3), [0, 91, 191], 'each when the one before is paid for all but the burst');
  });

  test('large and small frames have the same chances', (t, h) => {
    limited(h, 1, { ingress: { perSecond: 1_000_000, burst: 2000 } }, true);
    h.offloading(2);
    h.forward(1, output(2));
    const large = superframeOf({ family: 4, protocol: 'tcp', payload: someBytes(60_000) }, 1000);
    let passed = 0;
    for (let ms = 0; ms < 10_000; ms++) {
      // They take turns: otherwise the small one would always come first.
      if (ms % 2) h.inject(1, kilobyte);
      h.burst(1, large);
      if (ms % 2 === 0) h.inject(1, kilobyte);
      h.nowMs += 1;
      passed += h.takeOffloaded(2).filter(({ frame }) => frame.length > 1000).length;
    }
    t.ok(passed > 50, `${passed} superframes`);
  });

  test('other rates are in force at once, for cached flows and without a loss', (t, h) => {
    const change = limited(h, 1, { ingress: { perSecond: 1000, burst: 1000 } });
    h.memory(2);
    h.forward(1, output(2));
    h.inject(1, ...times(3, kilobyte));
    t.equal(h.take(2).length, 1);
    change({});
    h.inject(1, ...times(3, kilobyte));
    t.equal(h.take(2).length, 3, 'none');
    change({ ingress: { perSecond: 1000, burst: 2000 } });
    h.inject(1, ...times(3, kilobyte));
    t.equal(h.take(2).length, 2, 'a full bucket');
    t.match(h.counters(), { upcalls: 0, flows: 1, ports: new Map([[portNo(1), { rxFrames: 9 }]]) });
    h.dp.portDel(portNo(1));
    limited(h, 1, {});
    h.inject(1, ...times(3, kilobyte));
    t.equal(h.take(2).length, 3, 'a new port has none of the old one’s rates');
  });

  test('rates from 1 byte to 12.5 GB a second are exact over a long time', (t, h) => {
    h.memory(2);
    h.forward(1, output(2));
    for (const perSecond of [1, 1000, 123_457, 12_500_000_000]) {
      const change = limited(h, 1, { ingress: { perSecond, burst: 1000 } });
      const seconds = (1000 * 100) / perSecond;
      const stepMs = (seconds * 1000) / 400;
      for (let step = 0; step < 400; step++) {
        h.inject(1, kilobyte);
        h.nowMs += stepMs;
      }
      const passed = h.take(2).length;
      t.ok(passed >= 99 && passed <= 102, `${perSecond} B/s: ${passed} of 100 frames`);
      change({});
      h.dp.portDel(portNo(1));
    }
  });

  // Storm control

  const floods: readonly [string, Uint8Array, readonly Action[]][] = [
    ['broadcast', broadcast, output(2)],
    ['multicast', frames.udp({ dstMac: '01:00:5e:00:00:01' }, 7, 9, zero(100)), output(2, 3)],
    ['unknown unicast', kilobyte, output(2, 3)],
    [
      'unknown unicast behind a rewrite',
      kilobyte,
      [{ op: 'route', source: zero(6), destination: zero(6) }, ...output(2, 3)],
    ],
    ['unknown unicast behind an mtu', kilobyte, [{ op: 'mtu', bytes: 1500 }, ...output(2, 3)]],
    ['broadcast into the tunnel', broadcast, [encap(7, '192.0.2.9')]],
  ];
  for (const [what, frame, actions] of floods) {
    test(`storm control: ${what}, on a hit and behind an upcall`, (t, h) => {
      limited(h, 1, storm(10, 3));
      h.memory(2, 3);
      h.vxlan(9, '192.0.2.1');
      h.inject(1, ...times(5, frame));
      h.answer(0, actions);
      t.same(h.drops(), { storm_control: 2 });
      h.forward(1, actions);
      h.inject(1, frame);
      t.same(h.drops(), { storm_control: 3 });
      h.nowMs += 1000;
      h.inject(1, ...times(5, frame));
      t.same(h.drops(), { storm_control: 5 });
      const places = actions.filter(({ op }) => op === 'output' || op === 'encap').length;
      t.match(h.counters(), { rx: 11, tx: 6 * places, copies: 6 * (places - 1) });
    });
  }

  test('storm control leaves alone what is not flooded, and what weft makes', (t, h) => {
    limited(h, 1, storm(1, 1));
    h.memory(2, 3);
    h.forward(1, [{ op: 'mtu', bytes: 1500 }, { op: 'route', source: zero(6), destination: zero(6) }, ...output(2)]);
    h.inject(1, ...times(10, kilobyte));
    t.equal(h.take(2).length, 10, 'one place');
    h.forward(1, [{ op: 'consume' }]);
    h.inject(1, ...times(10, broadcast));
    t.match(h.counters(), { consumed: 10 }, 'answered by weft');
    h.forward(1, [{ op: 'drop', reason: 'spoof_mac' }]);
    h.inject(1, ...times(10, broadcast));
    t.same(h.drops(), { spoof_mac: 10 }, 'refused for another reason');
    for (let i = 0; i < 10; i++) h.dp.execute({ frame: broadcast }, output(2, 3));
    t.equal(h.take(2).length, 10, 'made by weft');
    t.same(h.drops(), { spoof_mac: 10 });
  });

  test('storm control counts the segments of a superframe', (t, h) => {
    limited(h, 1, storm(4, 4), true);
    h.offloading(2, 3);
    h.forward(1, output(2, 3));
    const superframe = superframeOf({ family: 4, protocol: 'udp', payload: someBytes(4000) }, 1000);
    h.burst(1, superframe);
    h.burst(1, superframe);
    t.same(h.drops(), { storm_control: 1 });
    h.nowMs += 1000;
    h.burst(1, superframe);
    t.equal(h.takeOffloaded(2).length, 2);
  });

  test('storm control of the tunnel', (t, h) => {
    h.memory(2, 3);
    openPort(h.dp, portNo(9), {
      kind: 'memory-vxlan',
      name: 'tunnel',
      local: new Uint8Array(16).fill(1),
      rates: { storm: { perSecond: 1, burst: 2 } },
      transmit: () => {},
    });
    h.forward(9, output(2, 3));
    for (let i = 0; i < 5; i++) h.injectDatagram(9, '192.0.2.9', buildVxlan({ vni: 7, frame: broadcast }));
    t.equal(h.take(2).length, 2);
    t.same(h.drops(), { storm_control: 3 });
  });
}
