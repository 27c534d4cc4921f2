/** Flows without a decision yet: their upcalls, the frames parked behind them, and the limits on those. */
import { HEAD_BYTES, PARKED_PER_FLOW, PENDING_PER_PORT, UPCALL_BATCH } from '../../src/flow/bounds.ts';
import { extract } from '../../src/flow/extract.ts';
import { fields } from '../../src/flow/fields.ts';
import { emptyKey, readNumber, writeNumber } from '../../src/flow/key.ts';
import { concat } from '../../src/wire/bytes.ts';
import * as frames from '../support/frames.ts';
import { consume, flowId, Harness, maskOf, numbered, output, portNo, type Open } from './harness.ts';
import { conformanceTests } from './suite.ts';

const zero = (length: number) => new Uint8Array(length);
const GROUP = '01:00:5e:00:00:fb';
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

export function runParking(name: string, open: Open): void {
  const test = conformanceTests(name, open);

  test('a miss becomes an upcall with key, head and length; the answer releases the frame', (t, h) => {
    h.memory(1, 2);
    const frame = frames.udp({}, 7, 9, zero(1000).fill(5));
    h.inject(1, concat(frame, zero(30)));
    t.equal(h.upcalls.length, 1);
    const { key, head, lengthBytes } = h.upcalls[0]!;
    const expected = emptyKey();
    extract(frame, expected);
    writeNumber(expected, fields.in_port, 1);
    t.equal(hex(key), hex(expected));
    t.equal(hex(head), hex(frame.subarray(0, HEAD_BYTES)));
    t.equal(lengthBytes, frame.length, 'without what follows the packet');
    t.match(h.counters(), { rx: 1, tx: 0, held: 1, upcalls: 1 });
    h.answer(0, output(2));
    Harness.same(h.take(2), [frame]);
    t.match(h.counters(), { rx: 1, tx: 1, held: 0, upcalls: 1 });
  });

  test('a priority tag is no VLAN: the frame passes untagged, and its offload moves along', (t, h) => {
    h.memory(1, 2);
    const plain = frames.udp({}, 7, 9, zero(40).fill(5));
    const tagged = (tci: number) => frames.udp({ vlan: { tpid: 0x8100, tci } }, 7, 9, zero(40).fill(5));
    h.inject(1, tagged(0xa000), tagged(0x0000));
    t.equal(h.upcalls.length, 1, 'they are of one flow');
    t.equal(readNumber(h.upcalls[0]!.key, fields.vlan_tci), 0);
    h.answer(0, output(2));
    Harness.same(h.take(2), [plain, plain]);
    t.equal(h.counters().ports.get(portNo(1))!.rxBytes, 2 * plain.length);

    h.inject(1, tagged(0xa001));
    t.equal(readNumber(h.upcalls[1]!.key, fields.vlan_tci), 0xb001, 'another VLAN ID is one');
    h.answer(1, consume);

    const l4 = 14 + 4 + 20;
    const offload = { flags: 1, gsoType: 0, gsoSize: 0, csumStart: l4, csumOffset: 6 };
    h.dp.inject(portNo(1), tagged(0xe000), offload);
    h.dp.inject(portNo(1), tagged(0xe000), { ...offload, csumStart: 2 });
    t.same(h.drops(), { bad_vnet_hdr: 1 }, 'a checksum that begins in the tag');
    h.answer(2, output(2));
    t.equal(h.take(2).length, 1);
  });

  test('a short head is the whole frame', (t, h) => {
    h.memory(1);
    h.inject(1, frames.ethernet({}, 0x1234, zero(0)));
    t.equal(h.upcalls[0]!.head.length, 14);
  });

  test('frames of an undecided flow park in order, 8 at most', (t, h) => {
    h.memory(1, 2);
    const all = Array.from({ length: PARKED_PER_FLOW + 3 }, (_, i) => numbered(0, i));
    h.inject(1, ...all);
    t.equal(h.upcalls.length, 1);
    t.equal(h.counters().held, PARKED_PER_FLOW);
    t.same(h.drops(), { upcall_parked_full: 3 });
    t.same(h.counters().ports.get(portNo(1))!.drops, { upcall_parked_full: 3 });
    h.answer(0, output(2));
    Harness.same(h.take(2), all.slice(0, PARKED_PER_FLOW));
  });

  test('a parked key goes before the flow cache', (t, h) => {
    h.memory(1, 2, 3);
    h.inject(1, numbered(0, 0));
    const { key } = h.upcalls[0]!;
    t.ok(h.dp.flowPut({ id: flowId(1), key, mask: maskOf('in_port'), actions: output(2) }));
    h.inject(1, numbered(0, 1), numbered(1, 2));
    Harness.same(h.take(2), [numbered(1, 2)], 'another key is hit by the flow');
    h.answer(0, output(2));
    Harness.same(h.take(2), [numbered(0, 0), numbered(0, 1)], 'the parked ones come in order');
    h.inject(1, numbered(0, 3));
    Harness.same(h.take(2), [numbered(0, 3)], 'then the flow is hit');
    t.equal(h.upcalls.length, 1);
  });

  test('frames of one flow that differ in TOS and TTL do not overtake each other', (t, h) => {
    h.memory(1, 2);
    const marked = (tos: number, ttl: number, sequence: number) =>
      frames.udp({ ip4: { tos, ttl } }, 7, 9, Uint8Array.of(sequence, 0));
    const all = [marked(0, 64, 0), marked(1, 64, 1), marked(0, 63, 2), marked(0, 64, 3)];
    h.inject(1, ...all);
    t.equal(h.upcalls.length, 1, 'they are decided one after the other');
    const { key } = h.upcalls[0]!;
    t.ok(h.dp.flowPut({ id: flowId(1), key, mask: maskOf('in_port'), actions: output(2) }));
    const last = marked(2, 64, 4);
    h.inject(1, last);
    t.same(h.take(2), [], 'a flow that covers them changes nothing while the first one waits');
    h.answer(0, output(2));
    Harness.same(h.take(2), [...all, last]);
    t.match(h.counters(), { upcalls: 1, held: 0 });
  });

  test('each of them has a decision of its own', (t, h) => {
    h.memory(1, 2, 3);
    const marked = (tos: number, sequence: number) => frames.udp({ ip4: { tos } }, 7, 9, Uint8Array.of(sequence, 0));
    const all = [marked(0, 0), marked(0, 1), marked(4, 2), marked(0, 3), marked(4, 4)];
    h.inject(1, ...all);
    h.answer(0, output(2));
    Harness.same(h.take(2), all.slice(0, 2));
    t.equal(h.upcalls.length, 2, 'the next one makes an upcall');
    t.equal(readNumber(h.upcalls[1]!.key, fields.ip_tos), 4);
    h.answer(0, output(3));
    t.same(h.take(3), [], 'an answer counts once');
    h.answer(1, output(3));
    Harness.same(h.take(3), [all[2]!]);
    const { key } = h.upcalls[2]!;
    t.ok(h.dp.flowPut({ id: flowId(1), key, mask: maskOf('ip_tos'), actions: output(2) }));
    h.answer(2, output(2));
    Harness.same(h.take(2), [all[3]!]);
    h.answer(3, consume);
    t.match(h.counters(), { rx: 5, tx: 4, consumed: 1, upcalls: 4, held: 0 });
  });

  test(
    'no frame overtakes another of its flow, and none is lost without a reason',
    (t, h) => {
      h.memory(1, 2);
      let id = 0;
      const waiting: number[] = [];
      h.onUpcall = (batch) => waiting.push(...batch.map(({ token }) => token));
      const answerOne = () => {
        const token = waiting.shift();
        const upcall = h.upcalls.find((one) => one.token === token);
        if (!upcall) return;
        h.dp.flowPut({ id: flowId(++id), key: upcall.key, mask: maskOf('in_port', 'l4_src'), actions: output(2) });
        h.dp.execute(upcall.token, output(2));
      };
      for (let flow = 0; flow < 1000; flow++) {
        for (let sequence = 0; sequence < 20; sequence++) {
          h.inject(1, numbered(flow, sequence));
          if ((flow * 7 + sequence) % 17 === 0) answerOne();
        }
      }
      while (waiting.length > 0) answerOne();
      const last = new Map<number, number>();
      let inOrder = true;
      for (const frame of h.take(2)) {
        const flow = (frame[34]! << 8) | frame[35]!;
        inOrder &&= frame[43]! > (last.get(flow) ?? -1);
        last.set(flow, frame[43]!);
      }
      t.ok(inOrder);
      t.match(h.counters(), { rx: 20000, held: 0 });
    },
    { flowCap: 2000 },
  );

  test('an upcall can be answered inside onUpcall, and a frame that returns from transmit is forwarded', (t, h) => {
    h.memory(1, 2, 3);
    let id = 0;
    h.onUpcall = (batch) => {
      for (const { token, key } of batch) {
        const actions = output(readNumber(key, fields.in_port) + 1);
        h.dp.flowPut({ id: flowId(++id), key, mask: maskOf('in_port'), actions });
        h.dp.execute(token, actions);
      }
    };
    h.onTransmit = (port, frame) => {
      if (port === 2) h.inject(2, frame);
    };
    h.inject(1, numbered(0, 0), numbered(1, 1));
    Harness.same(h.take(3), [numbered(0, 0), numbered(1, 1)]);
    t.match(h.counters(), { rx: 4, tx: 4, upcalls: 2, flows: 2, masks: 1 });
  });

  test('frames go out in the order in which they were decided, whatever comes back in meanwhile', (t, h) => {
    h.memory(1, 2, 3);
    const key = emptyKey();
    writeNumber(key, fields.in_port, 2);
    h.dp.flowPut({ id: flowId(1), key, mask: maskOf('in_port'), actions: output(3) });
    h.onTransmit = (port) => {
      if (port === 2) h.inject(2, numbered(9, 9));
    };
    h.inject(1, numbered(0, 0), numbered(0, 1));
    h.answer(0, output(2, 3));
    t.same(h.take(3).map(hex), [numbered(0, 0), numbered(0, 1), numbered(9, 9), numbered(9, 9)].map(hex));
  });

  test('a used or unknown token does nothing', (t, h) => {
    h.memory(1, 2);
    h.inject(1, numbered(0, 0));
    h.answer(0, output(2));
    h.answer(0, output(2));
    h.dp.execute(123456, output(2));
    t.equal(h.take(2).length, 1);
  });

  test('an unanswered flow is told of once', (t, h) => {
    h.memory(1, 2);
    h.inject(1, numbered(0, 0), numbered(0, 1), numbered(1, 0), numbered(0, 2));
    t.equal(h.upcalls.length, 2);
    t.not(h.upcalls[0]!.token, h.upcalls[1]!.token);
  });

  // Limits

  test('undecided flows are bounded for each port by itself', (t, h) => {
    h.memory(1, 2, 3);
    for (let flow = 0; flow < PENDING_PER_PORT + 5; flow++) h.inject(1, numbered(flow, 0));
    t.same(h.drops(), { upcall_queue_full: 5 });
    t.match(h.counters(), { held: PENDING_PER_PORT, upcalls: PENDING_PER_PORT });
    h.inject(1, numbered(0, 1));
    t.equal(h.counters().held, PENDING_PER_PORT + 1, 'more frames of a flow that waits still park');
    h.inject(2, numbered(0, 0));
    t.equal(h.upcalls.length, PENDING_PER_PORT + 1, 'another port has its own share');
    h.answer(3, output(3));
    h.inject(1, numbered(PENDING_PER_PORT + 1, 0));
    t.equal(h.upcalls.length, PENDING_PER_PORT + 2, 'an answer makes room');
  });

  test('parked bytes are bounded for each port: 8 MiB', (t, h) => {
    h.memory(1, 2);
    const big = (flow: number) =>
      frames.ethernet({ srcMac: `02:00:00:00:01:${flow.toString(16).padStart(2, '0')}` }, 0x1234, zero(65535 - 14));
    for (let flow = 0; flow < 130; flow++) h.inject(1, big(flow));
    t.same(h.drops(), { upcall_queue_full: 2 }, '128 x 65,535 bytes fit');
    h.inject(1, big(0));
    t.same(h.drops(), { upcall_queue_full: 3 }, 'also behind others');
    h.inject(1, numbered(0, 0));
    t.equal(h.counters().held, 129, 'what is left is for smaller frames');
    for (let i = 0; i < 129; i++) h.answer(i, consume);
    h.inject(1, big(200));
    t.equal(h.counters().held, 1, 'and is given back');
  });

  test('upcalls are filled round robin over the ports, in batches', (t, h) => {
    h.memory(1, 2, 3);
    let burst = true;
    // Frames that arrive during an upcall accumulate: here 100 from port 1, then 2 from port 2 and 3 from port 3.
    h.onUpcall = () => {
      if (!burst) return;
      burst = false;
      for (let flow = 1; flow <= 100; flow++) h.inject(1, numbered(flow, 0));
      for (let flow = 1; flow <= 2; flow++) h.inject(2, numbered(flow, 0));
      for (let flow = 1; flow <= 3; flow++) h.inject(3, numbered(flow, 0));
    };
    h.inject(1, numbered(0, 0));
    const later = h.upcalls.slice(1);
    t.equal(later.length, 105);
    t.ok(h.batches.every((batch) => batch.length > 0 && batch.length <= UPCALL_BATCH));
    const order = later.map(({ key }) => readNumber(key, fields.in_port));
    const places = (port: number) => order.flatMap((one, index) => (one === port ? [index] : []));
    t.ok(
      places(2).every((place) => place < 8) && places(3).every((place) => place < 9),
      `served in turn: ${order.slice(0, 12).join()}`,
    );
    for (const port of [1, 2, 3]) {
      const flows = later
        .filter(({ key }) => readNumber(key, fields.in_port) === port)
        .map(({ key }) => readNumber(key, fields.l4_src));
      t.same(
        flows,
        [...flows].sort((a, b) => a - b),
        `port ${port} in its order`,
      );
    }
  });

  test('where many frames to groups wait, every second upcall is of another', (t, h) => {
    h.memory(1, 2);
    let burst = true;
    h.onUpcall = () => {
      if (!burst) return;
      burst = false;
      for (let flow = 1; flow <= 100; flow++) h.inject(1, frames.udp({ dstMac: GROUP }, 1000 + flow, 53));
      for (let flow = 1; flow <= 10; flow++) h.inject(2, numbered(flow, 0));
    };
    h.inject(1, numbered(0, 0));
    const ports = h.upcalls.slice(1).map(({ key }) => readNumber(key, fields.in_port));
    t.same(
      ports,
      [...Array.from({ length: 20 }, (_, at) => (at % 2 === 0 ? 2 : 1)), ...Array<number>(90).fill(1)],
      'the ten have every second place until they are done',
    );
  });
}
