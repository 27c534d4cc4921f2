/**
 * Frames from and to the kernel for the reference datapath. It uses the addon's TAPs and VXLAN
 * sockets, but not the addon's datapath. native/io/frame_io.h explains how they work.
 */
import { loadAddon } from '../../addon/addon.ts';
import { errnoName, ioError, lostText } from '../../addon/io-error.ts';
import type { NativeFrameIo } from '../../addon/native-frame-io.ts';
import { foundTap, renewedText, tapTarget, type TapSpec } from '../../addon/tap.ts';
import { WeftError } from '../../error.ts';
import { socketDescriptors, tapDescriptors, type PortDescriptors } from '../../flow/descriptors.ts';
import { PARKED_PER_FLOW } from '../../flow/bounds.ts';
import { reasonName, type DropReason } from '../../flow/reason.ts';
import type { TapOpened, TapPlace } from '../../flow/tap.ts';
import type { PortNo } from '../../flow/types.ts';
import { concat } from '../../wire/bytes.ts';
import type { Frame } from './offload.ts';
import type { KernelIo, ReceivedFrame, Refused } from './kernel-io.ts';

/** `kNoDrop` of native/reason.h. */
const SENT = 255;

export class FrameIo implements KernelIo {
  readonly #native: NativeFrameIo;
  readonly #descriptors: PortDescriptors | undefined;
  /** The names of the descriptors of ports. */
  readonly #names = new Map<PortNo, string>();
  readonly #onWake: () => void;
  /** Frames may have waited in what it has opened, because another process had it. */
  #hasBacklog = false;

  /**
   * @param onWake called when frames wait and none did before; may also be called when none wait
   * @param onLost called when a port no longer reads, with the reason; the port stays until `remove`
   */
  constructor(onWake: () => void, onLost: (port: PortNo, why: string) => void, descriptors?: PortDescriptors) {
    this.#descriptors = descriptors;
    this.#onWake = onWake;
    const notify = (): void => {
      for (const { port, errno } of this.#native.takeLost()) onLost(port, lostText(errno));
      onWake();
    };
    // An exception inside a native callback would only become a warning.
    this.#native = new (loadAddon().FrameIo)(() => queueMicrotask(notify));
  }

  /** Creates a TAP or attaches to an existing one, as `PortSpec` says. @throws WeftError, leaving nothing behind. */
  addTap(port: PortNo, spec: TapSpec): TapOpened {
    const opened = this.#native.addTap(port, tapTarget(spec), this.#descriptors?.spareTaps() ?? []);
    if (typeof opened === 'number') throw ioError(-opened, { kind: 'tap', ...spec });
    if (!spec.isTransient) this.#opened(port, tapDescriptors(opened));
    return opened;
  }

  /** Restores what others have changed on the port's TAP. @returns what that was */
  renewTap(port: PortNo): string[] {
    return renewedText(this.#native.renewTap(port));
  }

  /** Where the port's TAP is; undefined if it is gone, or the kernel does not say. */
  findTap(port: PortNo): TapPlace | undefined {
    return foundTap(this.#native.findTap(port));
  }

  /** @param local 16 bytes, IPv4-mapped or IPv6. @throws WeftError, leaving nothing behind. */
  openUnderlay(port: PortNo, local: Uint8Array, l4Port: number): void {
    const name = socketDescriptors(local, l4Port);
    const [spare = -1] = this.#descriptors?.spare(name) ?? [];
    const error = this.#native.openUnderlay(port, local, l4Port, spare);
    if (error !== 0) throw ioError(-error, { kind: 'vxlan', local, l4Port });
    this.#opened(port, name);
  }

  #opened(port: PortNo, name: string): void {
    if (!this.#descriptors) return;
    this.#hasBacklog ||= this.#descriptors.spare(name).length > 0;
    this.#names.set(port, name);
    this.#descriptors.opened(name, [this.#native.descriptor(port)]);
  }

  /** Closes a port and discards what it has received. With `keep`, a TAP stays in place for a later `addTap`. */
  remove(port: PortNo, keep: boolean): void {
    const name = this.#names.get(port);
    this.#names.delete(port);
    if (name !== undefined) this.#descriptors?.closing(name);
    const error = this.#native.remove(port, keep);
    if (error !== 0) throw new WeftError('system', `port ${port} could not be removed (${errnoName(-error)})`);
  }

  /**
   * Up to `max` frames, which belong to the caller. After fewer than `max`, `onWake` announces the next ones. Those that
   * have waited are so few at once that they can be parked behind one undecided flow.
   */
  take(max: number): ReceivedFrame[] {
    const most = this.#hasBacklog ? PARKED_PER_FLOW : max;
    const taken = this.#native.take(most);
    if (this.#hasBacklog && taken.length === most) this.#onWake();
    if (taken.length < most) this.#hasBacklog = false;
    return taken.map(({ port, bytes, source, tos, ...offload }) => ({ port, bytes, source, tos, offload }));
  }

  readUntil(nowMs: number): number {
    return this.#native.readUntil(nowMs);
  }

  /** The offloads that the TAP accepts: see native/io/tap.h. */
  offloads(port: PortNo): number {
    return this.#native.offloads(port);
  }

  /**
   * Writes an Ethernet frame that needs no more offloads than the TAP accepts. Returns the drop reason if the kernel
   * refused.
   */
  send(port: PortNo, { bytes, offload }: Frame): DropReason | undefined {
    const { flags, gsoType, gsoSize, csumStart, csumOffset } = offload;
    return reasonOf(this.#native.send(port, bytes, flags, gsoType, gsoSize, csumStart, csumOffset));
  }

  /**
   * Sends `payloads`, which begin with their VXLAN headers, to `remote` (16 bytes). `entropy` chooses the source port,
   * and `tos` goes into the outer header. All payloads are as long as the first, except that the last may be shorter.
   */
  sendUnderlay(remote: Uint8Array, entropy: number, tos: number, payloads: readonly Uint8Array[]): Refused | undefined {
    const result = this.#native.sendUnderlay(remote, entropy, tos, concat(...payloads), payloads[0]!.length);
    const reason = reasonOf(result & 0xff);
    return reason && { reason, datagrams: result >>> 8 };
  }

  stop(): void {
    this.#native.stop();
  }

  /** Closes everything. TAPs stay in place. */
  close(): void {
    this.#native.close();
  }
}

function reasonOf(number: number): DropReason | undefined {
  return number === SENT ? undefined : reasonName(number);
}
