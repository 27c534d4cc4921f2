/**
 * Balancing: a flow by which the datapath itself opens connections to the backends of a service.
 *
 *   port 1 (10.0.0.1) ──► 10.96.0.1:80 ──┬──► port 2 (10.0.0.2:8080)     all ports are in place 1 but port 3,
 *                                        └──► port 3 (10.1.0.3:8080)     which is in place 2
 */
import {
  SEEN_ACK,
  SEEN_RST,
  SEEN_SYN,
  connectionBytes,
  turned,
  type ConnectionTuples,
  type Place,
  type ProtocolTuple,
} from '../../src/flow/connection.ts';
import { backendOf, type BalancedBackend, type BalancingTable } from '../../src/flow/balancing.ts';
import { FIRST_FREE_OWNER, type ConnectionStoreOptions } from '../../src/flow/connection-store.ts';
import { NAT_BY_TUPLE, type Action } from '../../src/flow/action.ts';
import { ctState, fields } from '../../src/flow/fields.ts';
import { emptyKey, readNumber, writeNumber, type FlowKey } from '../../src/flow/key.ts';
import { PENDING_BALANCED_PER_PORT } from '../../src/flow/bounds.ts';
import { parseIp } from '../../src/flow/types.ts';
import { IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';
import { tcp, udp, type Ends } from '../support/frames.ts';
import { flowId, maskOf, output, portNo, type Harness, type HarnessOptions, type Open } from './harness.ts';
import { conformanceTests } from './suite.ts';

const [SYN, ACK] = [2, 16];
const places: Readonly<Record<number, Place>> = { 1: 1 as Place, 2: 1 as Place, 3: 2 as Place };
const asks: Ends = { src: '10.0.0.1', dst: '10.96.0.1' };
const [client, vip] = [parseIp('10.0.0.1'), parseIp('10.96.0.1')];
const OWNER = FIRST_FREE_OWNER;
const TABLE = 7;

const first: BalancedBackend = { pin: 11, address: parseIp('10.0.0.2'), target: 8080, replies: 1 as Place };
const second: BalancedBackend = { pin: 12, address: parseIp('10.1.0.3'), target: 8080, replies: 2 as Place };

function tableOf(backends: readonly BalancedBackend[], more: Partial<BalancingTable> = {}): BalancingTable {
  const slots = Uint16Array.from({ length: 251 }, (_, slot) => slot % backends.length);
  return { byClient: false, firstPort: 80, quota: 100, unprovenQuota: 100, slots, backends, ...more };
}

const balance = (table = TABLE, owners = [OWNER]): Action => ({ op: 'balance', table, owners });

/** What the client sends from this port. */
function original(sourcePort: number, protocol = IP_TCP, destinationPort = 80): ProtocolTuple {
  return { protocol, source: client, destination: vip, sourcePort, destinationPort };
}

const syn = (sourcePort: number, ends = asks): Uint8Array => tcp(ends, { sourcePort, destinationPort: 80, flags: SYN });
/** From the first backend to this port of the client. */
const answers: Ends = { src: '10.0.0.2', dst: '10.0.0.1' };
const synAck = (destinationPort: number): Uint8Array =>
  tcp(answers, { sourcePort: 8080, destinationPort, flags: SYN | ACK, acknowledgment: 1 });

/** Source ports whose connections this table leads to that backend. */
function portsTo(table: BalancingTable, pin: number, count: number): number[] {
  const ports: number[] = [];
  for (let port = 1; ports.length < count; port++) if (backendOf(table, original(port)).pin === pin) ports.push(port);
  return ports;
}

function put(
  h: Harness,
  id: number,
  port: number,
  actions: readonly Action[],
  state: number,
  ofConnections: boolean,
): void {
  const key = emptyKey();
  writeNumber(key, fields.in_port, port);
  writeNumber(key, fields.ct_state, state);
  h.dp.flowPut({ id: flowId(id), key, mask: maskOf('in_port', 'ct_state'), actions, ofConnections });
}

function room(limit = 64): ConnectionStoreOptions {
  return { memory: new Uint8Array(connectionBytes(limit + 4)), limit, quota: limit, unprovenQuota: limit };
}

export function runBalancing(name: string, open: Open): void {
  const test = conformanceTests(name, open);
  const options = (limit?: number): HarnessOptions => ({ connections: room(limit), places });
  const slotOf = (h: Harness, sourcePort: number): number =>
    h.dp.connections.find(1 as Place, IP_TCP, original(sourcePort)) >> 1;
  const upcallKey = (h: Harness): FlowKey => h.upcalls.at(-1)!.key;

  /** A flow that balances by this table what port 1 sends, and flows for what goes to each backend. */
  const balanced = (h: Harness, table: BalancingTable): void => {
    h.memory(1, 2, 3);
    h.dp.connections.addTable(TABLE, table);
    put(h, 1, 1, [balance()], ctState.none, false);
    put(h, 2, 1, [NAT_BY_TUPLE, ...output(2)], ctState.original, true);
    put(h, 3, 1, [NAT_BY_TUPLE, ...output(3)], ctState.original, true);
    put(h, 4, 2, [NAT_BY_TUPLE, ...output(1)], ctState.reply, true);
  };
  /** Answers the latest upcall as JavaScript does: that direction of the connection takes this flow from now on. */
  const answer = (h: Harness, sourcePort: number, flow: number, port: number): void => {
    h.dp.connections.records.setFlow(slotOf(h, sourcePort), false, flow);
    h.answer(h.upcalls.length - 1, [NAT_BY_TUPLE, ...output(port)]);
  };
  /** The backend has reset the connection. */
  const reset = (h: Harness, sourcePort: number): void => {
    const slot = slotOf(h, sourcePort);
    const { records } = h.dp.connections;
    records.writeHalf(slot, true, { ...records.half(slot, true), packets: 1, seen: SEEN_RST });
  };

  test(
    'a new connection gets the backend that the table chooses, and the flow of others to that backend',
    (t, h) => {
      const table = tableOf([first, second]);
      balanced(h, table);
      const { connections } = h.dp;
      for (const { pin, flow, port, replies } of [
        { pin: 11, flow: 2, port: 2, replies: 1 },
        { pin: 12, flow: 3, port: 3, replies: 2 },
      ]) {
        const [one, ...others] = portsTo(table, pin, 4) as [number, ...number[]];
        const before = h.upcalls.length;
        h.inject(1, syn(one));
        t.equal(h.upcalls.length, before + 1, 'which flow the first one takes is decided');
        t.equal(readNumber(upcallKey(h), fields.ct_state), ctState.none);
        const backend = backendOf(table, original(one));
        const translated = { ...original(one), destination: backend.address, destinationPort: 8080 };
        const { protocol: _, ...tuple } = translated;
        t.equal(connections.records.port(slotOf(h, one)), 1, 'where it came in');
        t.match(connections.records.read(slotOf(h, one)), {
          ...{ kind: 'translated', protocol: IP_TCP, pin, table: TABLE, places: [1, replies], translated: tuple },
        });
        t.equal(connections.find(replies as Place, IP_TCP, turned(translated)) >> 1, slotOf(h, one));
        answer(h, one, flow, port);
        for (const other of others) h.inject(1, syn(other));
        t.equal(h.upcalls.length, before + 1);
        const sent = h.take(port);
        t.equal(sent.length, 4);
        t.same(
          sent.map((frame) => [...frame.subarray(30, 34)]),
          Array.from({ length: 4 }, () => [...backend.address.subarray(12)]),
        );
        t.equal(connections.balancedTo(pin), 4);
        t.equal(connections.records.flow(slotOf(h, others[0]!), false), flow);
      }
      t.equal(connections.balancedBy(TABLE), 8);
      const packets = new Map([...h.dp.flowDump()].map((entry) => [Number(entry.id), entry.packets]));
      t.equal(packets.get(1), 8);
      t.equal(packets.get(2), 3);
      t.equal(packets.get(3), 3);
    },
    options(),
  );

  test(
    'its replies begin with the flow that others take, too, whichever of these was answered first',
    (t, h) => {
      balanced(h, tableOf([first]));
      h.inject(1, syn(1));
      answer(h, 1, 2, 2);
      for (const port of [2, 3, 4]) h.inject(1, syn(port));
      h.inject(2, synAck(3));
      t.equal(h.upcalls.length, 2, 'the flow of replies is decided');
      h.inject(2, synAck(4));
      t.equal(h.upcalls.length, 3, 'it is not known yet');
      h.dp.connections.records.setFlow(slotOf(h, 3), true, 4);
      h.answer(1, [NAT_BY_TUPLE, ...output(1)]);
      h.answer(2, [NAT_BY_TUPLE, ...output(1)]);
      h.inject(1, syn(5));
      h.inject(2, synAck(2), synAck(5));
      t.equal(h.upcalls.length, 3);
      t.same(
        h.take(1).map((reply) => [...reply.subarray(26, 30)]),
        Array.from({ length: 4 }, () => [10, 96, 0, 1]),
      );
    },
    options(),
  );

  test(
    'a flow is looked for where one is decided about, and not where the rate of upcalls does not allow that',
    (t, h) => {
      balanced(h, tableOf([first]));
      h.dp.portSet(portNo(1), { upcalls: { perSecond: 4, burst: 4 } });
      for (const port of [1, 2, 3]) h.inject(1, syn(port));
      t.equal(h.upcalls.length, 2);
      for (const port of [1, 2]) h.dp.connections.close(slotOf(h, port));
      h.inject(1, syn(4));
      t.same(h.counters().drops, { upcall_rate_limit: 2 });
      h.nowMs += 1000;
      h.inject(1, syn(5));
      h.dp.connections.records.setFlow(slotOf(h, 5), false, 2);
      for (let at = 0; at < 3; at++) h.answer(at, [{ op: 'consume' }]);
      for (let port = 6; port < 20; port++) h.inject(1, syn(port));
      t.equal(h.upcalls.length, 3);
      t.equal(h.take(2).length, 14);
    },
    options(),
  );

  test(
    'the flow of the first connection that is decided about is known, however many wait, and another one when that has gone',
    (t, h) => {
      balanced(h, tableOf([first]));
      for (const port of [1, 2, 3]) h.inject(1, syn(port));
      t.equal(h.upcalls.length, 3);
      h.dp.connections.records.setFlow(slotOf(h, 1), false, 2);
      h.answer(0, [NAT_BY_TUPLE, ...output(2)]);
      h.inject(1, syn(4));
      t.equal(h.upcalls.length, 3);
      h.dp.flowDel(flowId(2));
      for (const port of [5, 6]) h.inject(1, syn(port));
      t.equal(h.upcalls.length, 5, 'that flow has gone');
      put(h, 9, 1, [NAT_BY_TUPLE, ...output(2)], ctState.original, true);
      h.dp.connections.records.setFlow(slotOf(h, 6), false, 9);
      h.answer(4, [NAT_BY_TUPLE, ...output(2)]);
      h.inject(1, syn(7));
      t.equal(h.upcalls.length, 5);
      for (let at = 1; at < 4; at++) h.answer(at, [NAT_BY_TUPLE, ...output(2)]);
    },
    options(),
  );

  test(
    'UDP is balanced, a port of a range has its own target, and a client can have the same backend always',
    (t, h) => {
      const table = tableOf([first, second], { byClient: true });
      balanced(h, table);
      const { pin, address } = backendOf(table, original(1));
      for (const port of [1, 2, 3]) h.inject(1, udp(asks, port, 85));
      t.equal(h.dp.connections.balancedTo(pin), 3);
      const handle = h.dp.connections.find(1 as Place, IP_UDP, original(1, IP_UDP, 85));
      t.match(h.dp.connections.records.read(handle >> 1).translated, { destination: address, destinationPort: 8085 });
      for (let at = 0; at < 3; at++) h.answer(at, [NAT_BY_TUPLE, ...output(2)]);
    },
    options(),
  );

  const undecided: readonly {
    readonly why: string;
    readonly backends?: readonly BalancedBackend[];
    readonly before?: (h: Harness) => void;
    readonly frame?: Uint8Array;
  }[] = [
    { why: 'the table has gone', before: (h) => h.dp.connections.removeTable(TABLE) },
    { why: 'nobody knows where replies come in', backends: [{ ...first, replies: undefined }] },
    { why: 'the client is the backend', backends: [{ ...first, address: client }] },
    { why: 'it begins no connection', frame: tcp(asks, { sourcePort: 1, destinationPort: 80, flags: ACK }) },
    { why: 'its header is damaged', frame: syn(1).map((byte, at) => (at === 24 ? byte ^ 1 : byte)) },
    {
      why: 'the client has a connection of its own to that backend from this port',
      before: (h) => {
        const direct = { ...original(1), destination: first.address, destinationPort: 8080 };
        h.dp.connections.open(
          { kind: 'tracked', places: [1 as Place, 1 as Place], protocol: IP_TCP, original: direct, translated: direct },
          1,
          0,
        );
      },
    },
    {
      why: 'the client talks straight to that backend from this port, wherever the replies come in',
      before: (h) => {
        const direct = { ...original(1), destination: first.address, destinationPort: 8080 };
        h.dp.connections.open(
          { kind: 'tracked', places: [1 as Place, 3 as Place], protocol: IP_TCP, original: direct, translated: direct },
          1,
          0,
        );
      },
    },
    {
      why: 'a connection between the same ends is over, and JavaScript has to know that it gives way',
      before: (h) => {
        const connection: ConnectionTuples = {
          ...{ kind: 'translated', places: [1 as Place, 1 as Place], protocol: IP_TCP, pin: 11, original: original(1) },
          translated: { ...original(1), destination: first.address, destinationPort: 8080 },
        };
        h.dp.connections.open(connection, OWNER, 0);
        reset(h, 1);
      },
    },
  ];
  for (const { why, backends = [first], before, frame = syn(1) } of undecided) {
    test(
      `JavaScript decides if ${why}`,
      (t, h) => {
        balanced(h, tableOf(backends));
        before?.(h);
        const { size } = h.dp.connections;
        h.inject(1, frame);
        t.equal(h.upcalls.length, 1);
        t.equal(h.dp.connections.size, size);
        t.equal(h.dp.connections.balancedTo(11), 0);
        h.answer(0, [{ op: 'consume' }]);
      },
      options(),
    );
  }

  test(
    'a connection that is over makes room for another one between the same ends',
    (t, h) => {
      balanced(h, tableOf([first]));
      h.inject(1, syn(1));
      answer(h, 1, 2, 2);
      const generation = h.dp.connections.records.generation(slotOf(h, 1));
      h.inject(1, syn(1));
      t.equal(h.dp.connections.records.generation(slotOf(h, 1)), generation, 'the client asks again');
      h.inject(1, syn(2));
      reset(h, 1);
      h.inject(1, syn(1));
      t.equal(h.upcalls.length, 1);
      t.not(h.dp.connections.records.generation(slotOf(h, 1)), generation);
      t.equal(h.dp.connections.size, 2);
      t.equal(h.dp.connections.balancedTo(11), 2);
    },
    options(),
  );

  test(
    'half-open ones of the same workload make room, but not those whose end JavaScript has to learn',
    (t, h) => {
      const { connections } = h.dp;
      balanced(h, tableOf([first], { quota: 4, unprovenQuota: 2 }));
      const own: ConnectionTuples = {
        ...{ kind: 'translated', places: [1 as Place, 1 as Place], protocol: IP_UDP },
        ...{
          original: original(9, IP_UDP, 53),
          translated: { ...original(9, IP_UDP, 53), destination: first.address },
        },
      };
      h.inject(1, syn(1));
      answer(h, 1, 2, 2);
      h.inject(1, syn(2), syn(3));
      t.equal(connections.size, 2);
      t.ok(slotOf(h, 1) < 0 && slotOf(h, 3) >= 0, 'the oldest has given way');
      for (const port of [2, 3]) connections.close(slotOf(h, port));
      connections.open(own, OWNER, 0);
      h.inject(1, syn(4), syn(5));
      t.equal(h.upcalls.length, 2, 'the oldest one is its own');
      t.equal(connections.size, 2);
      t.ok(connections.find(1 as Place, IP_UDP, own.original) >= 0);
      h.answer(1, [{ op: 'consume' }]);
    },
    options(),
  );

  test(
    'TCP that was never established makes room as often a second as so many may be unproven, and what begins beyond is refused',
    (t, h) => {
      const { connections } = h.dp;
      balanced(h, tableOf([first], { quota: 8, unprovenQuota: 4 }));
      h.inject(1, syn(1));
      answer(h, 1, 2, 2);
      for (let port = 2; port <= 12; port++) h.inject(1, syn(port));
      t.same([h.upcalls.length, h.counters().drops], [1, { half_open_limit: 4 }]);
      const known = (): number[] =>
        Array.from({ length: 30 }, (_, port) => port).filter((port) => slotOf(h, port) >= 0);
      t.same(known(), [5, 6, 7, 8]);
      t.equal(h.take(2).length, 8);
      h.nowMs += 250;
      h.inject(1, syn(13), syn(14));
      t.same([known(), h.counters().drops], [[6, 7, 8, 13], { half_open_limit: 5 }]);
      h.nowMs += 60_000;
      for (let port = 15; port <= 24; port++) h.inject(1, syn(port));
      t.same([known(), h.counters().drops], [[15, 16, 17, 18], { half_open_limit: 11 }], 'no more have been saved up');
      reset(h, 15);
      h.inject(1, syn(25));
      t.same([known(), h.counters().drops], [[15, 16, 17, 18], { half_open_limit: 12 }], 'one that was refused counts');
      const [there, back] = [false, true].map((reply) => connections.records.half(slotOf(h, 15), reply));
      connections.records.writeHalf(slotOf(h, 15), false, { ...there!, packets: 2, seen: SEEN_SYN | SEEN_ACK });
      connections.records.writeHalf(slotOf(h, 15), true, { ...back!, seen: SEEN_SYN | SEEN_ACK | SEEN_RST });
      h.inject(1, syn(26));
      t.same(known(), [16, 17, 18, 26], 'one that is over does not');
      h.inject(1, syn(16), udp(asks, 27, 80));
      t.same([known(), h.counters().drops], [[17, 18, 26], { half_open_limit: 12 }], 'nor do what has begun, and UDP');
    },
    options(),
  );

  test(
    'connections that wait for the flow of others leave room for what else begins at the port',
    (t, h) => {
      balanced(h, tableOf([first], { quota: 2000, unprovenQuota: 2000 }));
      const most = PENDING_BALANCED_PER_PORT;
      for (let port = 1; port <= most + 10; port++) h.inject(1, syn(port));
      t.same([h.upcalls.length, h.counters().drops], [most, { upcall_queue_full: 10 }]);
      h.dp.flowDel(flowId(1));
      h.inject(1, syn(most + 11));
      t.equal(h.upcalls.length, most + 1);
      h.answer(0, [{ op: 'consume' }]);
      put(h, 1, 1, [balance()], ctState.none, false);
      h.inject(1, syn(most + 12), syn(most + 13));
      t.same([h.upcalls.length, h.counters().drops], [most + 2, { upcall_queue_full: 11 }], 'one has been answered');
      for (let at = 1; at < most + 2; at++) h.answer(at, [{ op: 'consume' }]);
    },
    { connections: room(1000), places },
  );

  test(
    'UDP makes room for as many as come',
    (t, h) => {
      balanced(h, tableOf([first], { quota: 8, unprovenQuota: 2 }));
      h.inject(1, udp(asks, 1, 80));
      h.dp.connections.records.setFlow(h.dp.connections.find(1 as Place, IP_UDP, original(1, IP_UDP)) >> 1, false, 2);
      h.answer(0, [NAT_BY_TUPLE, ...output(2)]);
      for (let port = 2; port <= 20; port++) h.inject(1, udp(asks, port, 80));
      t.same([h.dp.connections.size, h.upcalls.length, h.counters().drops], [2, 1, {}]);
      t.equal(h.take(2).length, 20);
    },
    options(),
  );

  test(
    'all addresses of a workload share a quota',
    (t, h) => {
      const { connections } = h.dp;
      balanced(h, tableOf([first], { quota: 2, unprovenQuota: 2 }));
      put(h, 1, 1, [balance(TABLE, [OWNER, OWNER + 1, OWNER + 5])], ctState.none, false);
      for (const [n, owner] of [OWNER + 1, OWNER + 5].entries()) {
        const other = original(100 + n, IP_UDP);
        const tuples: ConnectionTuples = {
          ...{ kind: 'translated', places: [1 as Place, 1 as Place], protocol: IP_UDP, pin: 11, table: TABLE },
          ...{ original: other, translated: { ...other, destination: first.address } },
        };
        connections.open(tuples, owner, 0);
      }
      h.inject(1, syn(1));
      h.answer(0, [NAT_BY_TUPLE, ...output(2)]);
      t.equal(connections.size, 2);
      t.same([...connections.owned(OWNER)], [slotOf(h, 1)]);
      t.same([...connections.owned(OWNER + 1)], [], 'the oldest of all');
    },
    options(),
  );

  test(
    'the datapath closes balanced ones by itself, until they are claimed',
    (t, h) => {
      const { connections } = h.dp;
      balanced(h, tableOf([first]));
      for (const port of [1, 2]) h.inject(1, syn(port));
      for (let at = 0; at < 2; at++) h.answer(at, [NAT_BY_TUPLE, ...output(2)]);
      const [one, two] = [slotOf(h, 1), slotOf(h, 2)];
      t.notOk(connections.claim(two, connections.records.generation(two) + 2));
      t.ok(connections.claim(two, connections.records.generation(two)));
      t.equal(connections.balancedTo(11), 1);
      t.equal(connections.records.table(two), 0);
      t.equal(connections.records.pin(two), 11);
      h.nowMs += 1e9;
      t.same([...connections.expire(h.nowMs)], [two]);
      t.equal(connections.records.generation(one), 0);
      t.equal(connections.balancedTo(11), 0);
      t.equal(connections.balancedBy(TABLE), 0);
    },
    options(),
  );

  test(
    'one that is ended, or comes from before a restart, is not closed unasked either',
    (t, h) => {
      const { connections } = h.dp;
      balanced(h, tableOf([first]));
      for (const port of [1, 2]) h.inject(1, syn(port));
      for (let at = 0; at < 2; at++) h.answer(at, [NAT_BY_TUPLE, ...output(2)]);
      connections.end(slotOf(h, 1), h.nowMs);
      t.equal(connections.records.table(slotOf(h, 1)), 0);
      t.equal(connections.balancedTo(11), 1);
      const again = open({
        flowCap: 10,
        connections: { memory: connections.records.memory.slice(), limit: 64, quota: 64, unprovenQuota: 64 },
        ...{ clock: () => 0, onUpcall: () => undefined, onPortLost: () => undefined },
      });
      t.equal([...again.connections.recover(0)].length, 2);
      t.equal(again.connections.balancedTo(11), 0);
      t.equal(again.connections.records.table(slotOf(h, 2)), 0);
      again.close();
    },
    options(),
  );

  test(
    'a table with an empty slot is refused, and an action without an owner or with others',
    (t, h) => {
      const { connections } = h.dp;
      t.throws(() => connections.addTable(1, { ...tableOf([first]), slots: new Uint16Array() }), RangeError);
      t.throws(() => connections.addTable(1, { ...tableOf([first]), slots: Uint16Array.of(0, 1) }), RangeError);
      h.memory(1);
      put(h, 1, 1, [balance(99)], ctState.none, false);
      h.inject(1, syn(1));
      t.equal(h.upcalls.length, 1, 'there is no such table');
      h.answer(0, [balance(99)]);
      t.same(h.counters().drops, { connection_gone: 1 }, 'only a flow balances');
    },
    options(),
  );
}
