/** Bytes from one container to another, compared at both ends. */
import type { Namespace } from './lab.ts';
import { python } from './traffic.ts';

/** Of the first transfer; each further one has the next. */
const FIRST_PORT = 7021;
/** What one buffer that the kernel cuts may hold. */
const BUFFER_BYTES = 65_000;
/** Fit the receive buffer of a socket as a whole, so that a receiver that pauses loses none. */
const DATAGRAMS_AT_ONCE = 40;
/** The scripts give up by themselves when nothing moves. */
const LONGEST_MS = 300_000;

export type Transfer =
  /** Without `segmentBytes`, segments are as long as the interface takes them. */
  | { readonly kind: 'tcp'; readonly bytes: number; readonly segmentBytes?: number }
  /** Datagrams of `segmentBytes` that leave their sender as superframes (UDP_SEGMENT), or each by itself. */
  | { readonly kind: 'udp' | 'datagrams'; readonly bytes: number; readonly segmentBytes: number };

/** Makes all transfers to each address, one after another. @throws unless every byte arrives, in order and right. */
export async function transfer(
  from: Namespace,
  to: Namespace,
  ips: readonly string[],
  transfers: readonly Transfer[],
): Promise<void> {
  const steps = transfers.flatMap((each) => ips.map((ip) => [each, ip] as const));
  const plan = JSON.stringify(
    steps.map(([{ kind, bytes, segmentBytes = 0 }, ip], index) => {
      const burst = Math.min(DATAGRAMS_AT_ONCE, Math.floor(BUFFER_BYTES / Math.max(1, segmentBytes)));
      return [kind, ip, FIRST_PORT + index, bytes, segmentBytes, burst];
    }),
  );
  const receiver = to.start(python('bytes_receive.py', plan));
  await receiver.says(/^ready$/m);
  const sender = await from.attempt(python('bytes_send.py', plan), { timeoutMs: LONGEST_MS });
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
