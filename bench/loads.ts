/**
 * What happens between the two endpoints, and the figure that results. Each load takes one
 * sample: it starts its programs, waits for them and reads what they print.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { checkIperf, iperfClient, iperfServer } from '../test/support/traffic.ts';
import type { Background } from '../test/support/process.ts';
import type { Namespace } from '../test/support/lab.ts';
import { busySeconds, placed, type Placement } from './cpu.ts';
import { loadTool } from './load/tool.ts';
import type { Endpoints } from './topology.ts';

export interface Sample {
  readonly value: number;
  /** Other observations; names contain the unit. */
  readonly details: Readonly<Record<string, number>>;
}

export interface Load {
  readonly title: string;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  run(endpoints: Endpoints, seconds: number): Promise<Sample>;
}

const PORT = 7100;
const GIGABYTE = 1e9;
/** Time beyond what the load itself takes. */
const GRACE_MS = 20_000;
const IDLE_MS = 500;
/** Connections that a client has under way. */
const AT_ONCE = 32;
const WARMUP_SECONDS = 0.5;
/** With 10,000 flows, each must be decided before counting begins. */
const LONG_WARMUP_SECONDS = 1.5;

/** Bytes of UDP payload for frames of 60, 590 and 1450 bytes, in the ratio 7:4:1. */
const mixedSizes = [18, 18, 548, 18, 18, 548, 18, 1408, 548, 18, 18, 548];
const smallest = [18];

interface Datagrams {
  readonly sockets: number;
  readonly ports: number;
  readonly sizes: readonly number[];
  readonly warmupSeconds: number;
  /** Datagrams a second; full speed if not given. */
  readonly rate?: number;
}

const oneFlow: Datagrams = { sockets: 1, ports: 1, sizes: smallest, warmupSeconds: WARMUP_SECONDS };
const mixed: Datagrams = { sockets: 64, ports: 1, sizes: mixedSizes, warmupSeconds: WARMUP_SECONDS };
const manyFlows: Datagrams = { sockets: 500, ports: 20, sizes: smallest, warmupSeconds: LONG_WARMUP_SECONDS };

export const loads = {
  'tcp-1': tcp('TCP, 1 stream', 1),
  'tcp-4': tcp('TCP, 4 streams', 4),
  'frames-1': frames('60-byte frames received, one flow', oneFlow),
  'frames-64-mixed': frames('Frames received, 64 flows of mixed sizes', mixed),
  'frames-10k': frames('60-byte frames received, 10,000 flows', manyFlows),
  'loss-100k': loss('Loss at 100,000 frames of 60 bytes a second', { ...oneFlow, rate: 100_000 }),
  'rr-pinned': requests('Request/response over TCP, all on one CPU', 'together'),
  'rr-apart': requests('Request/response over TCP, client and server on one CPU, the switch on another', 'apart'),
  rr: requests('Request/response over TCP, not pinned', 'anywhere'),
  crr: connections('New connections over TCP, client and server on one CPU, the switch on another'),
  cpu: cpuSeconds('CPU seconds a gigabyte of TCP, all processes and the kernel'),
  interop: tcp('TCP, 1 stream, weft and the kernel as peers', 1),
  routed: tcp('TCP, 1 stream, switched, routed and translated', 1),
  judged: tcp('TCP, 1 stream, with policies and hooks', 1),
  'judged-crr': connections('New connections over TCP, with policies and hooks'),
} as const satisfies Record<string, Load>;
export type LoadName = keyof typeof loads;

// TCP by iperf3

function tcp(title: string, parallel: number): Load {
  return {
    title,
    unit: 'Gb/s',
    better: 'higher',
    run: async (endpoints, seconds) => {
      const { bits_per_second, retransmits } = await transfer(endpoints, { parallel, seconds }, seconds);
      return { value: bits_per_second / 1e9, details: { retransmits } };
    },
  };
}

