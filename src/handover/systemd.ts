/**
 * The protocol between a service and systemd: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3).
 *
 * systemd keeps descriptors for a service (`FileDescriptorStoreMax=`), and gives them to its next process. Each has a
 * name of its own: that of `PortDescriptors`, and which of these it is.
 */
import { closeOnExec, notify, notifyBarrier } from '../addon/passing.ts';
import { WeftError } from '../error.ts';
import type { Keeper, Named } from './descriptors.ts';

/** The first descriptor that systemd passes. */
const FIRST = 3;
const BARRIER_MS = 1000;

export class Systemd implements Keeper {
  /** How often systemd must hear that the event loop turns, in milliseconds; undefined if it does not ask for that. */
  readonly watchdogMs: number | undefined;
  readonly #socket: string;
  /** By name, how many descriptors it has. */
  readonly #kept = new Map<string, number>();
  readonly #onFailure: (error: WeftError) => void;
  /** It has not read in time: until it does, it is only told that this daemon is alive. */
  #isDeaf = false;

  private constructor(socket: string, watchdogMs: number | undefined, onFailure: (error: WeftError) => void) {
    this.#socket = socket;
    this.watchdogMs = watchdogMs;
    this.#onFailure = onFailure;
  }

  /** Undefined if systemd has not started this process, or does not ask to be notified. */
  static of(
    environment: Readonly<Record<string, string | undefined>>,
    onFailure: (error: WeftError) => void,
  ): Systemd | undefined {
    const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: usec, WATCHDOG_PID: pid } = environment;
    if (socket === undefined || socket === '') return undefined;
    const isForThis = pid === undefined || Number(pid) === process.pid;
    return new Systemd(socket, usec !== undefined && isForThis ? Number(usec) / 1000 : undefined, onFailure);
  }

  /** What it has kept. The descriptors belong to the caller. Call it once. */
  take(environment: Readonly<Record<string, string | undefined>>): Named[] {
    const { LISTEN_PID: pid, LISTEN_FDS: count, LISTEN_FDNAMES: names = '' } = environment;
    if (Number(pid) !== process.pid) return [];
    const found = new Map<string, number[]>();
    const each = names.split(':');
    for (let at = 0; at < Number(count); at++) {
      const [, name = '', index = '0'] = /^(.*)_(\d+)$/.exec(each[at] ?? '') ?? [];
      closeOnExec(FIRST + at);
      const descriptors = found.get(name) ?? [];
      found.set(name, descriptors);
      descriptors[Number(index)] = FIRST + at;
    }
    return [...found].map(([name, descriptors]) => {
      // One that systemd did not keep leaves a gap, behind which none is of use.
      const gap = descriptors.findIndex((one) => one === undefined);
      this.#kept.set(name, descriptors.length);
      return { name, descriptors: gap < 0 ? descriptors : descriptors.slice(0, gap) };
    });
  }

  /** It forwards, or waits for something that is not its own. */
  ready(status: string): void {
    this.#send(`READY=1\nSTATUS=${oneLine(status)}`);
  }

  status(status: string): void {
    this.#send(`STATUS=${oneLine(status)}`);
  }

  /** The event loop turns. */
  alive(): void {
    this.#isDeaf = false;
    this.#send('WATCHDOG=1');
  }

  /** @param now microseconds of CLOCK_MONOTONIC */
  reloading(now: bigint): void {
    this.#send(`RELOADING=1\nMONOTONIC_USEC=${now}`);
  }

  /** From now on, that is the service's main process. */
  isNow(pid: number): void {
    this.#send(`MAINPID=${pid}`);
    this.#barrier();
  }

  stopping(): void {
    this.#send('STOPPING=1');
  }

  /** It has these, which another process of this service has given to it. */
  assume({ name, descriptors }: Named): void {
    this.#kept.set(name, descriptors.length);
  }

  names(): readonly string[] {
    return [...this.#kept.keys()];
  }

  put(name: string, descriptors: readonly number[]): void {
    this.#remove(name);
    for (const [at, one] of descriptors.entries()) this.#send(`FDSTORE=1\nFDNAME=${name}_${at}`, [one]);
    this.#kept.set(name, descriptors.length);
  }

  drop(name: string): void {
    this.#remove(name);
    this.#barrier();
  }

  /** systemd closes them itself when the service is stopped, and keeps them when it is restarted. */
  end({ purge }: { readonly purge: boolean }): void {
    if (!purge) return;
    for (const name of this.names()) this.#remove(name);
    this.#barrier();
  }

  #remove(name: string): void {
    for (let at = 0; at < (this.#kept.get(name) ?? 0); at++) this.#send(`FDSTOREREMOVE=1\nFDNAME=${name}_${at}`);
    this.#kept.delete(name);
  }

  #send(text: string, descriptors: readonly number[] = []): void {
    this.#attempt(() => notify(this.#socket, text, descriptors));
  }

  #barrier(): void {
    this.#attempt(() => notifyBarrier(this.#socket, BARRIER_MS));
  }

  #attempt(work: () => void): void {
    if (this.#isDeaf) return;
    try {
      work();
    } catch (error) {
      if (!(error instanceof WeftError)) throw error;
      this.#isDeaf = true;
      this.#onFailure(error);
    }
  }
}

function oneLine(text: string): string {
  return text.replaceAll('\n', ' ');
}
