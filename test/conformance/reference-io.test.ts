/** The reference datapath's access to the kernel, with a kernel that the test simulates. */
import t from 'tap';
import {
  DATA_VALID,
  GSO_UDP,
  NEEDS_CSUM,
  NO_OFFLOAD,
  UDP_CSUM_OFFSET,
  type Frame,
} from '../../src/datapath/reference/offload.ts';
import type { KernelIo, ReceivedFrame, Refused } from '../../src/datapath/reference/kernel-io.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { TAKES_ALL } from '../../src/datapath/reference/segment.ts';
import { openPort, type Upcall } from '../../src/datapath/datapath.ts';
import type { TapOpened } from '../../src/flow/tap.ts';
import type { DropReason } from '../../src/flow/reason.ts';
import { formatIp, parseIp, type PortNo } from '../../src/flow/types.ts';
import { flowHash } from '../../src/flow/hash.ts';
import { WeftError } from '../../src/error.ts';
import { buildVxlan } from '../../src/wire/vxlan.ts';
import * as frames from '../support/frames.ts';
import { checkConservation, consume, encap, output, portNo } from './harness.ts';

class PlayedKernel implements KernelIo {
  readonly queue: ReceivedFrame[] = [];
  readonly log: string[] = [];
  readonly takes: number[] = [];
  refuse: DropReason | undefined;
  readonly onWake: () => void;
  readonly onLost: (port: PortNo, why: string) => void;

  constructor(onWake: () => void, onLost: (port: PortNo, why: string) => void) {
    this.onWake = onWake;
    this.onLost = onLost;
  }

  arrive(...received: (Partial<ReceivedFrame> & Pick<ReceivedFrame, 'port' | 'bytes'>)[]): void {
    this.queue.push(...received.map((one) => ({ offload: NO_OFFLOAD, ...one })));
    this.onWake();
  }

  addTap(port: PortNo, { netns, ifname }: { netns: string; ifname: string }): TapOpened {
    if (netns === '/missing') throw new WeftError('not_found', 'no such namespace');
    this.log.push(`tap ${port} ${netns} ${ifname}`);
    return { dev: 4n, ino: 99n, ifindex: 2, queues: 1, created: true };
  }

  renewTap(port: PortNo): string[] {
    this.log.push(`renew ${port}`);
    return [];
  }

  findTap(): undefined {}

  openUnderlay(port: PortNo, local: Uint8Array, l4Port: number): void {
    this.log.push(`underlay ${port} ${formatIp(local)} ${l4Port}`);
  }

  readUntil(nowMs: number): number {
    return nowMs;
  }

  remove(port: PortNo, keep: boolean): void {
    this.log.push(`remove ${port} ${keep ? 'keep' : 'delete'}`);
  }

  take(max: number): ReceivedFrame[] {
    const taken = this.queue.splice(0, max);
    this.takes.push(taken.length);
    return taken;
  }

  offloads(port: PortNo): number {
    return port === 1 ? 0 : TAKES_ALL;
  }

  send(port: PortNo, { bytes, offload }: Frame): DropReason | undefined {
    this.log.push(`send ${port} ${bytes.length}${offload.gsoType ? ` gso ${offload.gsoSize}` : ''}`);
    return this.refuse;
  }

  sendUnderlay(
    remote: Uint8Array,
    entropy: number,
    _tos: number,
    payloads: readonly Uint8Array[],
  ): Refused | undefined {
    this.log.push(`underlay to ${formatIp(remote)} ${entropy} ${payloads.map(({ length }) => length).join('+')}`);
    return this.refuse && { reason: this.refuse, datagrams: payloads.length };
  }

  stop(): void {}

  close(): void {
    this.log.push('close');
  }
}

