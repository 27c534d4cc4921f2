/** Bytes from one container to another, compared at both ends. */
import type { Namespace } from './lab.ts';
import { python } from './traffic.ts';

/** Where the receiver listens. */
export const TRANSFER_PORT = 7021;
/** What one buffer that the kernel cuts may hold. */
const BUFFER_BYTES = 65_000;
const DATAGRAMS_AT_ONCE = 40;

export type Transfer =
  /** Without `segmentBytes`, segments are as long as the interface takes them. */
  | { readonly kind: 'tcp'; readonly bytes: number; readonly segmentBytes?: number }
  /** Datagrams of `segmentBytes` that leave their sender as superframes (UDP_SEGMENT). */
  | { readonly kind: 'udp'; readonly bytes: number; readonly segmentBytes: number };

export interface TransferOptions {
  /** Of `ip`, where that leads to the receiver's own. */
  readonly port?: number;
}

/** @throws unless every byte arrives, in order and right. */
export async function transfer(
  from: Namespace,
  to: Namespace,
  ip: string,
  transfer: Transfer,
  { port = TRANSFER_PORT }: TransferOptions = {},
): Promise<void> {
  const { kind, bytes, segmentBytes = 0 } = transfer;
  const burst = Math.min(DATAGRAMS_AT_ONCE, Math.floor(BUFFER_BYTES / Math.max(1, segmentBytes)));
  const receiver = to.start(python('bytes_receive.py', kind, TRANSFER_PORT, bytes, segmentBytes, burst));
  await receiver.says(/^ready$/m);
  const sender = await from.attempt(python('bytes_send.py', kind, ip, port, bytes, bytes % 1000, segmentBytes, burst));
  const code = await receiver.wait(15_000);
  const failed = [sender.stderr, receiver.stderr].join('').trim();
  if (sender.code !== 0 || code !== 0) throw new Error(`${kind} to ${ip}: ${failed}`);
  if (receiver.lines.at(-1)?.text !== sender.stdout.trim()) throw new Error(`${kind} to ${ip}: other bytes arrived`);
}
