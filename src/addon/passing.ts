/**
 * Messages with descriptors to other processes of weft on this host (native/io/passing.h), and the messages of
 * systemd's notification protocol (sd_notify(3)).
 */
import { closeSync } from 'node:fs';
import { WeftError } from '../error.ts';
import { loadAddon } from './addon.ts';
import { errnoName } from './io-error.ts';
import type { PassedMessage } from './native-passing.ts';

export type { PassedMessage };

/** The most descriptors in one message: `kMessageDescriptors`. */
export const MESSAGE_DESCRIPTORS = 64;
/** How long a message may wait for room. */
const SEND_MS = 2000;

/** One end of a connection. */
export class PacketConnection {
  readonly descriptor: number;
  #reader: { close(): void } | undefined;
  #isClosed = false;

  /** @param descriptor which belongs to this from now on */
  constructor(descriptor: number) {
    this.descriptor = descriptor;
  }

  /** The pid of the other end. @throws WeftError if it runs as another user */
  get peer(): number {
    return checked(loadAddon().peerOf(this.descriptor), 'the other end is not known');
  }

  /** @throws WeftError if the other end is gone or does not read */
  send(text: string, descriptors: readonly number[] = []): void {
    const error = loadAddon().sendMessage(this.descriptor, Buffer.from(text), descriptors, SEND_MS);
    checked(error, 'a message could not be passed on');
  }

  /** Waits for the next message, in this call. Undefined if none has come. @throws WeftError if the other end is gone */
  receive(waitMs: number): PassedMessage | undefined {
    const received = loadAddon().receiveMessage(this.descriptor, waitMs);
    if (typeof received !== 'number') return received;
    if (errnoName(-received) === 'EAGAIN') return undefined;
    throw passingError('no message', received);
  }

  /** Calls back for each message, and once with undefined when the other end is gone. Call it once. */
  listen(onMessage: (message: PassedMessage | undefined) => void): void {
    this.#reader = new (loadAddon().PacketReader)(this.descriptor, (message) => {
      if (this.#isClosed) return;
      onMessage(typeof message === 'number' ? undefined : message);
    });
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#reader?.close();
    closeSync(this.descriptor);
  }
}

/** @throws WeftError */
export function listenPackets(path: string): number {
  return checked(loadAddon().listenPackets(path), `cannot listen on ${path}`);
}

/** @throws WeftError also if nobody has connected */
export function acceptPackets(listener: number): PacketConnection {
  return new PacketConnection(checked(loadAddon().acceptPackets(listener), 'nobody has connected'));
}

/** Undefined if nobody listens there. @throws WeftError */
export function connectPackets(path: string): PacketConnection | undefined {
  const result = loadAddon().connectPackets(path);
  if (result >= 0) return new PacketConnection(result);
  if (['ENOENT', 'ECONNREFUSED'].includes(errnoName(-result))) return undefined;
  throw passingError(`cannot connect to ${path}`, result);
}

/** Another descriptor of the same open file, which is closed in programs that this process runs. @throws WeftError */
export function duplicate(descriptor: number): number {
  return checked(loadAddon().duplicate(descriptor), 'a descriptor could not be duplicated');
}

/** The programs that this process runs do not get it. */
export function closeOnExec(descriptor: number): void {
  checked(loadAddon().closeOnExec(descriptor), `descriptor ${descriptor}`);
}

/** Sends a datagram to a socket as in NOTIFY_SOCKET. @throws WeftError */
export function notify(path: string, text: string, descriptors: readonly number[] = []): void {
  checked(loadAddon().notify(path, text, descriptors), `${path} cannot be notified`);
}

/** Waits until the other end has read what was sent there before. @throws WeftError if it does not */
export function notifyBarrier(path: string, waitMs: number): void {
  checked(loadAddon().notifyBarrier(path, waitMs), `${path} does not read`);
}

function checked(result: number, what: string): number {
  if (result < 0) throw passingError(what, result);
  return result;
}

function passingError(what: string, result: number): WeftError {
  return new WeftError('system', `${what} (${errnoName(-result)})`);
}
