/** Programs that run beside this one and answer it; native/io/partner.h has the method. */
import { closeSync } from 'node:fs';
import { descriptorsText, WeftError } from '../error.ts';
import { loadAddon } from './addon.ts';
import { errnoName } from './io-error.ts';

export interface Partner {
  readonly pid: number;
  /** A packet is a message. Reads and writes fail with EAGAIN if they would wait longer than it was said. */
  readonly socket: number;
}

/** Where a partner has its end of the socket. Its standard input is what it was given at its start. */
export const PARTNER_SOCKET = 3;
/** Of a message. */
export const MOST_MESSAGE_BYTES = 128 * 1024;

/**
 * Starts it. This thread waits until the program begins, about a millisecond.
 * @param words its path, and its arguments
 * @throws WeftError `system`; `exhausted` if descriptors ran out
 */
export function startPartner(words: readonly [string, ...string[]], input: string, waitMs: number): Partner {
  const started = loadAddon().startPartner(words, input, waitMs);
  if (typeof started !== 'number') return { pid: started[0], socket: started[1] };
  const name = errnoName(-started);
  const text = descriptorsText(name);
  throw new WeftError(text ? 'exhausted' : 'system', `\`${words[0]}\` could not be started: ${text ?? name}`);
}

/** Kills it, whatever it does. Called once. */
export function endPartner({ pid, socket }: Partner): void {
  closeSync(socket);
  loadAddon().endPartner(pid);
}

/**
 * For the partner: from now on it can only compute, and talk over its socket, whatever code it gets to run.
 * @param parent the process that has started it, with which it ends
 * @throws WeftError('system') if the kernel cannot do that
 */
export function confine(parent: number): void {
  const result = loadAddon().confine(parent);
  if (result < 0) throw new WeftError('system', `the kernel cannot confine a process (seccomp: ${errnoName(-result)})`);
}