/**
 * A fixed amount is transferred. Its cost is what all CPUs did meanwhile, minus what they did
 * just before and after: the work of client, server, switch and kernel.
 */
function cpuSeconds(title: string): Load {
  return {
    title,
    unit: 'CPU s/GB',
    better: 'lower',
    run: async (endpoints, seconds) => {
      const bytes = (seconds / 2) * GIGABYTE;
      let received = 0;
      const before = await busyDuring(() => delay(IDLE_MS));
      const during = await busyDuring(async () => {
        received = (await transfer(endpoints, { parallel: 1, bytes }, 60 * seconds)).bytes;
      });
      const after = await busyDuring(() => delay(IDLE_MS));
      const idleCpus = (before.busySeconds + after.busySeconds) / (before.seconds + after.seconds);
      const cost = during.busySeconds - idleCpus * during.seconds;
      if (cost <= 0) throw new Error(`the machine is busy with something else: ${idleCpus.toFixed(1)} CPUs`);
      return { value: cost / (received / GIGABYTE), details: { idleCpus, transferSeconds: during.seconds } };
    },
  };
}

async function busyDuring(action: () => Promise<void>): Promise<{ busySeconds: number; seconds: number }> {
  const [busyAt, startedAt] = [busySeconds(), performance.now()];
  await action();
  return { busySeconds: busySeconds() - busyAt, seconds: (performance.now() - startedAt) / 1000 };
}

/** What the server received. @throws if that is nothing */
async function transfer(
  { client, server, serverIp }: Endpoints,
  options: { readonly parallel: number; readonly seconds?: number; readonly bytes?: number },
  atMostSeconds: number,
): Promise<{ bytes: number; bits_per_second: number; retransmits: number }> {
  const listening = await iperfServer(server);
  try {
    const asked = client.start(iperfClient(serverIp, options));
    await ended(asked, atMostSeconds);
    const { sum_received, sum_sent } = checkIperf(asked.stdout).end;
    if (!sum_received?.bytes) throw new Error('iperf3: nothing was received');
    return { ...sum_received, retransmits: sum_sent?.retransmits ?? 0 };
  } finally {
    await listening.stop('SIGKILL');
  }
}

// Datagrams

function frames(title: string, datagrams: Datagrams): Load {
  return {
    title,
    unit: 'kframes/s',
    better: 'higher',
    run: async (endpoints, seconds) => {
      const { sent, received } = await datagramsOver(endpoints, datagrams, seconds);
      if (received.received === 0) throw new Error('no frame was received');
      // The sink may still be emptying queues after the sender has ended.
      const took = Math.max(sent.seconds, received.seconds);
      return {
        value: received.received / took / 1000,
        details: {
          sentKframesPerSecond: sent.sent / sent.seconds / 1000,
          flows: received.flows,
          reorderedFrames: received.reordered,
        },
      };
    },
  };
}

function loss(title: string, datagrams: Datagrams & { readonly rate: number }): Load {
  return {
    title,
    unit: '%',
    better: 'lower',
    run: async (endpoints, seconds) => {
      const { sent, received } = await datagramsOver(endpoints, datagrams, seconds);
      return {
        value: 100 * (1 - received.received / sent.sent),
        details: {
          offeredPercentOfRate: (100 * sent.sent) / sent.seconds / datagrams.rate,
          reorderedFrames: received.reordered,
        },
      };
    },
  };
}

interface SendReport {
  readonly sent: number;
  readonly seconds: number;
}
interface SinkReport {
  readonly received: number;
  readonly seconds: number;
  readonly flows: number;
  readonly reordered: number;
}

