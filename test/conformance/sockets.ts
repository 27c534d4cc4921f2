/**
 * What may go to weft's own sockets, with a clock that the test moves: so many packets and KiB at a rate, and so many that are
 * unanswered.
 */
import type { PortRates } from '../../src/datapath/datapath.ts';
import { INTERNAL } from '../../src/flow/connection.ts';
import * as frames from '../support/frames.ts';
import { someBytes, superframeOf } from '../support/superframes.ts';
import { output, portNo, type HarnessOptions, type Open } from './harness.ts';
import { limited, times } from './rates.ts';
import { conformanceTests } from './suite.ts';

const zero = (length: number) => new Uint8Array(length);
const kilobyte = frames.udp({}, 7, 9, zero(1000 - 42));

export function runSockets(name: string, open: Open): void {
  const test = conformanceTests(name, open);

  const sockets = (perSecond: number, burst: number): PortRates => ({ sockets: { perSecond, burst } });
  const toSockets: HarnessOptions = { places: { 2: INTERNAL } };
  const question = frames.udp({}, 7, 53, zero(30));

  test(
    'what goes to weft’s own sockets is held to the rate of its port, on a hit and behind an upcall',
    (t, h) => {
      limited(h, 1, sockets(10, 3));
      limited(h, 4, sockets(10, 3));
      h.memory(2);
      h.inject(1, ...times(5, question));
      h.answer(0, output(2));
      t.same(h.drops(), { rate_limit_sockets: 2 });
      h.forward(1, output(2));
      h.forward(4, output(2));
      h.inject(1, question);
      t.same(h.drops(), { rate_limit_sockets: 3 });
      t.equal(h.take(2).length, 3);
      h.inject(4, ...times(5, question));
      t.equal(h.take(2).length, 3, 'another port has a rate of its own');
      h.nowMs += 1000;
      h.inject(1, ...times(5, question));
      t.equal(h.take(2).length, 3, 'a pause saves up a burst, and no more');
      const { ports } = h.counters();
      t.same(ports.get(portNo(1))!.drops, { rate_limit_sockets: 5 }, 'who has sent too much is counted');
      t.same(ports.get(portNo(4))!.drops, { rate_limit_sockets: 2 });
      t.same(ports.get(portNo(2))!.drops, {});
    },
    toSockets,
  );

  test(
    'that rate leaves alone what goes elsewhere, what weft makes, and ports without one',
    (t, h) => {
      limited(h, 1, sockets(1, 1));
      h.memory(2, 3, 4);
      h.forward(1, output(3));
      h.inject(1, ...times(10, question));
      t.equal(h.take(3).length, 10, 'elsewhere');
      for (let i = 0; i < 10; i++) h.dp.execute({ frame: question }, output(2));
      t.equal(h.take(2).length, 10, 'made by weft');
      h.forward(4, output(2));
      h.inject(4, ...times(10, question));
      t.equal(h.take(2).length, 10, 'without a rate');
      h.forward(2, output(1));
      h.inject(2, ...times(10, question));
      t.equal(h.take(1).length, 10, 'from the sockets');
      h.forward(1, output(2, 3));
      h.inject(1, ...times(10, question));
      t.same([h.take(2).length, h.take(3).length], [1, 10], 'a copy that goes elsewhere');
      t.same(h.drops(), { rate_limit_sockets: 9 });
    },
    toSockets,
  );

  test(
    'that rate counts the segments of superframes, and each KiB once more',
    (t, h) => {
      limited(h, 1, sockets(1, 6), true);
      h.offloading(2);
      h.forward(1, output(2));
      const superframe = superframeOf({ family: 4, protocol: 'udp', payload: someBytes(2000) }, 1000);
      h.burst(1, superframe);
      h.inject(1, kilobyte);
      t.equal(h.takeOffloaded(2).length, 2, '2 segments and 1 KiB, and 1 frame of less than that: 2 are left');
      h.inject(1, frames.udp({}, 7, 9, zero(1024 - 42)), question);
      t.same(h.drops(), { rate_limit_sockets: 1 }, 'a frame of 1 KiB takes them');
      h.nowMs += 1000;
      h.inject(1, question);
      t.equal(h.take(2).length, 2);
    },
    toSockets,
  );

  const unanswered = (perSecond: number, burst: number): PortRates => ({ unanswered: { perSecond, burst } });

  test(
    'so many frames to weft’s own sockets may be unanswered: each packet back to the port admits another one, and time some',
    (t, h) => {
      limited(h, 1, unanswered(10, 4));
      limited(h, 4, unanswered(10, 4));
      h.memory(2, 3);
      h.forward(1, output(2));
      h.forward(4, output(2));
      h.inject(1, ...times(6, question));
      t.equal(h.take(2).length, 4);
      t.same(h.drops(), { rate_limit_sockets: 2 });
      h.inject(4, ...times(6, question));
      t.equal(h.take(2).length, 4, 'another port has its own');
      h.forward(2, output(1));
      h.inject(2, ...times(3, question));
      h.inject(1, ...times(6, question));
      t.equal(h.take(2).length, 3, 'three were answered');
      h.inject(4, question);
      t.equal(h.take(2).length, 0, 'to one port only');
      h.inject(2, ...times(100, question));
      h.inject(1, ...times(6, question));
      t.equal(h.take(2).length, 4, 'never more, whatever comes back');
      h.forward(3, output(1));
      h.inject(3, ...times(6, question));
      h.dp.execute({ frame: question }, output(1));
      h.inject(1, question);
      t.equal(h.take(2).length, 0, 'what comes from elsewhere is no answer');
      h.nowMs += 200;
      h.inject(1, ...times(6, question));
      t.equal(h.take(2).length, 2, 'what is never answered is given up');
    },
    toSockets,
  );

  test(
    'what the rate to weft’s own sockets refuses is not unanswered; a frame takes its packets and KiB, and gives back its packets',
    (t, h) => {
      limited(h, 1, { ...sockets(1000, 2), ...unanswered(1, 8) }, true);
      h.offloading(2);
      h.forward(1, output(2));
      h.forward(2, output(1));
      const ask = (count: number): number => {
        for (let i = 0; i < count; i++) {
          h.nowMs += 10;
          h.inject(1, question);
        }
        return h.takeOffloaded(2).length;
      };
      h.inject(1, ...times(10, question));
      t.equal(h.takeOffloaded(2).length, 2, 'of the rate; six may be unanswered yet, and a little more');
      const superframe = superframeOf({ family: 4, protocol: 'udp', payload: someBytes(2000) }, 1000);
      h.nowMs += 10;
      h.burst(1, superframe);
      t.equal(ask(10), 1 + 4, 'it has taken three, and three and a little were left');
      h.burst(2, superframe);
      t.equal(ask(10), 2, 'two packets came back');
    },
    toSockets,
  );

  test(
    'only UDP can be unanswered: segments of TCP are not answered one by one',
    (t, h) => {
      limited(h, 1, unanswered(1, 4));
      h.memory(2);
      h.forward(1, output(2));
      h.forward(2, output(1));
      const segment = frames.tcp({}, { sourcePort: 7, destinationPort: 53 });
      h.inject(1, ...times(100, segment));
      t.equal(h.take(2).length, 100, 'they take nothing');
      h.inject(1, ...times(6, question));
      t.equal(h.take(2).length, 4);
      h.inject(2, ...times(100, segment));
      h.inject(1, question);
      t.equal(h.take(2).length, 0, 'and give nothing back');
      t.same(h.drops(), { rate_limit_sockets: 3 });
    },
    toSockets,
  );
}
