/** What the demonstration measures: ping round trips, and iperf3 throughput. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { WeftError } from '../../error.ts';
import { eventually, run, says, start } from './commands.ts';
import { inside } from './stage.ts';

const FIRST_ANSWER_MS = 10_000;
const ECHOES = 5;

export interface RoundTrip {
  /** The average. */
  readonly ms: number;
  readonly lost: number;
}

/** Of a few echo requests; undefined if there is no answer. */
export async function roundTrip(from: string, to: string, signal: AbortSignal): Promise<RoundTrip | undefined> {
  const ping = (...options: string[]): Promise<string> => run(inside(from, ['ping', '-n', ...options, to]), signal);
  try {
    // The first one may have to wait for neighbor discovery and learning.
    await eventually(() => ping('-c', '1', '-W', '1'), FIRST_ANSWER_MS, signal);
    // All at once: then ping waits for the last answer as long as its interval, a second, and not only 10 ms.
    const text = await ping('-c', String(ECHOES), '-l', String(ECHOES), '-W', '10');
    const [, received = '', average = ''] = /, (\d+) received[^]* = [\d.]+\/([\d.]+)\//.exec(text) ?? [];
    return { ms: Number(average), lost: ECHOES - Number(received) };
  } catch (error) {
    if (signal.aborted) throw error;
    return undefined;
  }
}

/** The fields that are read from iperf3's JSON. */
interface IperfReport {
  readonly error?: string;
  readonly end: { readonly sum_received: { readonly bits_per_second: number } };
}

/** The rate of a TCP stream, in Mb/s as received. */
export async function throughputMbps(
  from: string,
  to: { readonly name: string; readonly ip: string },
  seconds: number,
  signal: AbortSignal,
): Promise<number> {
  const server = start(inside(to.name, ['iperf3', '--server', '--one-off', '--forceflush']), signal);
  try {
    await says(server, 'listening', signal);
    const client = ['iperf3', '--client', to.ip, '--time', String(seconds), '--json', ...congestionControl()];
    const { error, end } = JSON.parse(await run(inside(from, client), signal)) as IperfReport;
    // Its exit code does not show failures.
    if (error !== undefined) throw new WeftError('system', `iperf3 from ${from} to ${to.name} (${to.ip}): ${error}`);
    return end.sum_received.bits_per_second / 1e6;
  } finally {
    if (server.exitCode === null) {
      server.kill('SIGKILL');
      await once(server, 'close');
    }
  }
}

/** Cubic if there is a choice, so that figures of different machines can be compared. */
function congestionControl(): string[] {
  const available = readFileSync('/proc/sys/net/ipv4/tcp_available_congestion_control', 'utf8').trim().split(' ');
  return available.includes('cubic') ? ['--congestion', 'cubic'] : [];
}
