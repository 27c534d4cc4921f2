/**
 * Fragments, rule by rule (native/fragment_tracker.h): each is forwarded by the ports of its datagram,
 * waits, or is dropped for a reason.
 */
import {
  DATAGRAMS_PER_PORT,
  FRAGMENT_TIMEOUT_MS,
  PARKED_FRAGMENTS,
  WAITING_BYTES_PER_PORT,
  WAITING_PER_DATAGRAM,
} from '../../src/flow/bounds.ts';
import { FRAG_FIRST, FRAG_LATER, fields } from '../../src/flow/fields.ts';
import { readNumber, type FlowKey } from '../../src/flow/key.ts';
import type { DropReason } from '../../src/flow/reason.ts';
import { buildExtension } from '../../src/wire/ipv6.ts';
import { buildUdp } from '../../src/wire/l4.ts';
import { buildVxlan } from '../../src/wire/vxlan.ts';
import { ip, type Ends } from '../support/frames.ts';
import { fragmentOf, partsOf, type FragmentOptions, type Part } from '../support/random-fragments.ts';
import { encap, Harness, output, portNo, type Open } from './harness.ts';
import { conformanceTests } from './suite.ts';

const ends4: Ends = { src: '10.0.0.1', dst: '10.0.0.2' };
const ends6: Ends = { src: 'fd00::1', dst: 'fd00::2' };
const families = { IPv4: ends4, IPv6: ends6 };

function udpDatagram(bytes = 300, destinationPort = 53): Uint8Array {
  const payload = Uint8Array.from({ length: bytes - 8 }, (_, i) => i);
  return buildUdp(new Uint8Array(4), new Uint8Array(4), { sourcePort: 7, destinationPort, payload });
}

const usual: FragmentOptions = { id: 5, protocol: 17, payload: udpDatagram() };
const fragment = (ends: Ends, part: Part, options: Partial<FragmentOptions> = {}) =>
  fragmentOf(ends, part, { ...usual, ...options });
/** The bytes [at, at + bytes), with more to follow. */
const part = (at: number, bytes: number): Part => ({ at, bytes, more: true });
const last = (at: number, bytes: number): Part => ({ at, bytes, more: false });

interface Outcome {
  readonly sent: readonly Part[];
  /** Which of them came out, in order. */
  readonly out: readonly number[];
  readonly drops?: Partial<Record<DropReason, number>>;
  readonly held?: number;
}

