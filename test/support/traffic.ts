/** Real programs that talk between namespaces, and what they measured. */
import { join, dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Namespace } from './lab.ts';
import { until, type Background } from './process.ts';

const scripts = join(dirname(fileURLToPath(import.meta.url)), 'python');

/** The port of no protocol that tcpdump would try to decode. */
export const QUESTION_PORT = 7053;

/** A helper script as a command; always with Debian's interpreter. */
export function python(script: string, ...args: readonly (string | number)[]): string[] {
  return ['/usr/bin/python3', '-u', join(scripts, script), ...args.map(String)];
}

export interface PingOptions {
  /** Bytes of data. */
  readonly size?: number;
  readonly count?: number;
}

/** All echo requests must be answered; the first may take a moment (duplicate address detection, learning). */
export async function ping(from: Namespace, to: string, options: PingOptions = {}): Promise<void> {
  const { size = 56, count = 2 } = options;
  const once = ['ping', '-n', '-c', '1', '-W', '1', to];
  await until(async () => (await from.attempt(once)).code === 0, { what: `first answer from ${to} to ${from.name}` });
  // With a deadline, ping continues until that many are answered; without one it waits only a moment for the last
  // answer.
  await from.run(['ping', '-n', '-i', '0.02', '-c', String(count), '-s', String(size), '-w', '30', to]);
}

/** Is there no answer at all? */
export async function isUnreachable(from: Namespace, to: string): Promise<boolean> {
  return (await from.attempt(['ping', '-n', '-c', '2', '-i', '0.2', '-W', '1', to])).code !== 0;
}

export interface StreamOptions {
  readonly seconds?: number;
  /** The server sends. */
  readonly reverse?: boolean;
  /** If not given, the stream runs for `seconds`. */
  readonly bytes?: number;
  readonly parallel?: number;
  /** TCP's congestion control. */
  readonly congestion?: 'cubic' | 'bbr';
}

/** The minimum that `stream` accepts. */
const LEAST_BYTES = 10_000_000;

/** An iperf3 server for one client, listening when it returns. */
export async function iperfServer(at: Namespace): Promise<Background> {
  const server = at.start(['iperf3', '-s', '-1', '-i', '0.1', '--forceflush']);
  await server.says('listening');
  return server;
}

/** Arguments of an iperf3 client of TCP that prints JSON. */
export function iperfClient(to: string, options: StreamOptions = {}): string[] {
  const { seconds = 1, reverse = false, bytes, parallel, congestion = 'cubic' } = options;
  return [
    ...['iperf3', '-J', '-c', to, '--connect-timeout', '30000', '-C', congestion],
    ...(bytes === undefined ? ['-t', String(seconds)] : ['-n', String(bytes)]),
    ...(parallel === undefined ? [] : ['-P', String(parallel)]),
    ...(reverse ? ['-R'] : []),
  ];
}

interface IperfReport {
  readonly error?: string;
  readonly end: {
    readonly sum_received?: { readonly bytes: number; readonly bits_per_second: number };
    readonly sum_sent?: { readonly retransmits?: number };
  };
}

/** The report of an iperf3 client. @throws if it failed, which its exit code does not show */
export function checkIperf(output: string): IperfReport {
  const report = JSON.parse(output) as IperfReport;
  if (report.error !== undefined) throw new Error(`iperf3: ${report.error}`);
  return report;
}

/**
 * Sends `bytes` of TCP from one namespace to another with iperf3. It cannot tell whether each byte arrives (`transfer`
 * can): iperf3's server stops reading when the client says that it is done, and data in the socket buffers may then be
 * unread. Of 300,000 bytes, none is counted in one of six runs, even on a loopback, so `bytes` must be more than those
 * buffers hold.
 * @throws if it fails, nothing is received, or `bytes` is less than 10 MB
 */
export async function stream(
  from: Namespace,
  to: Namespace,
  ip: string,
  options: StreamOptions & { readonly bytes: number },
): Promise<void> {
  if (options.bytes < LEAST_BYTES) throw new RangeError(`iperf3 does not count ${options.bytes} bytes: use transfer`);
  const server = await iperfServer(to);
  let output: string;
  try {
    output = await from.run(iperfClient(ip, options));
  } finally {
    await server.stop('SIGKILL');
  }
  const { sum_received } = checkIperf(output).end;
  if (!sum_received?.bytes) throw new Error(`iperf3 from ${from.name} to ${ip}: nothing was received`);
}

/** Requests and responses over UDP, like DNS: each must be answered. */
export async function askOverUdp(
  from: Namespace,
  to: Namespace,
  ip: string,
  questions = 50,
  port = QUESTION_PORT,
): Promise<void> {
  const server = to.start(python('udp_answer.py', QUESTION_PORT));
  await server.says('ready');
  await from.run(python('udp_ask.py', ip, port, questions));
  await server.stop();
}

/** Records frames on their way into an interface. */
export class Sniffer {
  readonly #process: Background;

  private constructor(process: Background) {
    this.#process = process;
  }

  /** Starts recording. */
  static async open(at: Namespace, ifname = 'eth0'): Promise<Sniffer> {
    const process = at.start(python('sniff.py', ifname));
    await process.says('ready');
    return new Sniffer(process);
  }

  /** Hex text of each frame so far. */
  frames(): string[] {
    return this.#process.lines.map((line) => line.text).filter((text) => text !== 'ready');
  }

  async sees(frame: Uint8Array, what: string): Promise<void> {
    const hex = Buffer.from(frame).toString('hex');
    await until(() => this.frames().includes(hex), { what });
  }

  hasSeen(frame: Uint8Array): boolean {
    return this.frames().includes(Buffer.from(frame).toString('hex'));
  }

  async close(): Promise<void> {
    await this.#process.stop();
  }
}

/** Sends frames unchanged. */
export async function sendFrames(from: Namespace, frames: readonly Uint8Array[], ifname = 'eth0'): Promise<void> {
  const input = frames.map((frame) => Buffer.from(frame).toString('hex')).join('\n');
  await from.run(python('send_frames.py', ifname), { input: `${input}\n` });
}
