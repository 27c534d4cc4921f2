/** Which connections make room for which: quotas, the table when it is full, and what is given up. */
import { endVerdicts, SEEN_RST, type Place } from '../../src/flow/connection.ts';
import {
  FIRST_FREE_OWNER,
  ROOM_FREE,
  ROOM_NONE,
  type ConnectionStoreOptions,
  type GivenUp,
} from '../../src/flow/connection-store.ts';
import { ctState } from '../../src/flow/fields.ts';
import { IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';
import { buildVxlan } from '../../src/wire/vxlan.ts';
import { tcp, udp, type Ends } from '../support/frames.ts';
import { Harness, output, type HarnessOptions, type Open } from './harness.ts';
import { conformanceTests } from './suite.ts';
import {
  ACK,
  back,
  FIN,
  openTranslated,
  places,
  put,
  putAll,
  room,
  segment,
  stateOf,
  SYN,
  there,
  track,
  tuple,
} from './tracked-harness.ts';

/** Port 3 has conversations with port 2. */
const third: Ends = { src: '10.0.0.3', dst: '10.0.0.2' };

export function runRoom(name: string, open: Open): void {
  const test = conformanceTests(name, open);
  const options = (limits: Partial<ConnectionStoreOptions>): HarnessOptions => ({
    connections: { ...room(), ...limits },
    places,
  });
  /** A conversation that is in use, begun by this port. */
  const answered = (h: Harness, port: number, sourcePort: number): void => {
    const [way, against] = port === 1 ? [there, back] : port === 2 ? [back, there] : [third, turn(third)];
    h.inject(port, udp(way, sourcePort, 9));
    h.inject(port === 2 ? 1 : 2, udp(against, 9, sourcePort));
  };
  const openThree = (h: Harness): void => {
    h.memory(1, 2, 3);
    putAll(h);
    put(h, 3, ctState.none, [track, ...output(2)]);
  };
  const counts = (h: Harness): number[] => [1, 2, 3].map((owner) => [...h.dp.connections.owned(owner)].length);

  test('what finds no room for a record goes on without one', (t) => {
    const { memory } = room();
    const h = new Harness(open, { connections: { memory, limit: 8, quota: 2, unprovenQuota: 2 }, places });
    h.memory(1, 2);
    putAll(h);
    for (const port of [1, 2]) {
      h.inject(1, udp(there, port, 9));
      h.inject(2, udp(back, 9, port));
    }
    h.take(2);
    for (let times = 0; times < 2; times++) t.equal(stateOf(h, 1, udp(there, 3, 9)), 'none');
    t.same([h.dp.connections.size, h.dp.connections.tracked, h.counters().drops], [2, 2, {}]);
    t.equal(h.take(2).length, 2);
    t.equal(stateOf(h, 2, udp(back, 9, 3)), 'none', 'port 2 has room of its own, and begins what it knows of');
    t.equal(stateOf(h, 1, udp(there, 3, 9)), 'known_reply');
    h.close();
  });

  test('those that policies have ended give way to one that begins', (t) => {
    const { memory } = room();
    const h = new Harness(open, { connections: { memory, limit: 8, quota: 2, unprovenQuota: 2 }, places });
    h.memory(1, 2);
    putAll(h);
    const { connections } = h.dp;
    for (const port of [1, 2]) {
      h.inject(1, segment(there, [port, 80], SYN));
      h.inject(2, segment(back, [80, port], SYN | ACK));
      h.inject(1, segment(there, [port, 80], ACK));
      connections.end(connections.find(1 as Place, IP_TCP, tuple(port, 80)) >> 1, h.nowMs);
    }
    h.inject(1, segment(there, [3, 80], SYN));
    const slots = [1, 2, 3].map((port) => connections.find(1 as Place, IP_TCP, tuple(port, 80)) >= 0);
    t.same(slots, [false, true, true]);
    t.same([connections.size, connections.tracked], [2, 1]);
    h.close();
  });

  test('a tracked conversation that has been quiet for minutes gives way to one that begins', (t) => {
    const { memory } = room();
    const h = new Harness(open, { connections: { memory, limit: 8, quota: 2, unprovenQuota: 2 }, places });
    h.memory(1, 2);
    putAll(h);
    for (const port of [1, 2]) {
      h.inject(1, segment(there, [port, 80], SYN));
      h.inject(2, segment(back, [80, port], SYN | ACK));
      h.inject(1, segment(there, [port, 80], ACK));
    }
    h.nowMs += 239_999;
    h.inject(1, segment(there, [2, 80], ACK), segment(there, [3, 80], SYN));
    t.equal(h.dp.connections.find(1 as Place, IP_TCP, tuple(3, 80)), -1);
    h.nowMs += 1;
    h.inject(1, segment(there, [3, 80], SYN));
    const slots = [1, 2, 3].map((port) => h.dp.connections.find(1 as Place, IP_TCP, tuple(port, 80)) >= 0);
    t.same(slots, [false, true, true]);
    h.close();
  });

  test('what nobody answers takes no more room than unanswered ones may, also if it says that it ends', (t) => {
    const { memory } = room();
    const h = new Harness(open, { connections: { memory, limit: 8, quota: 8, unprovenQuota: 2 }, places });
    h.memory(1, 2);
    putAll(h);
    for (const port of [1, 2, 3, 4]) h.inject(1, segment(there, [port, 80], FIN | ACK));
    t.same([h.dp.connections.size, h.dp.connections.records.state(0)], [2, 'syn_sent']);
    h.inject(2, segment(back, [80, 4], ACK));
    const slot = h.dp.connections.find(1 as Place, IP_TCP, tuple(4, 80)) >> 1;
    t.equal(h.dp.connections.records.state(slot), 'closing');
    h.close();
  });

  for (const [whose, limit, quota] of [
    ['the port', 8, 2],
    ['all', 2, 8],
  ] as const) {
    test(`a search for room among those of ${whose} that was in vain is not repeated in the same millisecond`, (t) => {
      const { memory } = room();
      const h = new Harness(open, { connections: { memory, limit, quota, unprovenQuota: quota }, places });
      h.memory(1, 2);
      putAll(h);
      const { connections } = h.dp;
      const isKnown = (port: number): boolean => connections.find(1 as Place, IP_TCP, tuple(port, 80)) >= 0;
      for (const port of [1, 2]) {
        h.inject(1, segment(there, [port, 80], ACK));
        h.inject(2, segment(back, [80, port], ACK));
      }
      h.inject(1, segment(there, [3, 80], SYN));
      t.notOk(isKnown(3), 'all are in use');
      connections.records.writeHalf(1, true, { ...connections.records.half(1, true), seen: SEEN_RST });
      h.inject(1, segment(there, [3, 80], SYN));
      t.notOk(isKnown(3));
      h.nowMs += 1;
      h.inject(1, segment(there, [3, 80], SYN));
      t.same([1, 2, 3].map(isKnown), [true, false, true]);
      h.close();
    });
  }

  test('what another host sends takes no room of what comes from a third one', (t) => {
    const { memory } = room();
    const h = new Harness(open, { connections: { memory, limit: 8, quota: 2, unprovenQuota: 2 } });
    h.memory(1);
    h.vxlan(5, '192.0.2.1');
    put(h, 5, ctState.none, [track, ...output(1)]);
    const arrive = (vtep: string, sourcePort: number): void =>
      h.injectDatagram(5, vtep, buildVxlan({ vni: 1, frame: udp(there, sourcePort, 9) }));
    for (const port of [1, 2, 3, 4]) arrive('192.0.2.2', port);
    t.equal(h.dp.connections.size, 2);
    for (const port of [5, 6, 7]) arrive('192.0.2.3', port);
    const found = [1, 2, 3, 4, 5, 6, 7].map((port) => h.dp.connections.find(1 as Place, IP_UDP, tuple(port, 9)) >= 0);
    t.same(found, [false, false, true, true, false, true, true]);
    t.same(
      [65_536 + (2 ^ 2 ^ 192), 65_536 + (2 ^ 3 ^ 192)].map((owner) => [...h.dp.connections.owned(owner)].length),
      [2, 2],
    );
    h.close();
  });

  test('as long as there are tracked ones, no other one makes room for a translated one', (t) => {
    const { memory } = room();
    const h = new Harness(open, { connections: { memory, limit: 3, quota: 8, unprovenQuota: 8 }, places });
    h.memory(1, 2);
    putAll(h);
    const { connections } = h.dp;
    const halfOpen = openTranslated(h, IP_TCP, [5, 80], 8080, 0);
    for (const port of [1, 2]) {
      h.inject(1, udp(there, port, 9));
      h.inject(2, udp(back, 9, port));
    }
    t.same([connections.size, connections.tracked], [3, 2]);
    for (const port of [101, 102]) {
      const given = connections.room([FIRST_FREE_OWNER + 1], 100, 100) as GivenUp;
      t.not(given.slot, halfOpen);
      const slot = openTranslated(h, IP_UDP, [port, 53], 54, 0, [given]);
      for (const reply of [false, true])
        connections.records.writeHalf(slot, reply, { ...connections.records.half(slot, reply), packets: 1 });
    }
    t.same([connections.size, connections.tracked], [3, 0]);
    t.match(connections.room([FIRST_FREE_OWNER + 1], 100, 100), { slot: halfOpen });
    h.close();
  });

  test('tracked ones give way to translated ones, and never take their room', (t) => {
    const { memory } = room();
    const h = new Harness(open, { connections: { memory, limit: 4, quota: 4, unprovenQuota: 4 }, places });
    h.memory(1, 2);
    putAll(h);
    const { connections } = h.dp;
    for (const port of [1, 2, 3, 4]) answered(h, 1, port);
    t.same([connections.size, connections.tracked], [4, 4]);
    for (const port of [101, 102, 103, 104]) {
      const given = connections.room([FIRST_FREE_OWNER], 100, 100);
      t.type(given, 'object', `a tracked one gives way to ${port}`);
      const slot = openTranslated(h, IP_UDP, [port, 53], 54, 0, [given as GivenUp]);
      for (const reply of [false, true])
        connections.records.writeHalf(slot, reply, { ...connections.records.half(slot, reply), packets: 1 });
    }
    t.same([connections.size, connections.tracked], [4, 0]);
    t.equal(connections.room([FIRST_FREE_OWNER], 100, 100), ROOM_NONE, 'all are in use');
    answered(h, 1, 5);
    t.same([connections.size, connections.tracked, h.counters().drops], [4, 0, {}], 'not a tracked one, though');
    h.close();
  });

  test(
    'a port gets one of the port with the most, and takes no more than it has then itself',
    (t, h) => {
      openThree(h);
      for (let n = 0; n < 5; n++) answered(h, 1, 1000 + n);
      for (let n = 0; n < 3; n++) answered(h, 3, 2000 + n);
      t.same(counts(h), [5, 0, 3]);
      answered(h, 2, 3000);
      t.same(counts(h), [4, 1, 3]);
      answered(h, 2, 3001);
      t.same(counts(h), [3, 2, 3]);
      t.same(
        [0, 1].map((n) => h.dp.connections.find(1 as Place, IP_UDP, tuple(3000 + n, 9, back)) >= 0),
        [true, true],
      );
      h.nowMs += 1;
      answered(h, 2, 3002);
      t.same(counts(h), [3, 2, 3], 'the others have no more than it would have');
      h.dp.connections.closeOwned(3, 3, h.dp.connections.latest);
      for (let n = 0; n < 3; n++) answered(h, 1, 1010 + n);
      t.same(counts(h), [6, 2, 0]);
      h.nowMs += 1;
      for (let n = 2; n < 6; n++) answered(h, 2, 3000 + n);
      t.same(counts(h), [4, 4, 0], 'no more than its fair share');
      t.same(h.counters().drops, {});
    },
    options({ guaranteed: 3 }),
  );

  test(
    'what nobody answers takes one that is in use, and then gives way itself',
    (t, h) => {
      openThree(h);
      for (let n = 0; n < 8; n++) answered(h, 1, 1000 + n);
      for (let n = 0; n < 6; n++) {
        h.nowMs += 1;
        h.inject(2, udp(back, 3000 + n, 9));
      }
      t.same(counts(h), [7, 1, 0]);
      t.ok(h.dp.connections.find(1 as Place, IP_UDP, tuple(3005, 9, back)) >= 0, 'the last one');
    },
    options({ guaranteed: 2 }),
  );

  test(
    'of the port with the most, one that is over gives way first',
    (t, h) => {
      openThree(h);
      const { connections } = h.dp;
      for (let n = 0; n < 8; n++) answered(h, 1, 1000 + n);
      h.nowMs += 1;
      answered(h, 2, 3000);
      t.same([counts(h), connections.find(1 as Place, IP_UDP, tuple(1000, 9))], [[7, 1, 0], -1], 'the first one');
      const slot = connections.find(1 as Place, IP_UDP, tuple(1005, 9)) >> 1;
      connections.records.writeHalf(slot, true, { ...connections.records.half(slot, true), packets: 0 });
      h.nowMs += 1;
      answered(h, 2, 3001);
      t.same([counts(h), connections.find(1 as Place, IP_UDP, tuple(1005, 9))], [[6, 2, 0], -1]);
    },
    options({ guaranteed: 2 }),
  );

  test(
    'a translated one takes the place of one in use of the port with the most',
    (t, h) => {
      openThree(h);
      const { connections } = h.dp;
      for (let n = 0; n < 3; n++) answered(h, 3, 2000 + n);
      for (let n = 0; n < 5; n++) answered(h, 1, 1000 + n);
      for (const left of [4, 3]) {
        const given = connections.room([FIRST_FREE_OWNER], 100, 100);
        t.ok(typeof given === 'object' && connections.records.owner(given.slot) === 1);
        openTranslated(h, IP_UDP, [left, 53], 54, 0, [given as GivenUp]);
        t.same(counts(h), [left, 0, 3]);
      }
    },
    options({}),
  );

  test(
    'some records are for tracked conversations alone',
    (t, h) => {
      openThree(h);
      const { connections } = h.dp;
      const opened = [101, 102].map((port) => {
        t.equal(connections.room([FIRST_FREE_OWNER], 100, 100), ROOM_FREE);
        return openTranslated(h, IP_UDP, [port, 53], 54, 0);
      });
      for (const slot of opened) for (const reply of [false, true]) use(h, slot, reply);
      t.equal(connections.room([FIRST_FREE_OWNER], 100, 100), ROOM_NONE);
      for (let n = 0; n < 3; n++) answered(h, 1, 1000 + n);
      t.same([connections.size, connections.tracked], [4, 2]);
      t.equal(connections.room([FIRST_FREE_OWNER], 100, 100), ROOM_NONE, 'these are not taken either');
      connections.records.writeHalf(opened[1]!, true, { ...connections.records.half(opened[1]!, true), packets: 0 });
      const given = connections.room([FIRST_FREE_OWNER], 100, 100);
      t.match(given, { slot: opened[1] }, 'one that nobody has answered');
    },
    options({ limit: 4, reserved: 2 }),
  );

  test(
    'what is to be given up stays if it is another one by now, and then there is no room',
    (t, h) => {
      openThree(h);
      const { connections } = h.dp;
      answered(h, 1, 1000);
      openTranslated(h, IP_UDP, [101, 53], 54, 0);
      const given = connections.room([FIRST_FREE_OWNER], 100, 100) as GivenUp;
      connections.close(given.slot, given.generation);
      answered(h, 1, 1001);
      t.equal(connections.find(1 as Place, IP_UDP, tuple(1001, 9)) >> 1, given.slot);
      t.equal(openTranslated(h, IP_UDP, [102, 53], 54, 0, [given]), -1);
      t.same([counts(h), connections.size], [[1, 0, 0], 2]);
      connections.end(given.slot, h.nowMs, given.generation);
      t.equal(connections.records.kind(given.slot), 'tracked');
    },
    options({ limit: 2 }),
  );

  test(
    'those of a port are closed, some at a time, but none that has begun since',
    (t, h) => {
      openThree(h);
      const { connections } = h.dp;
      for (let n = 0; n < 4; n++) answered(h, 1, 1000 + n);
      h.inject(1, udp(there, 1004, 9));
      answered(h, 3, 2000);
      const translated = openTranslated(h, IP_UDP, [101, 53], 54, 0);
      connections.end(connections.find(1 as Place, IP_UDP, tuple(1000, 9)) >> 1, h.nowMs);
      const until = connections.latest;
      answered(h, 1, 1005);
      t.equal(connections.closeOwned(1, 3, until), 3);
      t.same(counts(h), [3, 0, 1]);
      t.equal(connections.closeOwned(1, 3, until), 2);
      t.equal(connections.closeOwned(1, 3, until), 0);
      t.same([counts(h), connections.size, connections.tracked], [[1, 0, 1], 3, 2]);
      t.ok(connections.find(1 as Place, IP_UDP, tuple(1005, 9)) >= 0);
      t.equal(connections.closeOwned(1, 9, connections.latest), 1);
      t.equal(connections.records.kind(translated), 'translated');
    },
    options({}),
  );

  test(
    'those that weft has ended are counted as such, with why, and who is told is told of no other one',
    (t, h) => {
      openThree(h);
      const { connections } = h.dp;
      const { records } = connections;
      for (let n = 0; n < 2; n++) answered(h, 1, 1000 + n);
      const [first, second] = [1000, 1001].map((port) => connections.lookup(1 as Place, IP_UDP, tuple(port, 9))!);
      t.same([connections.size, connections.tracked, connections.ended], [2, 2, 0]);
      connections.end(first!.slot, h.nowMs, second!.generation, endVerdicts.denied_egress);
      connections.noteTold(second!.slot, second!.generation);
      t.same([connections.ended, records.seen(second!.slot, true) & SEEN_RST], [0, 0], 'nothing has ended yet');
      connections.end(first!.slot, h.nowMs, first!.generation, endVerdicts.denied_egress);
      connections.end(first!.slot, h.nowMs, first!.generation, endVerdicts.denied_egress);
      t.same([connections.size, connections.tracked, connections.ended], [2, 1, 1]);
      t.equal(records.verdict(first!.slot), endVerdicts.denied_egress);
      connections.noteTold(first!.slot, second!.generation);
      t.equal(records.seen(first!.slot, true) & SEEN_RST, 0);
      connections.noteTold(first!.slot, first!.generation);
      t.equal(records.seen(first!.slot, true) & SEEN_RST, SEEN_RST);
      connections.close(first!.slot, first!.generation);
      t.same([connections.size, connections.tracked, connections.ended], [1, 1, 0]);
    },
    options({}),
  );

  test(
    'a conversation that begins anew by another port counts towards the quota of that one',
    (t, h) => {
      openThree(h);
      const { connections } = h.dp;
      const at = (flags: number, sequence: number) =>
        tcp(there, { sourcePort: 5, destinationPort: 80, flags, sequence, acknowledgment: 0 });
      h.inject(1, at(SYN, 100));
      h.inject(
        2,
        tcp(back, { sourcePort: 80, destinationPort: 5, flags: SYN | ACK, sequence: 7, acknowledgment: 101 }),
      );
      answered(h, 3, 2000);
      h.inject(3, at(SYN, 9000));
      t.same(counts(h), [1, 0, 1]);
      connections.closeOwned(3, 1, connections.latest);
      h.inject(3, at(SYN, 9000));
      t.same(counts(h), [0, 0, 1]);
    },
    options({ quota: 1, unprovenQuota: 1 }),
  );

  test('translated ones come first in a table with less room than before', (t) => {
    const { memory } = room();
    const first = new Harness(open, { connections: { ...room(), memory }, places });
    openThree(first);
    for (let n = 0; n < 4; n++) answered(first, 1, 1000 + n);
    const translated = [101, 102].map((port) => openTranslated(first, IP_UDP, [port, 53], 54, 0));
    first.close();
    const second = new Harness(open, { connections: { ...room(), memory, limit: 3 }, places });
    const { connections } = second.dp;
    t.same([...connections.recover(0)], translated);
    t.same([connections.size, connections.tracked], [3, 1]);
    for (const slot of translated) connections.adopt(slot, FIRST_FREE_OWNER);
    second.close();
  });
}

function turn({ src, dst }: Ends): Ends {
  return { src: dst!, dst: src! };
}

/** As if that side had sent something. */
function use(h: Harness, slot: number, reply: boolean): void {
  const { records } = h.dp.connections;
  records.writeHalf(slot, reply, { ...records.half(slot, reply), packets: 1 });
}
