/**
 * Conversations that are only tracked: which packets begin one and which are of one (`ct_state`), by protocol, and what a
 * SYN against their direction does.
 *
 *   port 1 (10.0.0.1) ──known──► port 2 (10.0.0.2)     both ports are in place 1
 *          port 1  ◄─known_reply─ port 2
 */
import { SEEN_RST, type Place } from '../../src/flow/connection.ts';
import { FIRST_FREE_OWNER } from '../../src/flow/connection-store.ts';
import { ctState, fields } from '../../src/flow/fields.ts';
import { readNumber } from '../../src/flow/key.ts';
import { concat } from '../../src/wire/bytes.ts';
import { buildEchoBody, buildIcmp4, buildIcmp6, ICMP_ECHO_REPLY } from '../../src/wire/icmp.ts';
import { IP_ICMP, IP_ICMPV6, IP_SCTP, IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';
import { buildExtension, EXT_DESTINATION } from '../../src/wire/ipv6.ts';
import { buildTcp } from '../../src/wire/l4.ts';
import { arpReply, echo, ip, solicitation, tcp, udp, wireIp, type Ends } from '../support/frames.ts';
import { Harness, output, type HarnessOptions, type Open } from './harness.ts';
import { conformanceTests } from './suite.ts';
import {
  ACK,
  back,
  openTranslated,
  places,
  put,
  putAll,
  room,
  RST,
  segment,
  stateOf,
  SYN,
  there,
  track,
  tuple,
} from './tracked-harness.ts';

const GRE = 47;
const there6: Ends = { src: 'fd00::1', dst: 'fd00::2' };
const back6: Ends = { src: 'fd00::2', dst: 'fd00::1' };

const sctp = (ends: Ends, source: number, destination: number): Uint8Array =>
  ip(ends, IP_SCTP, Uint8Array.of(source >> 8, source, destination >> 8, destination, ...new Uint8Array(12)));

export function runTracked(name: string, open: Open): void {
  const test = conformanceTests(name, open);
  const options = (): HarnessOptions => ({ connections: room(), places });

  test(
    'the first packet of a conversation begins it, all others are known, and take a flow without searching for it',
    (t, h) => {
      h.memory(1, 2);
      putAll(h);
      const { records } = h.dp.connections;
      t.equal(stateOf(h, 1, segment(there, [5, 80], SYN)), 'none');
      t.equal(records.flow(0, false), 0, 'what begins has a flow that covers nothing else');
      t.equal(stateOf(h, 2, segment(back, [80, 5], SYN | ACK)), 'known_reply');
      t.equal(records.flow(0, true), 20 + ctState.known_reply);
      t.equal(stateOf(h, 1, segment(there, [5, 80], ACK)), 'known');
      t.equal(records.flow(0, false), 10 + ctState.known);
      t.equal(stateOf(h, 1, segment(there, [6, 80], SYN)), 'none', 'another port is another conversation');
      t.same([records.half(0, false).packets, records.half(0, true).packets], [2, 1]);
      t.same([h.dp.connections.size, h.upcalls.length], [2, 0]);
      t.same([h.take(2).length, h.take(1).length], [3, 1]);
    },
    options(),
  );

  test(
    'protocols without ports are known by their addresses, SCTP by its ports, and other messages of ICMP never are',
    (t, h) => {
      h.memory(1, 2);
      putAll(h);
      const { connections } = h.dp;
      for (const [one, other] of [
        [ip(there, GRE, new Uint8Array(8)), ip(back, GRE, new Uint8Array(8))],
        [sctp(there, 7, 9), sctp(back, 9, 7)],
        [ip(there6, GRE, new Uint8Array(8)), ip(back6, GRE, new Uint8Array(8))],
        [sctp(there6, 7, 9), sctp(back6, 9, 7)],
        [udp(there, 7, 9), udp(back, 9, 7)],
      ] as const) {
        t.equal(stateOf(h, 1, one), 'none');
        t.equal(stateOf(h, 1, one), 'known');
        t.equal(stateOf(h, 2, other), 'known_reply');
      }
      t.equal(stateOf(h, 1, sctp(there, 8, 9)), 'none');
      const handles = [
        connections.find(1 as Place, GRE, tuple(0, 0)),
        connections.find(1 as Place, IP_SCTP, tuple(7, 9)),
        connections.find(1 as Place, GRE, tuple(0, 0, there6)),
        connections.find(1 as Place, IP_SCTP, tuple(7, 9, there6)),
        connections.find(1 as Place, IP_UDP, tuple(7, 9)),
      ];
      t.same(handles, [0, 2, 4, 6, 8]);
      const { size } = connections;
      const [src, dst] = [wireIp(there6.src!), wireIp(there6.dst!)];
      const untracked = [
        arpReply({ ...there }),
        solicitation({ ...there6, target: 'fd00::2' }),
        ip(there, IP_ICMP, buildIcmp4({ type: 13, code: 0, body: new Uint8Array(16) })),
        ip(there6, IP_ICMPV6, buildIcmp6(src, dst, { type: 139, code: 0, body: new Uint8Array(16) })),
      ];
      for (const frame of untracked) {
        for (let times = 0; times < 2; times++) t.equal(stateOf(h, 1, frame), 'none');
      }
      t.equal(connections.size, size);
      t.same([...connections.expire(h.nowMs + 119_999)], []);
      t.equal(connections.size, size);
      connections.expire(h.nowMs + 120_000);
      t.equal(connections.size, 0);
    },
    options(),
  );

  test(
    'a ping is known by its identifier, in both directions',
    (t, h) => {
      h.memory(1, 2);
      putAll(h);
      const reply = (id: number) =>
        ip(back, IP_ICMP, buildIcmp4({ type: ICMP_ECHO_REPLY, code: 0, body: buildEchoBody(id, 1, new Uint8Array()) }));
      t.equal(stateOf(h, 1, echo(there, 7, 1)), 'none');
      t.equal(stateOf(h, 1, echo(there, 7, 2)), 'known');
      t.equal(stateOf(h, 2, reply(7)), 'known_reply');
      t.equal(stateOf(h, 2, reply(8)), 'none', 'nobody has asked for that');
      t.equal(stateOf(h, 2, echo(back, 7, 1)), 'none', 'a request is no answer');
      const error = ip(back, IP_ICMP, buildIcmp4({ type: 3, code: 3, body: new Uint8Array(32) }));
      t.equal(stateOf(h, 2, error), 'none', 'it quotes nothing that is known');
    },
    options(),
  );

  for (const [family, way, against, frame] of [
    ['IPv4', there, back, segment],
    ['IPv6', there6, back6, segment],
    ['IPv6 behind an extension header', there6, back6, behindExtension],
  ] as const) {
    test(
      `a SYN against the direction of a conversation begins another one, ${family}`,
      (t, h) => {
        h.memory(1, 2);
        putAll(h);
        const { connections } = h.dp;
        const { records } = connections;
        const syn = frame(against, [80, 5], SYN);
        t.equal(stateOf(h, 1, segment(way, [5, 80], SYN)), 'none');
        t.equal(stateOf(h, 2, syn), 'none');
        t.same([connections.size, records.half(0, true).packets], [1, 0], 'the record stays as it is');
        t.equal(h.take(1).length, 1, 'the frame goes on');
        t.equal(stateOf(h, 2, segment(against, [80, 5], SYN | ACK)), 'known_reply');
        put(h, 2, ctState.none, [{ op: 'drop', reason: 'martian' }]);
        records.writeHalf(0, true, { ...records.half(0, true), seen: SEEN_RST });
        t.equal(stateOf(h, 2, syn), 'none');
        t.equal(connections.find(1 as Place, IP_TCP, tuple(5, 80, way)), 0, 'what is refused leaves it, too');
        put(h, 2, ctState.none, [track, ...output(1)]);
        t.equal(stateOf(h, 2, syn), 'none');
        t.equal(connections.size, 1);
        t.equal(
          connections.find(1 as Place, IP_TCP, tuple(80, 5, against)) & 1,
          0,
          'it takes the place of one that is over',
        );
        t.equal(stateOf(h, 1, segment(way, [5, 80], SYN | ACK)), 'known_reply');
        t.equal(stateOf(h, 1, segment(way, [5, 80], SYN)), 'none');
        t.equal(stateOf(h, 2, syn), 'known', 'who called may call again');
      },
      options(),
    );
  }

  test(
    'a TCP segment that answers or ends what is not known begins nothing, and any other may be of one that is older',
    (t, h) => {
      h.memory(1, 2);
      putAll(h);
      for (const [at, flags] of [SYN | ACK, RST, RST | ACK].entries()) {
        t.equal(stateOf(h, 1, segment(there, [5, 80 + at], flags)), 'none');
      }
      t.same([h.dp.connections.size, h.take(2).length], [0, 3]);
      t.equal(stateOf(h, 1, segment(there, [5, 80], ACK)), 'none');
      t.equal(stateOf(h, 2, segment(back, [80, 5], ACK)), 'known_reply');
      t.equal(h.dp.connections.records.state(0), 'established');
    },
    options(),
  );

  test(
    'an ICMP error goes the way of the tracked conversation that it quotes, and makes no upcall',
    (t, h) => {
      h.memory(1, 2);
      putAll(h);
      const { records } = h.dp.connections;
      for (const [way, against, protocol, one] of [
        [there, back, IP_ICMP, udp(there, 7, 9)],
        [there6, back6, IP_ICMPV6, udp(there6, 7, 9)],
        [there, back, IP_ICMP, sctp(there, 7, 9)],
        [there, back, IP_ICMP, echo(there, 7, 1)],
      ] as const) {
        const slot = h.dp.connections.size;
        h.inject(1, one);
        t.equal(stateOf(h, 2, errorAbout(against, protocol, one)), 'known_reply');
        t.equal(
          stateOf(h, 2, errorAbout({ ...against, src: way === there ? '10.0.0.9' : 'fd00::9' }, protocol, one)),
          'error',
          'whoever else tells of it is looked at',
        );
        t.equal(
          stateOf(h, 2, errorAbout(way, protocol, one)),
          'none',
          'it does not go to the sender of what it quotes',
        );
        t.equal(stateOf(h, 1, errorAbout(way, protocol, one)), 'none');
        t.equal(
          stateOf(h, 2, errorAbout(against, protocol, one.subarray(0, 14 + (way === there ? 20 : 40) + 7))),
          'none',
          'cut too short',
        );
        t.equal(records.half(slot, true).packets, 0, 'it is not counted');
      }
      const reply = udp(back, 9, 7);
      t.equal(stateOf(h, 2, reply), 'known_reply');
      t.equal(stateOf(h, 1, errorAbout(there, IP_ICMP, reply)), 'known');
      t.same([h.upcalls.length, h.counters().drops], [0, {}]);
    },
    options(),
  );

  test(
    'an error is translated only if its protocol can be',
    (t, h) => {
      h.memory(1, 2);
      h.forward(1, [track, ...output(2)]);
      for (const [slot, one] of [sctp(there, 7, 9), ip(there, GRE, new Uint8Array(8))].entries()) {
        h.inject(1, one);
        const generation = h.dp.connections.records.generation(slot);
        h.forward(2, [{ op: 'related', slot, generation, reply: true }, ...output(1)]);
        h.inject(2, errorAbout(back, IP_ICMP, one));
        t.same(h.take(1), []);
        t.equal(h.drops().icmp_unrelated, slot + 1);
      }
    },
    options(),
  );

  test(
    'an error about a translated connection is decided about alone',
    (t, h) => {
      h.memory(1, 2);
      putAll(h);
      openTranslated(h, IP_UDP, [7, 53], 54, 3);
      const quoted = udp(there, 7, 54);
      t.equal(stateOf(h, 2, errorAbout(back, IP_ICMP, quoted)), 'error');
      t.equal(stateOf(h, 2, errorAbout(back, IP_ICMP, udp(there, 8, 54))), 'none');
    },
    options(),
  );

  for (const [family, way, against] of [
    ['IPv4', there, back],
    ['IPv6', there6, back6],
  ] as const) {
    test(
      `a SYN with another number begins a conversation anew whose ports it uses again, ${family}`,
      (t, h) => {
        h.memory(1, 2);
        putAll(h);
        const { connections } = h.dp;
        const { records } = connections;
        const at = (
          ends: Ends,
          [sourcePort, destinationPort]: readonly [number, number],
          flags: number,
          sequence: number,
          acknowledgment: number,
        ) => tcp(ends, { sourcePort, destinationPort, flags, sequence, acknowledgment });
        const syn = at(way, [5, 80], SYN, 100, 0);
        t.equal(stateOf(h, 1, syn), 'none');
        t.equal(stateOf(h, 1, at(way, [5, 80], SYN, 200, 0)), 'known', 'before an answer, it is another attempt');
        t.equal(stateOf(h, 1, syn), 'known');
        t.equal(stateOf(h, 2, at(against, [80, 5], SYN | ACK, 500, 101)), 'known_reply');
        t.equal(stateOf(h, 1, syn), 'known', 'the same one is sent again');
        t.equal(stateOf(h, 1, at(way, [5, 80], ACK, 101, 501)), 'known');
        t.equal(records.state(0), 'established');
        const before = connections.latest;
        t.equal(stateOf(h, 1, at(way, [5, 80], SYN, 9000, 0)), 'none');
        const slot = connections.find(1 as Place, IP_TCP, tuple(5, 80, way)) >> 1;
        t.same([connections.size, connections.latest > before, records.state(slot)], [1, true, 'syn_sent']);
        t.equal(stateOf(h, 2, at(against, [80, 5], SYN | ACK, 7000, 9001)), 'known_reply');
        t.equal(stateOf(h, 1, at(way, [5, 80], ACK, 9001, 7001)), 'known');
        t.equal(records.state(slot), 'established');
        h.inject(1, at(way, [5, 80], RST, 9001, 0));
        t.equal(records.state(slot), 'closed', 'its numbers are those of the new one');
      },
      options(),
    );
  }

  test(
    'what has the ends of a translated connection and is not of it goes on under its flow',
    (t, h) => {
      h.memory(1, 2);
      putAll(h);
      const slot = openTranslated(h, IP_TCP, [5, 80], 8080, 3);
      const { records } = h.dp.connections;
      put(h, 1, ctState.original, [{ op: 'nat', slot: 0, generation: 0, reply: false }, ...output(2)]);
      h.inject(1, tcp(there, { sourcePort: 5, destinationPort: 80, flags: SYN, sequence: 100 }));
      const other = tcp(back, { sourcePort: 8080, destinationPort: 5, flags: ACK, sequence: 7, acknowledgment: 900 });
      h.take(1);
      t.equal(stateOf(h, 2, other), 'none', 'nobody has answered the SYN, and this does not either');
      t.same([h.take(1).length, h.counters().drops, h.dp.connections.size], [1, {}, 1]);
      t.equal(records.half(slot, true).packets, 0);
    },
    options(),
  );

  test(
    'what is counted has a conversation, and what is tracked is not translated: all else is dropped',
    (t, h) => {
      h.memory(1, 2);
      const [none, known] = [ctState.none, ctState.known];
      put(h, 1, none, [{ op: 'count' }, ...output(2)]);
      h.inject(1, udp(there, 1, 53));
      t.same([h.counters().drops, h.dp.connections.size], [{ connection_gone: 1 }, 0]);
      const translated = { ...tuple(1, 53), destinationPort: 54 };
      h.dp.connections.open(
        { kind: 'translated', protocol: IP_UDP, places: [1 as Place, 1 as Place], original: tuple(1, 53), translated },
        FIRST_FREE_OWNER,
        0,
      );
      for (const op of ['track', 'count'] as const) {
        put(h, 1, ctState.original, [op === 'track' ? track : { op }, ...output(2)]);
        h.inject(1, udp(there, 1, 53));
      }
      t.same([h.counters().drops, h.take(2)], [{ connection_gone: 3 }, []]);
      put(h, 1, known, [{ op: 'count' }, ...output(2)]);
      put(h, 1, none, [track, ...output(2)]);
      h.inject(1, udp(there, 2, 53), udp(there, 2, 53));
      t.equal(h.take(2).length, 2);
    },
    options(),
  );

  test(
    'frames that wait begin their conversation when it is decided',
    (t, h) => {
      h.memory(1, 2);
      h.inject(1, udp(there, 1, 53), udp(there, 1, 53));
      t.equal(h.upcalls.length, 1);
      t.equal(readNumber(h.upcalls[0]!.key, fields.ct_state), ctState.none);
      putAll(h);
      h.answer(0, [track, ...output(2)]);
      t.equal(h.take(2).length, 2);
      t.same([h.dp.connections.size, h.dp.connections.records.half(0, false).packets], [1, 2]);
      t.equal(stateOf(h, 1, udp(there, 1, 53)), 'known');
    },
    options(),
  );

  test(
    'conversations outlive the datapath, whatever their protocol',
    (t) => {
      const connections = room();
      const first = new Harness(open, { connections });
      const opened = [
        [IP_TCP, tuple(5, 80)],
        [IP_SCTP, tuple(7, 9, there6)],
        [GRE, tuple(0, 0)],
        [GRE, tuple(7, 9)],
      ] as const;
      for (const [protocol, original] of opened) {
        const one = {
          kind: 'tracked',
          protocol,
          places: [1 as Place, 1 as Place],
          original,
          translated: original,
        } as const;
        first.dp.connections.open(one, 1, 0);
      }
      first.close();
      const second = new Harness(open, { connections });
      t.same([...second.dp.connections.recover(0)], []);
      const found = opened.map(([protocol, original]) => second.dp.connections.find(1 as Place, protocol, original));
      t.same(found, [0, 2, 4, -1], 'what cannot have ports is not believed');
      t.same([...second.dp.connections.owned(1)], [0, 1, 2]);
      second.close();
    },
    options(),
  );
}

/** Port unreachable, about this frame: what it quotes is its IP packet. */
function errorAbout(ends: Ends, protocol: number, frame: Uint8Array): Uint8Array {
  const body = concat(new Uint8Array(4), frame.subarray(14));
  if (protocol === IP_ICMP) return ip(ends, IP_ICMP, buildIcmp4({ type: 3, code: 3, body }));
  return ip(ends, IP_ICMPV6, buildIcmp6(wireIp(ends.src!), wireIp(ends.dst!), { type: 1, code: 4, body }));
}

/** The same segment with a destination options header in front of it. */
function behindExtension(
  ends: Ends,
  [sourcePort, destinationPort]: readonly [number, number],
  flags: number,
): Uint8Array {
  const [src, dst] = [wireIp(ends.src!), wireIp(ends.dst!)];
  const segment = buildTcp(src, dst, { sourcePort, destinationPort, flags });
  return ip(ends, EXT_DESTINATION, buildExtension(IP_TCP, Uint8Array.of(1, 4, 0, 0, 0, 0), segment));
}