const outcomes: Readonly<Record<string, Outcome>> = {
  'in order': { sent: [part(0, 64), part(64, 64), last(128, 20)], out: [0, 1, 2] },
  'the first last: those that wait follow it in their order': {
    sent: [part(64, 64), last(128, 20), part(0, 64)],
    out: [2, 0, 1],
  },
  backwards: { sent: [last(128, 20), part(64, 64), part(0, 64)], out: [2, 0, 1] },
  'gaps close in any order': { sent: [part(0, 64), last(192, 20), part(128, 64), part(64, 64)], out: [0, 1, 2, 3] },
  'no first': { sent: [part(64, 64), last(128, 20)], out: [], held: 2 },
  'one is missing': { sent: [part(0, 64), last(128, 20)], out: [0, 1] },
  'the first twice': {
    sent: [part(0, 64), part(0, 64), last(64, 20)],
    out: [0, 2],
    drops: { fragment_duplicate: 1 },
  },
  'a later one twice, once it may go': {
    sent: [part(0, 64), part(64, 64), part(64, 64), last(128, 20)],
    out: [0, 1, 3],
    drops: { fragment_duplicate: 1 },
  },
  'a later one twice, while it waits': {
    sent: [part(64, 64), part(64, 64), part(0, 64), last(128, 20)],
    out: [2, 0, 3],
    drops: { fragment_duplicate: 1 },
  },
  'the last twice': {
    sent: [last(128, 20), last(128, 20), part(0, 64), part(64, 64)],
    out: [2, 0, 3],
    drops: { fragment_duplicate: 1 },
  },
  'one within another': {
    sent: [part(0, 64), part(64, 64), part(72, 8), last(128, 20)],
    out: [0, 1],
    drops: { fragment_overlap: 2 },
  },
  'one within two, of which it is the seam': {
    sent: [part(0, 64), part(64, 64), part(56, 16), last(128, 20)],
    out: [0, 1],
    drops: { fragment_overlap: 2 },
  },
  'two as one': {
    sent: [part(0, 64), part(64, 64), part(128, 64), part(64, 128), last(192, 20)],
    out: [0, 1, 2],
    drops: { fragment_overlap: 2 },
  },
  'one as two': {
    sent: [part(0, 64), part(64, 64), part(64, 32), last(128, 20)],
    out: [0, 1],
    drops: { fragment_overlap: 2 },
  },
  'one over the beginning of another': {
    sent: [part(0, 32), part(64, 64), part(56, 16), last(128, 20)],
    out: [0, 1],
    drops: { fragment_overlap: 2 },
  },
  'one over the end of another': {
    sent: [part(0, 64), part(64, 64), part(120, 16), last(136, 20)],
    out: [0, 1],
    drops: { fragment_overlap: 2 },
  },
  'one over all of another': {
    sent: [part(0, 32), part(64, 64), part(56, 80), last(136, 20)],
    out: [0, 1],
    drops: { fragment_overlap: 2 },
  },
  'a header that comes again behind the first’s': {
    sent: [part(0, 64), part(8, 64), last(72, 20)],
    out: [0],
    drops: { fragment_overlap: 2 },
  },
  'another first': {
    sent: [part(0, 64), part(0, 72), last(72, 20)],
    out: [0],
    drops: { fragment_overlap: 2 },
  },
  'those that wait go with it': {
    sent: [part(64, 64), part(128, 64), last(192, 20), part(120, 16), part(0, 64)],
    out: [],
    drops: { fragment_overlap: 5 },
  },
  'a first one over those that wait': {
    sent: [part(64, 64), last(128, 20), part(0, 72)],
    out: [],
    drops: { fragment_overlap: 3 },
  },
  'two ends': {
    sent: [part(0, 64), last(128, 20), last(160, 20), part(64, 64)],
    out: [0, 1],
    drops: { fragment_overlap: 2 },
  },
  'one behind the end': {
    sent: [part(0, 64), last(128, 20), part(160, 8), part(64, 64)],
    out: [0, 1],
    drops: { fragment_overlap: 2 },
  },
  'an end before what came': {
    sent: [part(0, 64), part(128, 64), last(64, 20), last(192, 8)],
    out: [0, 1],
    drops: { fragment_overlap: 2 },
  },
  'the last one, now with more to follow': {
    sent: [part(0, 64), last(128, 64), part(128, 64), part(64, 64)],
    out: [0, 1],
    drops: { fragment_overlap: 2 },
  },
};

