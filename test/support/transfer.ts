/** Sends bytes from one container to another and compares them at both ends. */
import type { Namespace } from './lab.ts';
import { python } from './traffic.ts';

/** The port of the first transfer; each further one has the next port. */
export const TRANSFER_PORT = 7021;
/** The largest buffer that the kernel segments. */
const BUFFER_BYTES = 65_000;
/** As many as fit into the receive buffer of a socket together, so that a receiver that pauses loses none. */
const DATAGRAMS_AT_ONCE = 40;
/** The scripts give up by themselves if nothing moves. */
const LONGEST_MS = 300_000;

export type Transfer =
  /** Without `segmentBytes`, segments are as long as the interface allows. */
  | { readonly kind: 'tcp'; readonly bytes: number; readonly segmentBytes?: SegmentBytes }
  /** Datagrams of `segmentBytes` that leave their sender as superframes (UDP_SEGMENT), or each by itself. */
  | { readonly kind: 'udp' | 'datagrams'; readonly bytes: number; readonly segmentBytes: SegmentBytes };

/** The same for all addresses, or depending on the address. */
export type SegmentBytes = number | ((ip: string) => number);

export interface TransferOptions {
  /** The port of the first transfer, if it leads to TRANSFER_PORT at the receiver. */
  readonly port?: number;
}

/**
 * Makes all transfers to each address, one after the other. @throws unless every byte arrives, in order and unchanged
 */
export async function transfer(
  from: Namespace,
  to: Namespace,
  ips: readonly string[],
  transfers: readonly Transfer[],
  { port = TRANSFER_PORT }: TransferOptions = {},
): Promise<void> {
  const steps = transfers.flatMap((each) => ips.map((ip) => [each, ip] as const));
  const plan = (firstPort: number): string =>
    JSON.stringify(
      steps.map(([{ kind, bytes, segmentBytes: segments = 0 }, ip], index) => {
        const segmentBytes = typeof segments === 'number' ? segments : segments(ip);
        const burst = Math.min(DATAGRAMS_AT_ONCE, Math.floor(BUFFER_BYTES / Math.max(1, segmentBytes)));
        return [kind, ip, firstPort + index, bytes, segmentBytes, burst];
      }),
    );
  const receiver = to.start(python('bytes_receive.py', plan(TRANSFER_PORT)));
  await receiver.says(/^ready$/m);
  const sender = await from.attempt(python('bytes_send.py', plan(port)), { timeoutMs: LONGEST_MS });
  const code = await receiver.wait(LONGEST_MS);
  if (sender.code !== 0 || code !== 0) {
    throw new Error(`from ${from.name} to ${ips.join(', ')}: ${[sender.stderr, receiver.stderr].join('').trim()}`);
  }
  const sent = sender.stdout.trim().split('\n');
  const received = receiver.lines.slice(1).map(({ text }) => text);
  for (const [index, [{ kind }, ip]] of steps.entries()) {
    if (received[index] !== sent[index]) throw new Error(`${kind} to ${ip}: other bytes arrived`);
  }
}
