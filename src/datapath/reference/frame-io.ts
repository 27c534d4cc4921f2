/**
 * Frames from and to the kernel for the reference datapath: TAPs and the VXLAN
 * sockets of the addon, without its datapath. native/io/frame_io.h has the how.
 */
import { loadAddon } from '../../addon/addon.ts';
import { errnoName, ioError, lostText } from '../../addon/io-error.ts';
import type { NativeFrameIo } from '../../addon/native-frame-io.ts';
import { renewedText, tapTarget, type TapSpec } from '../../addon/tap.ts';
import { WeftError } from '../../error.ts';
import { reasonName, type DropReason } from '../../flow/reason.ts';
import type { TapOpened } from '../../flow/tap.ts';
import type { PortNo } from '../../flow/types.ts';
import { concat } from '../../wire/bytes.ts';
import type { Frame } from './offload.ts';
import type { KernelIo, ReceivedFrame, Refused } from './kernel-io.ts';

/** `kNoDrop` of native/reason.h. */
const SENT = 255;

export class FrameIo implements KernelIo {
  readonly #native: NativeFrameIo;

  /**
   * @param onWake frames wait after none did; may also be called when none do
   * @param onLost a port reads no more, and `why`; it stays until `remove`
   */
  constructor(onWake: () => void, onLost: (port: PortNo, why: string) => void) {
    const notify = (): void => {
      for (const { port, errno } of this.#native.takeLost()) onLost(port, lostText(errno));
      onWake();
    };
    // What is thrown inside a native callback would only become a warning.
    this.#native = new (loadAddon().FrameIo)(() => queueMicrotask(notify));
  }

  /** Makes or re-attaches a TAP as `PortSpec` has it. @throws WeftError, nothing is left behind. */
  addTap(port: PortNo, spec: TapSpec): TapOpened {
    const opened = this.#native.addTap(port, tapTarget(spec));
    if (typeof opened === 'number') throw ioError(-opened, { kind: 'tap', ...spec });
    return opened;
  }

  /** Puts back what others have changed of the port's TAP. @returns what that was */
  renewTap(port: PortNo): string[] {
    return renewedText(this.#native.renewTap(port));
  }

  /** @param local 16 bytes, IPv4-mapped or IPv6. @throws WeftError, nothing is left behind. */
  openUnderlay(port: PortNo, local: Uint8Array, l4Port: number): void {
    const error = this.#native.openUnderlay(port, local, l4Port);
    if (error !== 0) throw ioError(-error, { kind: 'vxlan', local, l4Port });
  }

  /** Closes a port and throws away what it received. With `keep` a TAP stays where it is, for a later `addTap`. */
  remove(port: PortNo, keep: boolean): void {
    const error = this.#native.remove(port, keep);
    if (error !== 0) throw new WeftError('system', `port ${port} could not be removed (${errnoName(-error)})`);
  }

  /** Up to `max` frames that the caller owns. After fewer than `max`, `onWake` tells of the next. */
  take(max: number): ReceivedFrame[] {
    return this.#native
      .take(max)
      .map(({ port, bytes, source, tos, ...offload }) => ({ port, bytes, source, tos, offload }));
  }

  /** What the TAP takes: native/io/tap.h. */
  offloads(port: PortNo): number {
    return this.#native.offloads(port);
  }

  /** Writes an Ethernet frame that asks for no more than the TAP takes. The reason if the kernel refused it. */
  send(port: PortNo, { bytes, offload }: Frame): DropReason | undefined {
    const { flags, gsoType, gsoSize, csumStart, csumOffset } = offload;
    return reasonOf(this.#native.send(port, bytes, flags, gsoType, gsoSize, csumStart, csumOffset));
  }

  /**
   * Sends `payloads`, VXLAN headers first, to `remote` (16 bytes) from a source
   * port that `entropy` chooses, with `tos` in the outer header. All have the length of the first, but the last
   * may be shorter.
   */
  sendUnderlay(remote: Uint8Array, entropy: number, tos: number, payloads: readonly Uint8Array[]): Refused | undefined {
    const result = this.#native.sendUnderlay(remote, entropy, tos, concat(...payloads), payloads[0]!.length);
    const reason = reasonOf(result & 0xff);
    return reason && { reason, datagrams: result >>> 8 };
  }

  /** Closes everything; TAPs stay. */
  close(): void {
    this.#native.close();
  }
}

function reasonOf(number: number): DropReason | undefined {
  return number === SENT ? undefined : reasonName(number);
}