export function runFragments(name: string, open: Open): void {
  const test = conformanceTests(name, open);
  const keys = (h: Harness) => h.upcalls.map(({ key }) => key);
  const numbers = (key: FlowKey) =>
    (['ip_frag', 'ip_proto', 'l4_src', 'l4_dst'] as const).map((field) => readNumber(key, fields[field]));

  for (const [family, ends] of Object.entries(families)) {
    for (const [what, { sent, out, drops = {}, held = 0 }] of Object.entries(outcomes)) {
      test(`${family} fragments: ${what}`, (t, h) => {
        h.memory(1, 2);
        h.forward(1, output(2));
        const made = sent.map((one) => fragment(ends, one));
        h.inject(1, ...made);
        Harness.same(
          h.take(2),
          out.map((index) => made[index]!),
        );
        t.same(h.drops(), drops);
        t.same(h.counters().ports.get(portNo(1))!.drops, drops, 'at their port');
        t.equal(h.counters().held, held);
        h.nowMs += FRAGMENT_TIMEOUT_MS;
        t.equal(h.counters().held, 0);
      });
    }

    test(`${family} fragments: a first one without all of its L4 header is refused, a later one within it too`, (t, h) => {
      h.memory(1, 2);
      h.forward(1, output(2));
      const tcp = { protocol: 6, payload: new Uint8Array(100).fill(0x50) };
      const refused: [Part, number][] = [
        [part(0, 8), 1],
        [part(0, 16), 2],
        [part(8, 16), 3],
        [part(16, 16), 4],
      ];
      for (const [one, drops] of refused) {
        h.inject(1, fragment(ends, one, { ...tcp, id: drops }));
        t.match(h.counters(), { tx: 0, held: 0, drops: { fragment_tiny: drops } });
      }
      const whole = [part(0, 24), part(24, 16)].map((one) => fragment(ends, one, tcp));
      h.inject(1, ...whole.toReversed());
      Harness.same(h.take(2), whole);
    });

    test(`${family} fragments have the protocol and ports of their first`, (t, h) => {
      h.memory(1);
      const parts = partsOf(300, 96);
      h.inject(1, ...parts.map((one) => fragment(ends, one)));
      t.same(keys(h).map(numbers), [
        [FRAG_FIRST, 17, 7, 53],
        [FRAG_LATER, 17, 7, 53],
      ]);
      const icmp = { id: 6, protocol: family === 'IPv4' ? 1 : 58, payload: Uint8Array.of(3, 4, ...new Uint8Array(94)) };
      const [first, second] = partsOf(96, 48);
      h.inject(1, fragment(ends, second!, icmp), fragment(ends, first!, icmp));
      t.same(keys(h).slice(2).map(numbers), [
        [FRAG_FIRST, icmp.protocol, 3, 4],
        [FRAG_LATER, icmp.protocol, 3, 4],
      ]);
    });

    test(`${family} fragments: a whole datagram is forgotten, its identification comes again`, (t, h) => {
      h.memory(1);
      for (const port of [53, 54, 55]) {
        const payload = udpDatagram(200, port);
        h.inject(1, ...partsOf(200, 104).map((one) => fragment(ends, one, { payload })));
      }
      t.same(
        keys(h).map((key) => readNumber(key, fields.l4_dst)),
        [53, 53, 54, 54, 55, 55],
      );
    });

    test(`${family} fragments wait ${FRAGMENT_TIMEOUT_MS} ms from the first arrival of their datagram on`, (t, h) => {
      h.memory(1, 2);
      h.forward(1, output(2));
      const frame = (at: number, id: number) => fragment(ends, part(at, 64), { id });
      h.inject(1, frame(64, 1));
      h.nowMs += FRAGMENT_TIMEOUT_MS - 1;
      h.inject(1, frame(128, 1), frame(64, 2));
      t.equal(h.counters().held, 3);
      h.nowMs++;
      t.match(h.counters(), { held: 1, drops: { fragment_timeout: 2 } }, 'without further frames');
      h.nowMs += FRAGMENT_TIMEOUT_MS - 2;
      h.inject(1, frame(0, 2));
      t.equal(h.take(2).length, 2, 'the other was younger');
      h.nowMs++;
      h.inject(1, frame(128, 2));
      t.match(h.counters(), { held: 1, drops: { fragment_timeout: 2 } }, 'what is forgotten has no first any more');
      h.nowMs += FRAGMENT_TIMEOUT_MS;
      t.equal([...h.dp.flowDump()].length, 1);
      t.match(h.counters(), { held: 0, drops: { fragment_timeout: 3 } });
    });

    test(`${family} fragments: what makes another datagram, and what does not`, (t, h) => {
      h.memory(1, 2);
      h.vxlan(5, '192.0.2.1');
      const first = fragment(ends, part(0, 64));
      const others = [
        fragment({ ...ends, src: family === 'IPv4' ? '10.0.0.3' : 'fd00::3' }, part(64, 64)),
        fragment({ ...ends, dst: family === 'IPv4' ? '10.0.0.3' : 'fd00::3' }, part(64, 64)),
        fragment(ends, part(64, 64), { id: 6 }),
      ];
      h.inject(1, first, ...others);
      t.equal(h.counters().held, 4);
      h.inject(2, fragment(ends, part(64, 64)));
      t.equal(h.counters().held, 5, 'another port');
      const inner = (vni: number, one: Part) => buildVxlan({ vni, frame: fragment(ends, one) });
      h.injectDatagram(5, '192.0.2.9', inner(7, part(0, 64)));
      h.injectDatagram(5, '192.0.2.9', inner(8, part(64, 64)));
      h.injectDatagram(5, '192.0.2.8', inner(7, part(64, 64)));
      t.equal(h.counters().held, 8, 'another network, another VTEP');
      t.equal(h.upcalls.length, 2);
      const macs = { srcMac: '02:00:00:00:00:09', dstMac: '02:00:00:00:00:08', vlan: { tpid: 0x8100, tci: 5 } };
      h.inject(1, fragment({ ...ends, ...macs }, part(64, 64)));
      t.same(numbers(h.upcalls[2]!.key), [FRAG_LATER, 17, 7, 53], 'MAC addresses and tags do not');
      h.inject(1, fragment(ends, part(128, 64), { protocol: 47 }));
      if (family === 'IPv4') t.equal(h.counters().held, 10, 'another protocol');
      else t.same(numbers(h.upcalls[3]!.key), [FRAG_LATER, 17, 7, 53], 'the protocol is the first’s');
    });

    test(`${family} fragments from the tunnel are tracked, and take one path`, (t, h) => {
      h.memory(1);
      h.vxlan(5, '192.0.2.1');
      h.forward(5, output(1));
      h.forward(1, [encap(7, '192.0.2.2')]);
      const made = partsOf(300, 96).map((one) => fragment(ends, one));
      const [first, ...later] = made;
      h.injectDatagrams(5, '192.0.2.9', ...[...later, first!].map((frame) => buildVxlan({ vni: 7, frame })));
      Harness.same(h.take(1), [first!, ...later]);
      h.inject(1, ...made);
      t.equal(h.datagrams.length, 4);
      t.equal(new Set(h.datagrams.map(({ sourcePort }) => sourcePort)).size, 1);
    });

    test(`${family} fragments: at the cap of datagrams the oldest of the port gives way`, (t, h) => {
      h.memory(1, 2, 3);
      h.forward(1, output(3));
      const later = (id: number) => fragment(ends, part(64, 64), { id });
      h.inject(2, later(0));
      for (let id = 0; id < DATAGRAMS_PER_PORT; id++) h.inject(1, later(id));
      t.match(h.counters(), { held: DATAGRAMS_PER_PORT + 1, drops: {} });
      h.inject(1, later(1000), later(1001));
      t.match(h.counters(), { held: DATAGRAMS_PER_PORT + 1, drops: { fragment_limit: 2 } });
      t.same(h.counters().ports.get(portNo(2))!.drops, {}, 'another port has its own share');
      const first = (id: number) => fragment(ends, part(0, 64), { id });
      h.inject(1, first(2), first(0));
      Harness.same(h.take(3), [first(2), later(2), first(0)]);
    });

    test(`${family} fragments: ${WAITING_PER_DATAGRAM} of a datagram wait`, (t, h) => {
      h.memory(1, 2);
      h.forward(1, output(2));
      const parts = partsOf(8 * (WAITING_PER_DATAGRAM + 3), 8);
      const made = parts.map((one) => fragment(ends, one));
      h.inject(1, ...made.slice(1));
      t.match(h.counters(), { held: WAITING_PER_DATAGRAM, drops: { fragment_limit: 2 } });
      h.inject(1, made[0]!);
      Harness.same(h.take(2), made.slice(0, WAITING_PER_DATAGRAM + 1));
      h.inject(1, ...made.slice(-2));
      Harness.same(h.take(2), made.slice(-2), 'what was refused may come again');
    });

    test(`${family} fragments: bytes that wait are bounded for each port`, (t, h) => {
      h.memory(1, 2, 3);
      const later = (id: number, at = 64) => fragment(ends, part(at, 65_000), { id });
      const fit = Math.floor(WAITING_BYTES_PER_PORT / later(0).length);
      for (let id = 0; id < fit; id++) h.inject(1, later(id));
      t.match(h.counters(), { held: fit, drops: {} });
      h.inject(1, later(100));
      t.match(h.counters(), { held: fit, drops: { fragment_limit: 1 } }, 'the oldest gives way');
      h.inject(2, later(0));
      t.equal(h.counters().held, fit + 1, 'another port has its own share');
      h.inject(3, fragment(ends, part(64, 64)));
      for (let id = 0; id < fit; id++) h.inject(3, later(id + 100));
      h.inject(3, later(usual.id, 128));
      t.match(h.counters(), { held: 2 * fit + 2, drops: { fragment_limit: 2 } }, 'but not to itself');
    });

    test(`${family} fragments: ${PARKED_FRAGMENTS} park behind a miss, so that a datagram stays whole`, (t, h) => {
      h.memory(1, 2);
      const made = partsOf(65_000, 1400).map((one) => fragment(ends, one));
      h.inject(1, ...made);
      t.equal(h.upcalls.length, 2);
      t.match(h.counters(), { held: made.length, drops: {} });
      h.answer(0, output(2));
      h.answer(1, output(2));
      Harness.same(h.take(2), made);
      const small = partsOf(8 * (PARKED_FRAGMENTS + 3), 8).map((one) => fragment(ends, one, { id: 6 }));
      h.inject(1, ...small);
      t.match(h.counters(), { held: PARKED_FRAGMENTS + 1, drops: { upcall_parked_full: 2 } });
    });

    test(`${family} fragments: those that were released park and miss as any other`, (t, h) => {
      h.memory(1, 2);
      const made = partsOf(300, 96).map((one) => fragment(ends, one));
      h.inject(1, ...made.slice(1), made[0]!);
      t.equal(h.upcalls.length, 2);
      h.answer(1, output(2));
      h.answer(0, output(2));
      Harness.same(h.take(2), [...made.slice(1), made[0]!]);
    });

    test(`${family} fragments that wait go with their port`, (t, h) => {
      h.memory(1, 2);
      h.inject(1, fragment(ends, part(64, 64)), fragment(ends, part(128, 64)));
      h.inject(2, fragment(ends, part(64, 64)));
      h.dp.portDel(portNo(1));
      t.match(h.counters(), { held: 1, drops: { upcall_lost: 2 } });
      h.memory(1);
      h.inject(1, fragment(ends, part(0, 64)));
      t.equal(h.upcalls.length, 1, 'a new port of that number knows nothing of them');
      h.dp.close();
      t.match(h.counters(), { held: 0, drops: { upcall_lost: 4 } });
    });
  }

  test('fragments of IPv4 are cut further by an mtu, one by one', (t, h) => {
    h.memory(1, 2);
    h.forward(1, [{ op: 'mtu', bytes: 100 }, ...output(2)]);
    const parts = partsOf(300, 160);
    const made = parts.map((one) => fragment(ends4, one));
    h.inject(1, made[1]!, made[0]!);
    // 80 bytes behind a header of 20 bytes.
    const cut = partsOf(300, 80).map((one) => fragment(ends4, one));
    Harness.same(h.take(2), cut);
    t.match(h.counters(), { rx: 2, segments: 2, tx: 4 });
  });

  test('eight IPv6 extension headers are walked, a ninth is refused', (t, h) => {
    h.memory(1, 2);
    h.forward(1, output(2));
    for (const fragmented of [false, true]) {
      const chain = (count: number): Uint8Array => {
        const options = Array.from({ length: count }, () => 60);
        const [rest] = options.reduceRight<[Uint8Array, number]>(
          ([inner, next]) => [buildExtension(next, new Uint8Array(6), inner), 60],
          [udpDatagram(64), 17],
        );
        return fragmented
          ? fragment(ends6, part(0, rest.length), { protocol: 60, payload: rest })
          : ip(ends6, 60, rest);
      };
      // A fragment header counts as one of them.
      const most = fragmented ? 7 : 8;
      const passes = chain(most);
      h.inject(1, passes, chain(most + 1));
      Harness.same(h.take(2), [passes]);
      t.match(h.drops(), { ipv6_ext_headers: fragmented ? 2 : 1 });
    }
  });

  test('a first fragment that ends in its chain of extension headers is refused', (t, h) => {
    h.memory(1);
    const payload = buildExtension(17, new Uint8Array(6), udpDatagram());
    h.inject(1, fragment(ends6, part(0, 8), { protocol: 60, payload }));
    t.same(h.drops(), { fragment_tiny: 1 });
    t.equal(h.upcalls.length, 0);
  });

  test('an atomic fragment is none, whatever waits under its identification', (t, h) => {
    h.memory(1, 2);
    h.forward(1, output(2));
    const atomic = fragment(ends6, last(0, 300));
    h.inject(1, fragment(ends6, part(64, 64)), atomic, atomic);
    Harness.same(h.take(2), [atomic, atomic]);
    t.match(h.counters(), { held: 1, drops: {} });
    h.inject(1, fragment(ends6, part(0, 64)));
    t.equal(h.take(2).length, 2);
  });

  test('behind extension headers in its first fragment a datagram has its ports', (t, h) => {
    h.memory(1);
    const payload = buildExtension(17, new Uint8Array(6), udpDatagram());
    const parts = partsOf(308, 96);
    for (const [id, before] of [[1, []] as const, [2, [0, 43]] as const]) {
      const made = parts.map((one) => fragment(ends6, one, { id, protocol: 60, payload, before }));
      h.inject(1, ...made.slice(1), made[0]!);
    }
    t.same(keys(h).map(numbers), [
      [FRAG_FIRST, 17, 7, 53],
      [FRAG_LATER, 17, 7, 53],
    ]);
  });

  test('a datagram whose first fragment is refused goes nowhere', (t, h) => {
    h.memory(1, 2);
    h.forward(1, output(2));
    const tcp = { protocol: 6, payload: new Uint8Array(100).fill(0x50) };
    h.inject(1, fragment(ends4, part(24, 16), tcp), fragment(ends4, part(0, 16), tcp));
    h.inject(1, fragment(ends4, part(8, 16), tcp), fragment(ends4, part(64, 12), tcp));
    t.match(h.counters(), { tx: 0, held: 1, drops: { fragment_tiny: 2, fragment_malformed: 1 } });
    h.nowMs += FRAGMENT_TIMEOUT_MS;
    t.match(h.counters(), { held: 0, drops: { fragment_timeout: 1 } });
  });
}
