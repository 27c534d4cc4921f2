/**
 * Connections: how a datapath finds the one of a packet, opens them by itself (`track`), and which flow their packets take.
 *
 *   port 1 (10.0.0.1) ──original──► port 2 (10.0.0.2)     all ports are in place 1 but port 4, which is in place 2
 *          port 1     ◄───reply──── port 2
 */
import {
  connectionBytes,
  INTERNAL,
  SEEN_RST,
  turned,
  type ConnectionTuples,
  type Place,
  type Tuple,
} from '../../src/flow/connection.ts';
import type { ConnectionStoreOptions } from '../../src/flow/connection-store.ts';
import { FIRST_FREE_OWNER } from '../../src/flow/connection-store.ts';
import { NAT_BY_TUPLE, type Action } from '../../src/flow/action.ts';
import type { FlowMask } from '../../src/flow/key.ts';
import { emptyKey, readNumber, writeNumber } from '../../src/flow/key.ts';
import { ctState, fields } from '../../src/flow/fields.ts';
import { parseIp } from '../../src/flow/types.ts';
import { concat } from '../../src/wire/bytes.ts';
import { buildEchoBody, buildIcmp4, ICMP_ECHO_REPLY } from '../../src/wire/icmp.ts';
import { IP_ICMP, IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';
import { arpRequest, echo, ip, tcp, udp, type Ends } from '../support/frames.ts';
import { flowId, maskOf, output, type Harness, type HarnessOptions, type Open } from './harness.ts';
import { conformanceTests } from './suite.ts';

const [FIN, SYN, RST, ACK] = [1, 2, 4, 16];
const places: Readonly<Record<number, Place>> = { 1: 1 as Place, 2: 1 as Place, 3: 1 as Place, 4: 2 as Place };
const there: Ends = { src: '10.0.0.1', dst: '10.0.0.2' };
const back: Ends = { src: '10.0.0.2', dst: '10.0.0.1' };
const byPort = maskOf('in_port');

function room(limit = 8, quota = limit): ConnectionStoreOptions {
  return { memory: new Uint8Array(connectionBytes(limit + 4)), limit, quota, unprovenQuota: quota };
}

/** What both directions are: conversations between these two ports. */
function tuple(sourcePort: number, destinationPort: number, ends = there): Tuple {
  const [source, destination] = [parseIp(ends.src!), parseIp(ends.dst!)];
  return { source, destination, sourcePort, destinationPort };
}

const echoReply = (ends: Ends, id: number, sequence: number): Uint8Array =>
  ip(
    ends,
    IP_ICMP,
    buildIcmp4({ type: ICMP_ECHO_REPLY, code: 0, body: buildEchoBody(id, sequence, new Uint8Array()) }),
  );

/** A connection that port 1 has opened to another address, and that leads to port 2. */
const toBackend = (original: Tuple): ConnectionTuples => ({
  ...{ kind: 'translated', protocol: IP_UDP, original, translated: tuple(1, 53) },
  places: [1 as Place, 1 as Place],
});

const track = (replyFlow = 0): Action => ({ op: 'track', replies: 1 as Place, replyFlow });

/** All that comes in by the port. */
function put(h: Harness, id: number, port: number, actions: readonly Action[], mask: FlowMask = byPort): void {
  const key = emptyKey();
  writeNumber(key, fields.in_port, port);
  h.dp.flowPut({ id: flowId(id), key, mask, actions });
}

/** The same, for connections that have it. */
function putOfConnections(h: Harness, id: number, port: number, actions: readonly Action[]): void {
  const key = emptyKey();
  writeNumber(key, fields.in_port, port);
  h.dp.flowPut({ id: flowId(id), key, mask: byPort, actions, ofConnections: true });
}

export function runConnections(name: string, open: Open): void {
  const test = conformanceTests(name, open);
  const options = (): HarnessOptions => ({ connections: room(), places });

  test(
    'connections open under their megaflow, without an upcall, and are counted',
    (t, h) => {
      h.memory(1, 2);
      put(h, 1, 1, [track(), ...output(2)]);
      put(h, 2, 2, [track(), ...output(1)]);
      const { connections } = h.dp;
      for (let port = 1; port <= 3; port++) h.inject(1, udp(there, port, 53), udp(there, port, 53));
      h.inject(2, udp(back, 53, 2));
      t.equal(connections.size, 3);
      t.equal(h.upcalls.length, 0);
      t.equal(h.take(2).length, 6);
      t.equal(h.take(1).length, 1);
      const handle = connections.find(1 as Place, IP_UDP, tuple(2, 53));
      t.match(connections.records.read(handle >> 1), { kind: 'tracked', places: [1, 1], original: tuple(2, 53) });
      t.equal(connections.records.half(handle >> 1, false).packets, 2);
      t.equal(connections.records.half(handle >> 1, true).packets, 1);
      t.equal(connections.find(1 as Place, IP_UDP, tuple(53, 2, back)), handle + 1);
      t.equal(connections.find(2 as Place, IP_UDP, tuple(2, 53)), -1, 'a tuple means something in its place only');
    },
    options(),
  );

  test(
    'an established packet takes the flow of its connection, and searches no mask',
    (t, h) => {
      h.memory(1, 2);
      put(h, 1, 1, [track(2), ...output(2)]);
      putOfConnections(h, 2, 2, [track(), ...output(1)]);
      t.equal(h.counters().masks, 1);
      h.inject(1, udp(there, 1, 53));
      h.inject(2, udp(back, 53, 1));
      t.equal(h.take(1).length, 1, 'the reply has the flow that was named for it');
      t.equal(h.upcalls.length, 0);
      h.inject(2, udp(back, 53, 2));
      t.equal(h.upcalls.length, 1, 'what is no reply has not');
      h.answer(0, [{ op: 'consume' }]);
      const packets = new Map([...h.dp.flowDump()].map((flow) => [flow.id, flow.packets]));
      t.same(
        packets,
        new Map([
          [flowId(1), 1],
          [flowId(2), 1],
        ]),
      );
    },
    options(),
  );

  test(
    'a direction keeps the flow that it was given, and takes another one when that has gone',
    (t, h) => {
      h.memory(1, 2, 3);
      put(h, 1, 1, [track(), ...output(2)]);
      h.inject(1, udp(there, 1, 53));
      put(h, 3, 1, [track(), ...output(3)], maskOf('in_port', 'eth_type'));
      h.inject(1, udp(there, 1, 53));
      t.same([h.take(2).length, h.take(3).length], [2, 0]);
      h.dp.flowDel(flowId(1));
      h.inject(1, udp(there, 1, 53));
      t.equal(h.upcalls.length, 1, 'the other one is not for IPv4');
      h.answer(0, [track(), ...output(3)]);
      t.equal(h.dp.connections.size, 1);
    },
    options(),
  );

  test(
    'who only has the addresses and ports of a connection has not its flow',
    (t, h) => {
      h.memory(1, 2, 3);
      put(h, 1, 1, [track(2), ...output(2)]);
      putOfConnections(h, 2, 2, [track(), ...output(1)]);
      h.inject(1, udp(there, 1, 53));
      h.inject(3, udp(back, 53, 1));
      t.equal(h.take(1).length, 0);
      t.equal(h.upcalls.length, 1, 'the flow covers what comes in by port 2');
      h.answer(0, [{ op: 'consume' }]);
    },
    options(),
  );

  test(
    'what is translated takes no flow that was decided without its connection, and waits behind what came before it',
    (t, h) => {
      h.memory(1, 2);
      const plain = maskOf('in_port', 'ct_state');
      for (const port of [1, 2]) put(h, port, port, output(3 - port), plain);
      h.inject(1, udp(there, 1, 53));
      h.inject(2, udp(back, 53, 1));
      t.same([h.take(2).length, h.take(1).length], [1, 1]);

      const vip: Ends = { src: '10.0.0.1', dst: '10.0.0.9' };
      const slot = h.dp.connections.open(toBackend(tuple(1, 53, vip)), FIRST_FREE_OWNER, 0);
      h.inject(2, udp(back, 53, 1));
      h.inject(1, udp(vip, 1, 53));
      h.inject(1, udp(there, 1, 53));
      t.same([h.take(2).length, h.take(1).length], [0, 0], 'none of them has a flow');
      t.equal(h.upcalls.length, 3);
      t.ok(
        h.upcalls.every(({ key }) => readNumber(key, fields.ct_state) === ctState.none),
        'whoever decides looks for the connection',
      );
      h.dp.connections.close(slot);
      h.inject(2, udp(back, 53, 1));
      t.equal(h.take(1).length, 0, 'what waits is not overtaken');
      h.answer(0, output(1));
      t.equal(h.take(1).length, 2);
      for (const at of [1, 2]) h.answer(at, [{ op: 'consume' }]);
    },
    options(),
  );

  test(
    'what a client sends with the ends that its connection goes on with is told apart when it begins',
    (t, h) => {
      h.memory(1, 2, 3);
      const vip: Ends = { src: '10.0.0.1', dst: '10.0.0.9' };
      const { connections } = h.dp;
      const opening = { ...toBackend(tuple(1, 53, vip)), protocol: IP_TCP };
      const slots = [opening, toBackend(tuple(1, 53, vip))].map((one) => connections.open(one, FIRST_FREE_OWNER, 0));
      const [plain, taken] = [ctState.none, ctState.taken].map((state) => {
        const key = emptyKey();
        writeNumber(key, fields.ct_state, state);
        return key;
      });
      const mask = maskOf('ct_state');
      h.dp.flowPut({ id: flowId(1), key: plain!, mask, actions: output(2) });
      h.dp.flowPut({ id: flowId(2), key: taken!, mask, actions: output(3) });
      const sent = (frame: Uint8Array): number => {
        h.inject(1, frame);
        return [2, 3].find((port) => h.take(port).length > 0) ?? 0;
      };
      const segment = (flags: number, ends = there, ports = [1, 53]): Uint8Array =>
        tcp(ends, { sourcePort: ports[0]!, destinationPort: ports[1]!, flags });
      t.equal(sent(segment(SYN)), 3);
      t.equal(sent(segment(SYN | ACK)), 2, 'it has begun before');
      t.equal(sent(segment(ACK)), 2);
      t.equal(sent(udp(there, 1, 53)), 3);
      t.equal(sent(udp(there, 2, 53)), 2, 'another port');
      t.ok(connections.isTaken(1 as Place, IP_UDP, tuple(1, 53)));
      const other = { ...opening, original: tuple(1, 53), translated: tuple(9944, 53) };
      const own = connections.open(other, FIRST_FREE_OWNER, 0);
      t.equal(connections.find(1 as Place, IP_TCP, tuple(1, 53)), 2 * own, 'a connection that has them');
      t.notOk(connections.isTaken(1 as Place, IP_TCP, tuple(1, 53)));
      connections.close(own);
      connections.end(slots[1]!, 0);
      t.equal(sent(udp(there, 1, 53)), 3, 'its backend may answer still');
      for (const slot of slots) connections.close(slot);
      t.same([sent(segment(SYN)), sent(udp(there, 1, 53))], [2, 2]);
    },
    { connections: room(), places: { ...places, 3: 2 as Place } },
  );

  test(
    'a segment that does not answer the SYN of a connection with a choice is of another one, and the next SYN needs another port',
    (t, h) => {
      h.memory(1, 2, 3);
      const vip: Ends = { src: '10.0.0.1', dst: '10.0.0.9' };
      const { connections } = h.dp;
      for (const pin of [7, undefined]) {
        const opening = { ...toBackend(tuple(1, 53, vip)), protocol: IP_TCP, ...(pin !== undefined && { pin }) };
        const slot = connections.open(opening, FIRST_FREE_OWNER, 0);
        put(h, 1, 1, [NAT_BY_TUPLE, ...output(3)], maskOf('in_port'));
        for (const [id, state] of [ctState.none, ctState.reply].entries()) {
          const key = emptyKey();
          writeNumber(key, fields.in_port, 2);
          writeNumber(key, fields.ct_state, state);
          const actions: readonly Action[] = state === ctState.none ? output(1) : [NAT_BY_TUPLE, ...output(3)];
          h.dp.flowPut({ id: flowId(2 + id), key, mask: maskOf('in_port', 'ct_state'), actions });
        }
        const sent = (sequence = 100): number => {
          h.inject(1, tcp(vip, { sourcePort: 1, destinationPort: 53, flags: SYN, sequence }));
          return h.take(3).length;
        };
        /** By port 1 as it is, by port 3 translated. */
        const replied = (flags: number, acknowledgment: number): number => {
          h.inject(2, tcp(back, { sourcePort: 53, destinationPort: 1, flags, sequence: 500, acknowledgment }));
          return [1, 3].find((port) => h.take(port).length > 0) ?? 0;
        };
        const dropped = (): number => h.counters().drops.connection_gone ?? 0;
        const before = dropped();
        t.equal(sent(), 1);
        const [asItIs, isOther] = pin === undefined ? [3, 0] : [1, 1];
        t.equal(replied(ACK, 900), asItIs, 'an acknowledgment of something else');
        if (pin === undefined) {
          connections.close(slot);
          continue;
        }
        t.equal(replied(RST | ACK, 900), asItIs, 'a reset of something else');
        t.equal(replied(RST, 0), asItIs);
        t.equal(connections.records.state(slot), 'syn_sent');
        t.equal(sent(), 0, 'the next SYN is not of this connection');
        t.equal(dropped() - before, isOther);
        t.equal(replied(SYN | ACK, 101), 3);
        t.equal(replied(ACK, 900), 3, 'once it is answered, all is of this connection');
        t.equal(sent(), 1);
        connections.close(slot);
      }
    },
    { connections: room(), places: { ...places, 3: 2 as Place } },
  );

  test(
    'frames that wait while their connection is opened belong to it when they are decided',
    (t, h) => {
      h.memory(1, 2);
      const vip: Ends = { src: '10.0.0.1', dst: '10.0.0.9' };
      h.inject(1, udp(vip, 1, 53));
      h.inject(1, udp({ ...vip, ip4: { ttl: 63 } }, 1, 53));
      t.equal(h.upcalls.length, 1, 'the second one waits behind the first');
      h.dp.connections.open(toBackend(tuple(1, 53, vip)), FIRST_FREE_OWNER, 0);
      const key = emptyKey();
      writeNumber(key, fields.ct_state, ctState.original);
      h.dp.flowPut({ id: flowId(1), key, mask: maskOf('ct_state'), actions: output(2) });
      h.answer(0, [{ op: 'consume' }]);
      t.equal(h.take(2).length, 1, 'the second one takes the flow of what is translated');
      t.equal(h.upcalls.length, 1);
    },
    options(),
  );

  test(
    'a SYN between the ends of a connection that is over, and had a choice, belongs to it no more',
    (t, h) => {
      h.memory(1, 2);
      const vip: Ends = { src: '10.0.0.1', dst: '10.0.0.9' };
      const { records } = h.dp.connections;
      for (const [at, pin] of [undefined, 7].entries()) {
        const [port, generation] = [5000 + at, () => records.generation(slot)];
        const opening = { ...toBackend(tuple(port, 80, vip)), protocol: IP_TCP, translated: tuple(port, 8080) };
        const slot = h.dp.connections.open({ ...opening, ...(pin !== undefined && { pin }) }, FIRST_FREE_OWNER, 0);
        t.equal(records.pin(slot), pin ?? 0);
        const key = emptyKey();
        writeNumber(key, fields.ct_state, ctState.original);
        const actions: readonly Action[] = [{ op: 'nat', slot, generation: generation(), reply: false }, ...output(2)];
        writeNumber(key, fields.l4_src, port);
        h.dp.flowPut({ id: flowId(1 + at), key, mask: maskOf('ct_state', 'l4_src'), actions });
        const sent = (flags: number, sequence: number) => {
          const [taken, asked] = [h.upcalls.length, h.dp.counters().upcalls];
          h.inject(1, tcp(vip, { sourcePort: port, destinationPort: 80, flags, sequence }));
          if (h.upcalls.length > taken) h.answer(taken, [{ op: 'consume' }]);
          return [h.take(2).length, h.dp.counters().upcalls - asked];
        };
        t.same(sent(SYN, 1), [1, 0]);
        t.same(sent(SYN, 1), [1, 0], 'once more, since nobody has answered');
        t.same(
          sent(SYN, 900_000),
          pin === undefined ? [1, 0] : [0, 1],
          'the client has given up, and uses the port again',
        );
        t.same(sent(SYN, 1), [1, 0]);
        records.writeHalf(slot, true, { ...records.half(slot, true), packets: 1, seen: SEEN_RST });
        t.same(sent(ACK, 2), [1, 0], 'what comes late');
        t.same(sent(SYN | ACK, 9), [1, 0]);
        t.same(sent(SYN, 9), pin === undefined ? [1, 0] : [0, 1], `pin ${pin}`);
      }
    },
    options(),
  );

  test(
    'a SYN that is repeated without its data goes on with a connection that had a choice, also where numbers begin anew',
    (t, h) => {
      h.memory(1, 2);
      const vip: Ends = { src: '10.0.0.1', dst: '10.0.0.9' };
      const { records } = h.dp.connections;
      const opening = { ...toBackend(tuple(5000, 80, vip)), protocol: IP_TCP, translated: tuple(5000, 8080), pin: 7 };
      const slot = h.dp.connections.open(opening, FIRST_FREE_OWNER, 0);
      const key = emptyKey();
      writeNumber(key, fields.ct_state, ctState.original);
      const nat: Action = { op: 'nat', slot, generation: records.generation(slot), reply: false };
      h.dp.flowPut({ id: flowId(1), key, mask: maskOf('ct_state'), actions: [nat, ...output(2)] });
      /** @returns true if it belongs to it */
      const goesOn = (sequence: number, bytes = 0): boolean => {
        const [taken, payload] = [h.upcalls.length, new Uint8Array(bytes)];
        const at = { sourcePort: 5000, destinationPort: 80, flags: SYN, sequence: sequence >>> 0, payload };
        h.inject(1, tcp(vip, at));
        if (h.upcalls.length > taken) h.answer(taken, [{ op: 'consume' }]);
        return h.take(2).length === 1;
      };
      t.ok(goesOn(-256, 1000));
      t.ok(goesOn(-256), 'without its data');
      const end = -255;
      t.notOk(goesOn(end - 1 - 65_536), 'further before than a SYN can bring data: another one');
      t.ok(goesOn(end - 1 - 65_535), 'not further');
      t.notOk(goesOn(end - 65_535), 'behind: another one');
    },
    options(),
  );

  test(
    'an ICMP error about a translated connection has a state of its own where that is, and nowhere else',
    (t, h) => {
      h.memory(1, 4);
      const key = emptyKey();
      writeNumber(key, fields.ct_state, ctState.error);
      const drop: readonly Action[] = [{ op: 'drop', reason: 'icmp_unrelated' }];
      h.dp.flowPut({ id: flowId(9), key, mask: maskOf('ct_state'), actions: drop });
      for (const port of [1, 4]) put(h, port, port, output(port === 1 ? 4 : 1), maskOf('in_port', 'ct_state'));
      const quoted = udp({ src: there.dst!, dst: there.src! }, 53, 1).subarray(14);
      const unreachable = (packet: Uint8Array): Uint8Array =>
        ip(there, IP_ICMP, buildIcmp4({ type: 3, code: 3, body: concat(new Uint8Array(4), packet) }));
      const error = unreachable(quoted);
      const arrive = () => {
        for (const port of [1, 4]) h.inject(port, error);
        return [h.take(4).length, h.take(1).length];
      };
      t.same(arrive(), [1, 1]);
      const slot = h.dp.connections.open(toBackend(tuple(1, 53)), FIRST_FREE_OWNER, 0);
      t.same([h.dp.connections.hasAnyIn(1 as Place), h.dp.connections.hasAnyIn(2 as Place)], [true, false]);
      t.same(arrive(), [0, 1], 'port 4 is in another place');
      h.inject(1, echo(there, 7, 1));
      t.equal(h.take(4).length, 1, 'a ping is none');
      h.inject(1, unreachable(udp({ src: there.dst!, dst: there.src! }, 53, 2).subarray(14)));
      t.equal(h.take(4).length, 1, 'it is about none');
      h.dp.connections.close(slot);
      t.same(arrive(), [1, 1]);
    },
    options(),
  );

  test(
    'pings: the request opens, the answer does not',
    (t, h) => {
      h.memory(1, 2);
      put(h, 1, 1, [track(), ...output(2)]);
      put(h, 2, 2, [track(), ...output(1)]);
      h.inject(2, echoReply(back, 7, 1));
      t.equal(h.dp.connections.size, 0);
      h.inject(1, echo(there, 7, 1));
      h.inject(2, echoReply(back, 7, 1));
      t.equal(h.dp.connections.size, 1);
      const { records } = h.dp.connections;
      t.equal(h.dp.connections.find(1 as Place, IP_ICMP, tuple(7, 7)), 0);
      t.equal(records.state(0), 'answered');
      h.inject(2, echo(back, 7, 2));
      t.equal(records.half(0, true).packets, 1, 'who pings back is no answer');
    },
    options(),
  );

  test(
    'what can be of no connection is carried, and opens none',
    (t, h) => {
      h.memory(1, 2, 4);
      put(h, 1, 1, [track(), ...output(2)]);
      h.inject(1, arpRequest({}));
      t.equal(h.take(2).length, 1);
      t.equal(h.dp.connections.size, 0);
    },
    options(),
  );

  test(
    'TCP that is only tracked waits 10 s',
    (t, h) => {
      h.memory(1, 2);
      put(h, 1, 1, [track(), ...output(2)]);
      put(h, 2, 2, [track(), ...output(1)]);
      const { connections } = h.dp;
      const send = (port: number, flags: number, sequence: number, acknowledgment: number): void => {
        const [ends, sourcePort, destinationPort] = port === 1 ? ([there, 1, 80] as const) : ([back, 80, 1] as const);
        h.inject(port, tcp(ends, { sourcePort, destinationPort, flags, sequence, acknowledgment }));
      };
      const states: string[] = [];
      const steps: [port: number, flags: number, sequence: number, acknowledgment: number][] = [
        [1, SYN, 100, 0],
        [2, SYN | ACK, 500, 101],
        [1, ACK, 101, 501],
        [1, FIN | ACK, 101, 501],
        [2, FIN | ACK, 501, 102],
      ];
      for (const step of steps) {
        send(...step);
        states.push(connections.records.state(0));
      }
      t.same(states, ['syn_sent', 'syn_received', 'established', 'closing', 'time_wait']);
      t.same([...connections.expire(h.nowMs + 9_999)], []);
      t.equal(connections.size, 1);
      connections.expire(h.nowMs + 10_000);
      t.equal(connections.size, 0);
      send(1, SYN, 100, 0);
      send(2, RST | ACK, 0, 101);
      t.equal(connections.records.state(connections.find(1 as Place, IP_TCP, tuple(1, 80)) >> 1), 'closed');
    },
    options(),
  );

  test(
    'beyond its quota a port has none, unless one can be given up',
    (t, h) => {
      h.memory(1, 2, 3);
      put(h, 1, 1, [track(), ...output(2)]);
      put(h, 2, 2, [track(), ...output(1)]);
      put(h, 3, 3, [track(), ...output(2)]);
      const { connections } = h.dp;
      for (let port = 1; port <= 5; port++) h.inject(1, udp(there, port, 53));
      t.equal(connections.size, 3);
      t.equal(
        connections.find(1 as Place, IP_UDP, tuple(1, 53)),
        -1,
        'what nobody answers gives way, the oldest first',
      );
      for (let port = 3; port <= 5; port++) h.inject(2, udp(back, 53, port));
      h.inject(1, udp(there, 6, 53));
      t.same([connections.size, h.counters().drops], [3, {}], 'it goes on without a record');
      h.inject(3, udp({ ...there, src: '10.0.0.3' }, 1, 53));
      t.equal(connections.size, 4, 'another port has its own');
    },
    { connections: room(8, 3), places },
  );

  for (const [what, far, dst] of [
    ['into another network', 2, '10.0.0.2'],
    ['to weft’s own sockets', INTERNAL, '169.254.77.6'],
  ] as const) {
    test(
      `addresses are translated by the connection that the packet is of, ${what}`,
      (t, h) => {
        h.memory(1, 2, 4);
        const { connections } = h.dp;
        const outside = { src: '192.0.2.9', dst };
        const translated = tuple(60_000, 53, outside);
        const opened = {
          kind: 'translated',
          places: [1, far] as [Place, Place],
          protocol: IP_UDP,
          original: tuple(1, 53),
          translated,
        } as const;
        t.equal(connections.open(opened, FIRST_FREE_OWNER, h.nowMs), 0);
        put(h, 1, 1, [NAT_BY_TUPLE, ...output(4)]);
        putOfConnections(h, 4, 4, [NAT_BY_TUPLE, ...output(1)]);
        connections.records.setFlow(0, true, 4);
        h.inject(1, udp(there, 1, 53));
        t.same(h.take(4), [udp(outside, 60_000, 53)]);
        h.inject(4, udp({ src: dst, dst: '192.0.2.9' }, 53, 60_000));
        t.same(h.take(1), [udp(back, 53, 1)]);
        t.equal(connections.records.flow(0, false), 1, 'that direction has taken the flow that was hit');
        h.inject(1, udp(there, 2, 53));
        t.same(h.counters().drops, { connection_gone: 1 });
        connections.close(0);
        h.inject(1, udp(there, 1, 53));
        t.same(h.counters().drops, { connection_gone: 2 });
        h.inject(4, udp({ src: dst, dst: '192.0.2.9' }, 53, 60_000));
        t.equal(h.upcalls.length, 1, 'nothing has the flow of the connection any more');
        h.answer(0, [{ op: 'consume' }]);
      },
      { connections: room(), places: { ...places, 4: far as Place } },
    );
  }

  test(
    'nothing of a connection that has been ended passes, translated or not',
    (t, h) => {
      h.memory(1, 2, 4);
      const { connections } = h.dp;
      const outside = { src: '192.0.2.9', dst: '10.0.0.2' };
      const opened = {
        kind: 'translated',
        places: [1 as Place, 2 as Place] as const,
        protocol: IP_UDP,
        original: tuple(1, 53),
        translated: tuple(60_000, 53, outside),
      } as const;
      t.equal(connections.open(opened, FIRST_FREE_OWNER, h.nowMs), 0);
      put(h, 1, 1, [NAT_BY_TUPLE, ...output(4)]);
      putOfConnections(h, 4, 4, [NAT_BY_TUPLE, ...output(1)]);
      connections.records.setFlow(0, true, 4);
      connections.end(0, h.nowMs);
      t.equal(connections.find(1 as Place, IP_UDP, opened.original), -1, 'its client begins another one');
      t.equal(connections.find(2 as Place, IP_UDP, turned(opened.translated)), 1, 'late replies are known');
      h.inject(1, udp(there, 1, 53));
      t.same(h.counters().drops, { connection_gone: 1 }, 'a flow that translates');
      h.inject(4, udp({ src: '10.0.0.2', dst: '192.0.2.9' }, 53, 60_000));
      t.equal(h.upcalls.length, 1, 'it has no flow any more');
      h.answer(0, [track(), ...output(1)]);
      t.same(h.counters().drops, { connection_gone: 2 }, 'a flow that tracks');
      t.same(h.take(1), []);
      const key = emptyKey();
      writeNumber(key, fields.ct_state, ctState.reply);
      h.dp.flowPut({ id: flowId(5), key, mask: maskOf('ct_state'), actions: [{ op: 'consume' }] });
      h.inject(4, udp({ src: '10.0.0.2', dst: '192.0.2.9' }, 53, 60_000));
      t.equal(h.counters().consumed, 1, 'it is known as a reply');
      t.equal(connections.records.state(0), 'time_wait');
      t.same([...connections.expire(h.nowMs + 29_999)], []);
      h.nowMs += 30_000;
      t.same([...connections.expire(h.nowMs)], [0]);
      t.equal(connections.size, 1, 'it is up to its owner to forget it');
    },
    { connections: room(), places: { ...places, 4: 2 as Place } },
  );

  test(
    'frames that waited for their decision are of the connection that was opened meanwhile',
    (t, h) => {
      h.memory(1, 2, 4);
      const outside = { src: '192.0.2.9', dst: '10.0.0.2' };
      h.inject(1, udp(there, 1, 53), udp(there, 1, 53));
      const places: [Place, Place] = [1 as Place, 2 as Place];
      const opened = {
        kind: 'translated',
        places,
        protocol: IP_UDP,
        original: tuple(1, 53),
        translated: tuple(60_000, 53, outside),
      } as const;
      h.dp.connections.open(opened, FIRST_FREE_OWNER, h.nowMs);
      h.answer(0, [NAT_BY_TUPLE, ...output(4)]);
      t.same(h.take(4), [udp(outside, 60_000, 53), udp(outside, 60_000, 53)]);
      t.equal(h.dp.connections.records.half(0, false).packets, 2);
    },
    options(),
  );
}