function open() {
  let kernel: PlayedKernel | undefined;
  const upcalls: Upcall[] = [];
  const lost: string[] = [];
  const dp = openReferenceDatapath({
    flowCap: 100,
    clock: () => 0,
    onUpcall: (batch) => upcalls.push(...batch),
    onPortLost: (port, why) => lost.push(`${port}: ${why}`),
    io: (onWake, onLost) => (kernel = new PlayedKernel(onWake, onLost)),
  });
  const tap = (port: number) =>
    openPort(dp, portNo(port), { kind: 'tap', name: `t${port}`, netns: '/n', ifname: 'eth0' });
  return { dp, tap, upcalls, lost, kernel: () => kernel! };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

const frame = frames.udp({}, 7, 9);

t.test('frames go from TAP to TAP and underlay, and back', async (t) => {
  const { dp, tap, upcalls, kernel } = open();
  tap(1);
  tap(2);
  const vxlan = openPort(dp, portNo(3), { kind: 'vxlan', name: 'vx', local: parseIp('192.0.2.1'), l4Port: 4789 });
  t.equal(vxlan, undefined);
  const other = openPort(dp, portNo(4), { kind: 'tap', name: 't4', netns: '/ns/4', ifname: 'eth0' });
  t.same(other, { dev: 4n, ino: 99n, ifindex: 2, queues: 1, created: true });
  dp.portDel(portNo(4));
  kernel().arrive(
    { port: portNo(1), bytes: frame },
    { port: portNo(2), bytes: frame, offload: { ...NO_OFFLOAD, flags: DATA_VALID } },
  );
  t.equal(upcalls.length, 0, 'the event loop comes first');
  await until(() => upcalls.length === 2);
  kernel().log.length = 0;
  dp.execute(upcalls[0]!.token, [...output(2), encap(7, '192.0.2.2')]);
  t.same(kernel().log, [
    `send 2 ${frame.length}`,
    `underlay to 192.0.2.2 ${flowHash(upcalls[0]!.key)} ${frame.length + 8}`,
  ]);
  kernel().arrive({ port: portNo(3), bytes: buildVxlan({ vni: 7, frame }), source: parseIp('192.0.2.2') });
  await until(() => upcalls.length === 3);
  kernel().refuse = 'tx_error';
  dp.execute(upcalls[2]!.token, [...output(1), encap(7, '192.0.2.3')]);
  t.match(dp.counters(), { rx: 3, tx: 2, copies: 2, held: 1, drops: { tx_error: 2 } });
  checkConservation(dp.counters());
  dp.close();
  t.same(kernel().log.slice(-4), ['remove 1 keep', 'remove 2 keep', 'remove 3 keep', 'close']);
  checkConservation(dp.counters());
});

t.test('superframes go out as each way takes them', async (t) => {
  const { dp, tap, upcalls, kernel } = open();
  tap(1);
  tap(2);
  openPort(dp, portNo(3), { kind: 'vxlan', name: 'vx', local: parseIp('192.0.2.1'), l4Port: 4789 });
  const datagram = frames.ip({}, 17, Uint8Array.of(0, 7, 0, 9, 0, 38, 0, 0, ...new Uint8Array(30)));
  const offload = { flags: NEEDS_CSUM, gsoType: GSO_UDP, gsoSize: 12, csumStart: 34, csumOffset: UDP_CSUM_OFFSET };
  kernel().arrive(
    { port: portNo(2), bytes: datagram, offload },
    { port: portNo(2), bytes: datagram, offload: { ...offload, csumStart: 33 } },
  );
  await until(() => upcalls.length === 1);
  kernel().log.length = 0;
  dp.execute(upcalls[0]!.token, [...output(2), ...output(1), encap(7, '192.0.2.2')]);
  t.same(kernel().log, [
    'send 2 72 gso 12',
    ...['send 1 54', 'send 1 54', 'send 1 48'],
    `underlay to 192.0.2.2 ${flowHash(upcalls[0]!.key)} 62+62+56`,
  ]);
  t.match(dp.counters(), { rx: 2, copies: 2, segments: 4, tx: 7, drops: { bad_vnet_hdr: 1 } });
  checkConservation(dp.counters());
  dp.close();
});

t.test('a flood of frames leaves the event loop its turns', async (t) => {
  const { dp, tap, upcalls, kernel } = open();
  tap(1);
  kernel().arrive(...Array.from({ length: 200 }, () => ({ port: portNo(1), bytes: frame })));
  await until(() => upcalls.length > 0);
  t.ok(dp.counters().rx < 200, 'the first upcall came before the last frame');
  dp.execute(upcalls[0]!.token, consume);
  await until(() => dp.counters().rx === 200);
  t.same(kernel().takes, [64, 64, 64, 8]);
  checkConservation(dp.counters());
  dp.close();
});

t.test('a port that cannot be opened leaves nothing; a lost one is told of', async (t) => {
  const { dp, tap, lost, kernel } = open();
  t.throws(() => openPort(dp, portNo(1), { kind: 'tap', name: 'x', netns: '/missing', ifname: 'eth0' }), WeftError);
  t.equal(dp.counters().ports.size, 0);
  tap(1);
  kernel().onLost(portNo(1), 'gone');
  t.same(lost, ['1: gone']);
  kernel().arrive({ port: portNo(1), bytes: frame });
  dp.portDel(portNo(1));
  t.equal(kernel().log.at(-1), 'remove 1 delete');
  await until(() => kernel().queue.length === 0);
  t.match(dp.counters(), { rx: 0 }, 'frames of a port that went are not received');
  dp.close();
});

t.test('without the kernel’s side such ports are refused', async (t) => {
  const dp = openReferenceDatapath({ flowCap: 1, clock: () => 0, onUpcall: () => {}, onPortLost: () => {} });
  t.throws(() => openPort(dp, portNo(1), { kind: 'tap', name: 'x', netns: '/n', ifname: 'eth0' }), WeftError);
  dp.close();
});
