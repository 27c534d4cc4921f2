/** The ports of the reference datapath, and the kernel's side of those that have one. */
import { WeftError } from '../../error.ts';
import type { TapPlace } from '../../flow/tap.ts';
import type { PortNo } from '../../flow/types.ts';
import { isTunnel, portNumberRefusal, type PortOpened, type PortSpec, type TunnelSpec } from '../datapath.ts';
import type { KernelIo } from './kernel-io.ts';

export type LocalSpec = Extract<PortSpec, { kind: 'memory' | 'tap' }>;

export interface Tunnel {
  readonly port: PortNo;
  readonly spec: TunnelSpec;
}

export class Ports {
  readonly #openIo: () => KernelIo;
  readonly #specs = new Map<PortNo, PortSpec>();
  #tunnel: Tunnel | undefined;
  #io: KernelIo | undefined;

  /** @param openIo called once, when the first kernel port is added; may throw a WeftError */
  constructor(openIo: () => KernelIo) {
    this.#openIo = openIo;
  }

  get numbers(): PortNo[] {
    return [...this.#specs.keys()];
  }

  /** There is at most one. */
  get tunnel(): Tunnel | undefined {
    return this.#tunnel;
  }

  /** May be used only if there is, or was, a kernel port. */
  get io(): KernelIo {
    return this.#io!;
  }

  get(port: PortNo): PortSpec | undefined {
    return this.#specs.get(port);
  }

  add(port: PortNo, spec: PortSpec): PortOpened {
    const refused = portNumberRefusal(port);
    if (refused) return refused;
    if (this.#specs.has(port)) return new WeftError('conflict', `port ${port} exists already`);
    const tunnel = isTunnel(spec) ? { port, spec } : undefined;
    if (tunnel && this.#tunnel) {
      return new WeftError('conflict', `port ${port}: port ${this.#tunnel.port} is the VXLAN port already`);
    }
    try {
      const opened = this.#open(port, spec);
      if (tunnel) this.#tunnel = tunnel;
      this.#specs.set(port, spec);
      return opened;
    } catch (error) {
      if (error instanceof WeftError) return error;
      throw error;
    }
  }

  #open(port: PortNo, spec: PortSpec): PortOpened {
    if (spec.kind === 'tap' || spec.kind === 'vxlan') this.#io ??= this.#openIo();
    if (spec.kind === 'tap') return this.io.addTap(port, spec);
    if (spec.kind === 'vxlan') this.io.openUnderlay(port, spec.local, spec.l4Port);
    return undefined;
  }

  /** @returns what was restored on its TAP */
  renew(port: PortNo): string[] {
    return this.get(port)?.kind === 'tap' ? this.io.renewTap(port) : [];
  }

  /** Where its TAP is. */
  place(port: PortNo): TapPlace | undefined {
    return this.get(port)?.kind === 'tap' ? this.io.findTap(port) : undefined;
  }

  /**
   * Removes the port, so that frames no longer find it; `close` then closes its kernel side. @returns its specification
   */
  delete(port: PortNo): PortSpec | undefined {
    const spec = this.#specs.get(port);
    this.#specs.delete(port);
    if (this.#tunnel?.port === port) this.#tunnel = undefined;
    return spec;
  }

  closePort(port: PortNo, spec: PortSpec, keep: boolean): void {
    if (spec.kind === 'tap' || spec.kind === 'vxlan') this.io.remove(port, keep);
  }

  get hasIo(): boolean {
    return this.#io !== undefined;
  }

  /** Nothing arrives any more. */
  stopIo(): void {
    this.#io?.stop();
  }

  closeIo(): void {
    this.#io?.close();
  }
}