async function datagramsOver(
  { client, server, serverIp }: Endpoints,
  { sockets, ports, sizes, rate = 0, warmupSeconds }: Datagrams,
  seconds: number,
): Promise<{ sent: SendReport; received: SinkReport }> {
  const sink = await serve(server, ['sink', '--port', String(PORT), '--ports', String(ports)]);
  try {
    const sender = client.start([
      ...[loadTool.path, 'send', '--to', serverIp, '--port', String(PORT), '--ports', String(ports)],
      ...['--sockets', String(sockets), '--sizes', sizes.join(), '--rate', String(rate)],
      ...['--warmup', String(warmupSeconds), '--seconds', String(seconds)],
    ]);
    await ended(sender, seconds + warmupSeconds);
    sink.end();
    await ended(sink, seconds);
    const [, received = ''] = sink.stdout.split('\n');
    return { sent: JSON.parse(sender.stdout) as SendReport, received: JSON.parse(received) as SinkReport };
  } finally {
    await sink.stop('SIGKILL');
  }
}

// Requests

interface RequestReport {
  readonly transactions: number;
  readonly seconds: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

function requests(title: string, placement: Placement): Load {
  return {
    title,
    unit: 'transactions/s',
    better: 'higher',
    run: (endpoints, seconds) => placed(placement, endpoints.pids, (prefix) => ask(endpoints, prefix, seconds)),
  };
}

async function ask(
  { client, server, serverIp }: Endpoints,
  prefix: readonly string[],
  seconds: number,
): Promise<Sample> {
  const answering = await serve(server, ['rr-server', '--port', String(PORT)], prefix);
  try {
    const to = ['--to', serverIp, '--port', String(PORT)];
    const times = ['--warmup', String(WARMUP_SECONDS), '--seconds', String(seconds)];
    const asking = client.start([...prefix, loadTool.path, 'rr-client', ...to, ...times]);
    await ended(asking, seconds + WARMUP_SECONDS);
    const report = JSON.parse(asking.stdout) as RequestReport;
    return { value: report.transactions / report.seconds, details: { p50Us: report.p50Us, p99Us: report.p99Us } };
  } finally {
    await answering.stop('SIGKILL');
  }
}

// Connections

interface ConnectionReport {
  readonly connections: number;
  readonly failed: number;
  readonly seconds: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

/** The switch has a CPU of its own, so that it is not the load that takes its time. */
function connections(title: string): Load {
  return {
    title,
    unit: 'connections/s',
    better: 'higher',
    run: (endpoints, seconds) => placed('apart', endpoints.pids, (prefix) => connectAgain(endpoints, prefix, seconds)),
  };
}

async function connectAgain(
  { client, server, serverIp }: Endpoints,
  prefix: readonly string[],
  seconds: number,
): Promise<Sample> {
  const answering = await serve(server, ['crr-server', '--port', String(PORT)], prefix);
  try {
    const to = ['--to', serverIp, '--port', String(PORT), '--at-once', String(AT_ONCE)];
    const times = ['--warmup', String(WARMUP_SECONDS), '--seconds', String(seconds)];
    const connecting = client.start([...prefix, loadTool.path, 'crr-client', ...to, ...times]);
    await ended(connecting, seconds + WARMUP_SECONDS);
    const report = JSON.parse(connecting.stdout) as ConnectionReport;
    return {
      value: report.connections / report.seconds,
      details: { p50Us: report.p50Us, p99Us: report.p99Us, failedConnections: report.failed },
    };
  } finally {
    await answering.stop('SIGKILL');
  }
}

// Programs

/** Starts a verb of the load tool that is a server, and waits until it is ready. */
async function serve(at: Namespace, words: readonly string[], prefix: readonly string[] = []): Promise<Background> {
  const started = at.start([...prefix, loadTool.path, ...words]);
  await started.says('ready');
  return started;
}

/** Waits for a program that ends by itself. @throws if it fails or does not end */
async function ended(program: Background, seconds: number): Promise<void> {
  const code = await program.wait(seconds * 1000 + GRACE_MS);
  if (code !== 0) throw new Error(`exit ${code}: ${program.stderr}${program.stdout}`.trim());
}
