/**
 * Everything that a datapath promises (`src/datapath/datapath.ts`), promise by promise. The law of
 * conservation is checked after each test, and whenever a test looks at counters.
 */
import type { NewPort } from '../../src/datapath/datapath.ts';
import { MASK_CAP } from '../../src/flow/bounds.ts';
import { extract, MAX_FRAME_BYTES } from '../../src/flow/extract.ts';
import { fieldList, fields } from '../../src/flow/fields.ts';
import { entropyPort } from '../../src/flow/hash.ts';
import { applyMask, emptyKey, readBytes, readNumber, writeNumber } from '../../src/flow/key.ts';
import type { DropReason } from '../../src/flow/reason.ts';
import { formatIp, parseIp } from '../../src/flow/types.ts';
import { WeftError } from '../../src/error.ts';
import { concat } from '../../src/wire/bytes.ts';
import { buildVxlan } from '../../src/wire/vxlan.ts';
import * as frames from '../support/frames.ts';
import { consume, encap, flowId, Harness, maskOf, numbered, output, portNo, type Open } from './harness.ts';
import { conformanceTests } from './suite.ts';

const zero = (length: number) => new Uint8Array(length);
const drop = (reason: DropReason) => [{ op: 'drop', reason }] as const;
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

export function runConformance(name: string, open: Open): void {
  const test = conformanceTests(name, open);

  // Flows

  test('a flow covers what is equal under its mask, is counted and dated', (t, h) => {
    h.memory(1, 2);
    h.inject(1, numbered(0, 0));
    const { key } = h.upcalls[0]!;
    const mask = maskOf('in_port', 'eth_type', 'ip_dst');
    h.dp.flowPut({ id: flowId(9), key, mask, actions: output(2) });
    h.answer(0, output(2));
    t.match([...h.dp.flowDump()], [{ id: 9, packets: 0, bytes: 0, lastUsedMs: 1000 }], 'parked frames are not hits');
    h.nowMs = 5000;
    const [second, third] = [numbered(1, 1), frames.tcp({ src: '10.9.9.9' }, { sourcePort: 1, destinationPort: 2 })];
    h.inject(1, second, concat(third, zero(10)));
    Harness.same(h.take(2), [numbered(0, 0), second, third]);
    const [flow] = [...h.dp.flowDump()];
    t.match(flow, { id: 9, packets: 2, bytes: second.length + third.length, lastUsedMs: 5000, actions: output(2) });
    t.equal(hex(flow!.key), hex(applyMask(key, mask)), 'the key is masked');
    t.equal(hex(flow!.mask), hex(mask));
    h.inject(1, frames.udp({ dst: '10.0.0.3' }, 1, 2));
    h.inject(2, second);
    t.equal(h.upcalls.length, 3, 'other frames miss');
    h.dp.flowDel(flowId(9));
    h.dp.flowDel(flowId(9));
    h.inject(1, second);
    t.equal(h.upcalls.length, 4, 'and all do when it is deleted');
    t.match(h.counters(), { flows: 0, masks: 0 });
  });

  test('a known id gets new actions and keeps its statistics; another id starts anew', (t, h) => {
    h.memory(1, 2, 3);
    const key = emptyKey();
    writeNumber(key, fields.in_port, 1);
    const flow = { id: flowId(1), key, mask: maskOf('in_port'), actions: output(2) };
    h.dp.flowPut(flow);
    h.inject(1, numbered(0, 0));
    h.nowMs = 2000;
    t.ok(h.dp.flowPut({ ...flow, actions: output(3) }));
    t.match([...h.dp.flowDump()], [{ id: 1, packets: 1, lastUsedMs: 1000, actions: output(3) }]);
    h.inject(1, numbered(0, 1));
    t.ok(h.dp.flowPut({ ...flow, id: flowId(2), actions: output(2) }));
    t.match([...h.dp.flowDump()], [{ id: 2, packets: 0, bytes: 0, lastUsedMs: 2000, actions: output(2) }]);
    h.inject(1, numbered(0, 2));
    Harness.same(h.take(2), [numbered(0, 0), numbered(0, 2)]);
    Harness.same(h.take(3), [numbered(0, 1)]);
    h.dp.flowDel(flowId(1));
    t.equal(h.counters().flows, 1, 'the id that it had means nothing any more');
  });

  test('a mask that uses nothing covers everything', (t, h) => {
    h.memory(1, 2);
    h.dp.flowPut({ id: flowId(1), key: emptyKey().fill(0x77), mask: maskOf(), actions: consume });
    h.inject(1, numbered(0, 0), frames.arpRequest({}));
    h.inject(2, frames.echo({ src: 'fd00::1', dst: 'fd00::2' }, 1, 1));
    t.match(h.counters(), { consumed: 3, upcalls: 0 });
  });

  test(
    'the flow cap refuses more flows and keeps those that are',
    (t, h) => {
      h.memory(1, 2);
      const put = (id: number, flow: number) => {
        const key = emptyKey();
        extract(numbered(flow, 0), key);
        return h.dp.flowPut({ id: flowId(id), key, mask: maskOf('l4_src'), actions: output(2) });
      };
      t.ok(put(1, 1) && put(2, 2) && put(3, 3));
      t.notOk(put(4, 4));
      t.ok(put(5, 2), 'replacing is no new flow');
      t.ok(put(1, 1), 'nor is a known id');
      t.match(h.counters(), { flows: 3, refused: { flows: 1, masks: 0 } });
      h.dp.flowDel(flowId(3));
      t.ok(put(4, 4));
    },
    { flowCap: 3 },
  );

  test('the number of masks is limited, and a mask goes with its last flow', (t, h) => {
    h.memory(1, 2);
    const put = (id: number, maskNumber: number, port = 1) => {
      const used = fieldList.filter((_, bit) => (maskNumber >> bit) & 1).map((field) => field.name);
      const key = emptyKey();
      writeNumber(key, fields.in_port, port);
      return h.dp.flowPut({ id: flowId(id), key, mask: maskOf('in_port', ...used), actions: output(2) });
    };
    for (let mask = 0; mask < MASK_CAP; mask++) t.ok(put(mask + 1, mask * 2));
    t.equal(h.counters().masks, MASK_CAP);
    t.notOk(put(1000, MASK_CAP * 2), 'another mask');
    t.ok(put(1001, 0, 5), 'another flow under a mask that is there');
    h.dp.flowDel(flowId(1));
    t.notOk(put(1000, MASK_CAP * 2), 'its mask is still used');
    h.dp.flowDel(flowId(1001));
    t.ok(put(1000, MASK_CAP * 2));
    t.match(h.counters(), { masks: MASK_CAP, flows: MASK_CAP, refused: { flows: 0, masks: 2 } });
  });

  test('one flow is read by its id, with its statistics', (t, h) => {
    h.memory(1, 2);
    h.forward(1, output(2));
    h.forward(2, output(1));
    h.nowMs += 500;
    h.inject(1, numbered(0, 0));
    const entry = h.dp.flowGet(flowId(1));
    t.match(entry, { id: 1, packets: 1, bytes: numbered(0, 0).length, lastUsedMs: h.nowMs, actions: output(2) });
    t.equal(readNumber(entry!.key, fields.in_port), 1);
    t.same(entry!.mask, maskOf('in_port'));
    t.match(h.dp.flowGet(flowId(2)), { id: 2, packets: 0 });
    t.equal(h.dp.flowGet(flowId(3)), undefined);
    h.dp.flowDel(flowId(1));
    t.equal(h.dp.flowGet(flowId(1)), undefined);
  });

  // Actions

  test('flooding counts copies; each copy ends by itself', (t, h) => {
    h.memory(1, 2, 3);
    h.inject(1, numbered(0, 0));
    h.answer(0, output(2, 3, 77));
    t.match(h.counters(), { rx: 1, copies: 2, tx: 2, drops: { port_gone: 1 } });
    t.same(h.counters().ports.get(portNo(1))!.drops, { port_gone: 1 }, 'a drop is counted where the frame came in');
    Harness.same([...h.take(2), ...h.take(3)], [numbered(0, 0), numbered(0, 0)]);
  });

  test('counters hold at each moment, also inside transmit and onUpcall', (t, h) => {
    h.memory(1, 2, 3);
    let looks = 0;
    h.onTransmit = () => {
      h.counters();
      looks++;
    };
    h.onUpcall = ([upcall]) => {
      h.counters();
      h.dp.execute(upcall!.token, output(2, 3, 2));
    };
    h.inject(1, numbered(0, 0));
    t.equal(looks, 3);
  });

  test('drop and consume', (t, h) => {
    h.memory(1);
    h.inject(1, numbered(0, 0), numbered(0, 1), numbered(1, 0));
    h.answer(0, drop('spoof_mac'));
    h.answer(1, consume);
    t.match(h.counters(), { rx: 3, consumed: 1, drops: { spoof_mac: 2 }, held: 0 });
  });

  test('a frame that weft made is sent, counted and cut as any other', (t, h) => {
    h.memory(1, 2);
    const reply = frames.arpReply({});
    h.dp.execute({ frame: reply }, output(1));
    Harness.same(h.take(1), [reply]);
    const packet = frames.udp({}, 1, 2);
    h.dp.execute({ frame: concat(packet, zero(20)) }, output(2, 9));
    Harness.same(h.take(2), [packet]);
    h.dp.execute({ frame: zero(13) }, output(2));
    t.match(h.counters(), { rx: 0, originated: 3, copies: 1, tx: 2, drops: { port_gone: 1, frame_too_short: 1 } });
    t.ok([...h.counters().ports.values()].every((port) => Object.keys(port.drops).length === 0));
  });

  test('frames handed over and given belong to who has them', (t, h) => {
    h.memory(1, 2);
    const frame = numbered(0, 0);
    const original = frame.slice();
    h.inject(1, frame);
    frame.fill(0);
    h.answer(0, output(2, 2));
    const [first, second] = h.take(2);
    t.equal(hex(first!), hex(original));
    first!.fill(0);
    t.equal(hex(second!), hex(original));
  });

  // The tunnel

  test('encap puts a VXLAN header before the frame; the source port is stable for the flow', (t, h) => {
    h.memory(1);
    h.vxlan(5, '192.0.2.1');
    const frame = frames.tcp({}, { sourcePort: 5, destinationPort: 6, payload: zero(7) });
    h.inject(1, frame);
    h.answer(0, [encap(0xabcdef, '192.0.2.2'), encap(1, '2001:db8::2')]);
    t.equal(h.datagrams.length, 2);
    const [first, second] = h.datagrams;
    t.equal(hex(first!.payload), `08000000abcdef00${hex(frame)}`);
    t.equal(hex(second!.payload), `0800000000000100${hex(frame)}`);
    t.equal(formatIp(first!.source), '192.0.2.1');
    t.equal(formatIp(first!.destination), '192.0.2.2');
    t.equal(formatIp(second!.destination), '2001:db8::2');
    const key = h.upcalls[0]!.key;
    t.equal(first!.sourcePort, entropyPort(key));
    t.equal(second!.sourcePort, entropyPort(key));
    t.match(h.counters().ports.get(portNo(5)), { txFrames: 2 });
  });

  test('without a VXLAN port encap drops', (t, h) => {
    h.memory(1);
    h.inject(1, numbered(0, 0));
    h.answer(0, [encap(1, '192.0.2.2')]);
    t.same(h.drops(), { underlay_missing: 1 });
  });

  test('a VXLAN port is no port to output to', (t, h) => {
    h.memory(1);
    h.vxlan(5, '192.0.2.1');
    h.inject(1, numbered(0, 0));
    h.answer(0, output(5));
    t.same(h.drops(), { port_gone: 1 });
  });

  test('an unfinished checksum from the tunnel is finished, one from a port is left alone', (t, h) => {
    h.memory(1);
    h.vxlan(5, '192.0.2.1');
    h.onUpcall = ([upcall]) => h.dp.execute(upcall!.token, output(1));
    const tcp = { sourcePort: 1, destinationPort: 2, payload: zero(1001).fill(7) };
    for (const ends of [{}, { src: 'fd00::1', dst: 'fd00::2' }]) {
      for (const frame of [frames.tcp(ends, tcp), frames.udp(ends, 1, 2, zero(33).fill(9))]) {
        const sent = frames.unfinished(frame);
        t.not(hex(sent), hex(frame));
        const before = hex(sent);
        h.injectDatagram(5, '192.0.2.9', buildVxlan({ vni: 7, frame: sent }));
        h.inject(1, sent);
        Harness.same(h.take(1), [frame, sent]);
        t.equal(hex(sent), before, 'what was injected is not changed');
      }
    }
  });

  test('what is decapsulated has VNI and sender in its key', (t, h) => {
    h.memory(1);
    h.vxlan(5, '192.0.2.1');
    const frame = frames.udp({}, 7, 9, zero(1));
    const payload = buildVxlan({ vni: 0xabcdef, frame: concat(frame, zero(5)) });
    h.injectDatagram(5, '192.0.2.9', payload);
    const { key, head, lengthBytes } = h.upcalls[0]!;
    t.equal(readNumber(key, fields.in_port), 5);
    t.equal(readNumber(key, fields.tun_vni), 0xabcdef);
    t.equal(formatIp(readBytes(key, fields.tun_src)), '192.0.2.9');
    t.equal(readNumber(key, fields.l4_dst), 9);
    t.equal(hex(head), hex(frame));
    t.equal(lengthBytes, frame.length);
    h.answer(0, output(1));
    Harness.same(h.take(1), [frame]);
    t.match(h.counters().ports.get(portNo(5)), { rxFrames: 1, rxBytes: frame.length });
    const reserved = payload.slice();
    reserved.set([0xff, 1, 2, 3], 0);
    reserved[7] = 9;
    h.injectDatagram(5, '192.0.2.9', reserved);
    t.equal(hex(h.upcalls[1]!.key), hex(key), 'reserved bits are ignored');
  });

  test('bad datagrams are dropped', (t, h) => {
    h.vxlan(5, '2001:db8::1');
    const payload = buildVxlan({ vni: 7, frame: numbered(0, 0) });
    h.injectDatagram(5, '2001:db8::2', zero(0));
    h.injectDatagram(5, '2001:db8::2', payload.slice(0, 21));
    h.injectDatagram(5, '2001:db8::2', Uint8Array.of(0xf7, ...payload.slice(1)));
    h.injectDatagram(5, '2001:db8::1', payload);
    h.injectDatagram(5, '2001:db8::2', payload.slice(0, 30));
    t.same(h.drops(), { vxlan_malformed: 3, vxlan_own_address: 1, ipv4_malformed: 1 });
    t.equal(h.upcalls.length, 0);
    t.match(h.counters().ports.get(portNo(5)), { rxFrames: 5, drops: { vxlan_malformed: 3 } });
  });

  // Ports

  test('each reason to refuse a frame is counted, at the port and in all', (t, h) => {
    h.memory(1);
    const v6 = { src: 'fd00::1', dst: 'fd00::2' };
    const bad: [DropReason, Uint8Array][] = [
      ['frame_too_short', zero(13)],
      ['frame_too_short', zero(0)],
      ['frame_too_long', zero(MAX_FRAME_BYTES + 1)],
      ['arp_malformed', frames.arpRequest({}).slice(0, 41)],
      ['ipv4_malformed', numbered(0, 0).slice(0, 30)],
      ['ipv6_malformed', frames.udp(v6, 1, 2).slice(0, 50)],
      ['ipv6_ext_headers', frames.ip(v6, 0, zero(7))],
      ['l4_truncated', frames.ip({}, 6, zero(19))],
      ['nd_malformed', frames.solicitation({ ...v6, target: 'fd00::2', ip6: { hopLimit: 64 } })],
      ['ipv4_mapped', concat(frames.udp(v6, 1, 2).slice(0, 22), parseIp('::ffff:10.0.0.1'), zero(24))],
    ];
    for (const [, frame] of bad) h.inject(1, frame);
    const expected: Partial<Record<DropReason, number>> = {};
    for (const [reason] of bad) expected[reason] = (expected[reason] ?? 0) + 1;
    t.same(h.drops(), expected);
    t.same(h.counters().ports.get(portNo(1))!.drops, expected);
    t.equal(h.upcalls.length, 0);
  });

  test('port counters', (t, h) => {
    h.memory(1, 2);
    const frame = numbered(0, 0);
    h.inject(1, concat(frame, zero(4)));
    h.answer(0, output(2));
    t.match(h.counters().ports.get(portNo(1)), { rxFrames: 1, rxBytes: frame.length, txFrames: 0, txBytes: 0 });
    t.match(h.counters().ports.get(portNo(2)), { rxFrames: 0, rxBytes: 0, txFrames: 1, txBytes: frame.length });
  });

  test('removing a port drops what waits from it, and nothing else', (t, h) => {
    h.memory(1, 2, 3);
    h.inject(1, numbered(0, 0), numbered(0, 1), numbered(1, 0));
    h.inject(2, numbered(0, 0));
    h.dp.flowPut({ id: flowId(1), key: h.upcalls[0]!.key, mask: maskOf('in_port'), actions: output(3) });
    h.dp.portDel(portNo(1));
    t.match(h.counters(), { held: 1, drops: { upcall_lost: 3 }, flows: 1 });
    t.same([...h.counters().ports.keys()], [2, 3]);
    h.answer(0, output(3));
    t.equal(h.take(3).length, 0, 'its tokens mean nothing any more');
    h.answer(2, output(3));
    t.equal(h.take(3).length, 1);
    h.memory(1);
    h.inject(1, numbered(5, 0));
    Harness.same(h.take(3), [numbered(5, 0)], 'cached flows stay');
    t.match(h.counters().ports.get(portNo(1)), { rxFrames: 1 }, 'a new port of that number counts from 0');
  });

  test('a port number has 16 bits', (t, h) => {
    h.memory(0xffff);
    for (const number of [0x1_0000, 0, -1, 1.5]) {
      t.throws(() => h.memory(number), {
        code: 'exhausted',
        message: `port ${number} does not fit: a port has a number of 1 to 65535`,
      });
    }
    t.same([...h.counters().ports.keys()], [0xffff]);
  });

  test('a port that goes takes its upcalls along', (t, h) => {
    h.memory(1, 2, 3);
    h.onUpcall = (batch) => {
      if (readNumber(batch[0]!.key, fields.in_port) !== 2) return;
      h.inject(1, numbered(1, 0));
      h.inject(3, numbered(1, 0));
      h.dp.portDel(portNo(1));
    };
    h.inject(2, numbered(0, 0));
    t.same(
      h.upcalls.map(({ key }) => readNumber(key, fields.in_port)),
      [2, 3],
    );
    t.match(h.counters(), { held: 2, drops: { upcall_lost: 1 } });
  });

  test('port numbers and the VXLAN port are taken once', (t, h) => {
    h.memory(1);
    t.throws(() => h.memory(1), WeftError);
    h.vxlan(2, '192.0.2.1');
    t.throws(() => h.vxlan(3, '192.0.2.2'), WeftError);
    h.dp.portDel(portNo(2));
    h.dp.portDel(portNo(2));
    h.vxlan(3, '192.0.2.2');
    t.same(
      [...h.counters().ports.keys()].sort((a, b) => a - b),
      [1, 3],
    );
    t.throws(() => h.inject(9, numbered(0, 0)), WeftError);
    t.throws(() => h.inject(3, numbered(0, 0)), WeftError);
  });

  test('of ports that are opened together, each that cannot be is told by itself', (t, h) => {
    h.memory(1);
    const memory = (port: number): NewPort => ({
      port: portNo(port),
      spec: { kind: 'memory', name: `m${port}`, transmit: () => {} },
    });
    const tunnel = (port: number): NewPort => ({
      port: portNo(port),
      spec: { kind: 'memory-vxlan', name: `v${port}`, local: zero(16), transmit: () => {} },
    });
    const taken = (port: number) => new WeftError('conflict', `port ${port} exists already`);
    t.strictSame(h.dp.portsAdd([memory(1), memory(2), memory(2), tunnel(3), tunnel(4), memory(5)]), [
      taken(1),
      undefined,
      taken(2),
      undefined,
      new WeftError('conflict', 'port 4: port 3 is the VXLAN port already'),
      undefined,
    ]);
    t.same(
      [...h.counters().ports.keys()].sort((a, b) => a - b),
      [1, 2, 3, 5],
    );
  });

  test('a port that is not there has nothing to be set', (t, h) => {
    t.same(h.dp.portSet(portNo(1), { ingress: { perSecond: 1, burst: 1 } }), []);
    h.memory(1, 2);
    h.forward(1, output(2));
    h.inject(1, numbered(0, 0), numbered(0, 1));
    t.equal(h.take(2).length, 2);
    t.same(h.dp.portSet(portNo(1)), []);
  });

  test('closing drops what waits', (t, h) => {
    h.memory(1, 2);
    h.inject(1, numbered(0, 0), numbered(0, 1));
    h.inject(2, numbered(0, 0));
    h.dp.close();
    t.match(h.counters(), { held: 0, drops: { upcall_lost: 3 } });
  });
}
