/**
 * This host's own end of the overlay: the address by which other hosts know it, and the port of the
 * tunnel at that address.
 *
 * The address appears when the network below weft does: late at boot, or again after a cable, a
 * lease or a link was away. The daemon waits for it. Meanwhile the networks of this host forward
 * between its containers, `report` says what it waits for, and `keep`, about once a second, opens
 * the port as soon as possible. An address that goes away takes nothing down: the kernel's sockets
 * work again when it is back.
 *
 * Without an address in the configuration, it is the address from which the kernel reaches the
 * first peer, and it changes when that one goes.
 */
import { WeftError } from '../error.ts';
import { formatIp, parseIp, sameBytes, type PortNo } from '../flow/types.ts';
import type { Forwarding } from '../forwarding.ts';
import { findAddress, underlayFor, underlayInterface } from '../link/underlay.ts';

export interface UnderlayOptions {
  readonly forwarding: Pick<Forwarding, 'openUnderlay' | 'closeUnderlay'>;
  readonly portNo: PortNo;
  readonly l4Port: number;
  /** From the configuration. */
  readonly address: string | undefined;
  /** The address of the first peer, or of something else that is reached over the underlay. */
  readonly peer: string | undefined;
  /** The other weft on this machine that has the port, if that is so. Takes long: it is not asked each second. */
  readonly keptFor: (l4Port: number) => { readonly state: string; readonly isRunning: boolean } | undefined;
  /** Called when it changes: open, or waiting and for what. */
  readonly onChange: (report: UnderlayReport) => void;
}

export interface UnderlayReport {
  readonly open: boolean;
  /** What it waits for if it is not open. */
  readonly why?: string;
}

const LOOPBACK_MTU = 1500;
const LARGEST_MTU = 9000;
/** After so many attempts to open the port, it is asked again who has it: about a quarter of a minute. */
const ASKED_TIMES = 15;

export class Underlay {
  readonly #options: UnderlayOptions;
  #address: Uint8Array | undefined;
  #hasPort = false;
  #why: string | undefined;
  /** What the kernel said last of a port that it did not open, who has that, and how often it said so since. */
  #taken: { readonly message: string; readonly why: string; times: number } | undefined;
  #keeping: Promise<void> | undefined;
  #isClosed = false;

  constructor(options: UnderlayOptions) {
    this.#options = options;
    this.#address = options.address === undefined ? undefined : parseIp(options.address);
    this.#why = this.isWanted ? 'not opened yet' : undefined;
  }

  /** Does this host have other hosts to reach, or an address for them? */
  get isWanted(): boolean {
    return this.#options.address !== undefined || this.#options.peer !== undefined;
  }

  /** 16 bytes; undefined if there is none, or while it cannot be determined. */
  get address(): Uint8Array | undefined {
    return this.#address;
  }

  get addressText(): string | undefined {
    return this.#address && formatIp(this.#address);
  }

  /** Bytes that encapsulation costs: outer IP, UDP and VXLAN headers, and the inner Ethernet one. */
  get encapBytes(): number {
    return (this.addressText ?? this.#options.peer)?.includes(':') ? 70 : 50;
  }

  /** Undefined if no underlay is needed. */
  report(): UnderlayReport | undefined {
    if (!this.isWanted) return undefined;
    return this.#why === undefined ? { open: true } : { open: false, why: this.#why };
  }

  /**
   * Opens what can be opened, and checks whether it still is. Calls during another one wait for that one. Never throws.
   */
  keep(): Promise<void> {
    if (!this.isWanted || this.#isClosed) return Promise.resolve();
    return (this.#keeping ??= this.#keep().finally(() => (this.#keeping = undefined)));
  }

  /** The port stopped by itself: the next `keep` opens it again. */
  lost(why: string): void {
    this.#close();
    this.#note(`it is opened again: ${why}`);
  }

  /** No `keep` opens anything from now on. */
  close(): void {
    this.#isClosed = true;
  }

  /** The MTU of new networks: what fits into the underlay. @throws WeftError if that is not known yet */
  async defaultMtu(): Promise<number> {
    if (!this.isWanted) return LOOPBACK_MTU;
    const address = this.addressText;
    const isMissing = address === undefined ? this.#why : await findAddress(address);
    if (address === undefined || isMissing !== undefined) {
      throw new WeftError(
        'conflict',
        `the MTU depends on the underlay, and that is waited for (${isMissing}): give --mtu`,
      );
    }
    const { mtu, isLoopback } = await underlayInterface(address);
    return isLoopback ? LOOPBACK_MTU : Math.min(LARGEST_MTU, mtu - this.encapBytes);
  }

  /** The MTU of its interface; undefined while that is not known. */
  async mtu(): Promise<number | undefined> {
    const address = this.addressText;
    if (address === undefined || (await findAddress(address)) !== undefined) return undefined;
    return (await underlayInterface(address)).mtu;
  }

  async #keep(): Promise<void> {
    try {
      this.#note(await this.#open());
      this.#taken = undefined;
    } catch (error) {
      this.#note(this.#whyNot(error as Error));
    }
  }

  #whyNot(error: Error): string {
    if (!(error instanceof WeftError) || error.code !== 'conflict') return error.message;
    if (this.#taken?.message !== error.message || this.#taken.times >= ASKED_TIMES) {
      this.#taken = { message: error.message, why: this.#whoHasIt() ?? error.message, times: 0 };
    }
    this.#taken.times++;
    return this.#taken.why;
  }

  #whoHasIt(): string | undefined {
    const { l4Port, keptFor } = this.#options;
    const other = keptFor(l4Port);
    if (!other) return undefined;
    const { state, isRunning } = other;
    return isRunning
      ? `UDP port ${l4Port} is in use by weft with the state directory ${state}, which runs: stop that one, or choose another port with vxlanPort in the configuration, the same on every host`
      : `UDP port ${l4Port} is kept open for weft with the state directory ${state}, which was killed: wait, it is released a minute after that, or give weft up --state ${state}`;
  }

  /** @returns what it waits for @throws WeftError that says so */
  async #open(): Promise<string | undefined> {
    const { forwarding, portNo, l4Port, peer, address: configured } = this.#options;
    let missing = this.#address && (await findAddress(formatIp(this.#address)));
    if (configured === undefined && (this.#address === undefined || missing !== undefined)) {
      const found = parseIp(await underlayFor(peer!));
      if (this.#address && !sameBytes(found, this.#address)) this.#close();
      this.#address = found;
      missing = undefined;
    }
    if (missing !== undefined || this.#hasPort || this.#isClosed) return missing;
    forwarding.openUnderlay(portNo, { kind: 'vxlan', name: 'underlay', local: this.#address!, l4Port });
    this.#hasPort = true;
    return undefined;
  }

  #close(): void {
    if (this.#hasPort) this.#options.forwarding.closeUnderlay(this.#options.portNo);
    this.#hasPort = false;
  }

  #note(why: string | undefined): void {
    if (why === this.#why) return;
    this.#why = why;
    this.#options.onChange(this.report()!);
  }
}
