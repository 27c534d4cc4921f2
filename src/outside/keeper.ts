/**
 * The life cycle of the outside: it is opened when the first network or service needs it and closed when
 * the last one no longer does.
 *
 * Everything else works without it. So unless somebody is just asking for it, a failure is
 * logged when it is new, shown by `report`, and retried (`keep`, `mend`). Whoever asks for it
 * gets the error at once (`set`).
 *
 * link.ts has its parts. Callers serialize the changing methods.
 */
import { forgetStaleUdp } from '../addon/host-connections.ts';
import { formatMac, parseIp, type PortNo } from '../flow/types.ts';
import type { Forwarding, Published } from '../forwarding.ts';
import { hasIpv6 } from '../link/host-forwarding.ts';
import { loopbackPorts } from '../link/listeners.ts';
import { OWN_NETNS, ownNetns, type NetnsRef } from '../link/netns.ts';
import { KeptRules } from './kept-rules.ts';
import { openOutside, OUTSIDE_IFNAME, removeLeftOutside, transit, type LeftOpen, type OutsideLink } from './link.ts';
import { inspectOutside, type OutsideState } from './state.ts';
import type { AllowHost } from './rules.ts';
import { portText, type Entries, type PublishedPort } from '../model/publish.ts';
import type { StatusReport } from '../model/report.ts';
import { OUTSIDE_HOST_MAC, OUTSIDE_MAC } from '../table/topology.ts';

/** MTU of weft0, in bytes. */
const MTU = 1500;

export interface OutsideKeeperOptions {
  readonly forwarding: Forwarding;
  /** Port of weft0 in the switch. */
  readonly portNo: PortNo;
  /** Does any network have an outside, or is any service reached from there? */
  readonly isWanted: () => boolean;
  /** What is published on this host. */
  readonly entries: () => Entries;
  /** Where the published ports of endpoints lead, in the form that the switch needs. */
  readonly targets: () => ReadonlyMap<string, Published>;
  readonly allowHost: AllowHost;
  /** UDP port of this host's overlay. */
  readonly vxlanPort: number;
  /** Is a TAP in this namespace open here already, and who has left it? */
  readonly left: (ns: NetnsRef) => LeftOpen | undefined;
  /** The file for the table that was loaded last. */
  readonly keptRules: string;
  readonly warn: (message: string, details: object) => void;
  /** Something is wrong with it that was not wrong before. */
  readonly onFailure: (error: unknown) => void;
}

export class OutsideKeeper {
  readonly #options: OutsideKeeperOptions;
  readonly #kept: KeptRules;
  #outside: OutsideLink | undefined;
  #hasStarted = false;
  /** The ports that programs of the host had at 127.0.0.1 when that was looked at, and for which published ones that was. */
  #ofPrograms: ReadonlySet<string> = new Set();
  #lookedFor = '';
  /** Why it is not open, or could not be kept as it should be. */
  #failure: string | undefined;

  constructor(options: OutsideKeeperOptions) {
    this.#options = options;
    this.#kept = new KeptRules(options.keptRules);
  }

  /**
   * Call it before what is declared is read: after a crash, the rules of before are loaded meanwhile, if they are not in force
   * any more, and `start` waits only for those. Never throws.
   */
  async prepare(): Promise<void> {
    const ns = await ownNetns().catch(() => undefined);
    if (ns && this.#options.left(ns) === 'held') this.#kept.loadAhead();
  }

  /** Does anything need it? */
  get isWanted(): boolean {
    return this.#options.isWanted();
  }

  /** Is something left to do that could wait until weft forwards? `mend` does it. */
  get isUnfinished(): boolean {
    return this.#outside?.isFinished === false;
  }

  /** For `status`; null if nothing needs it. */
  report(): StatusReport['outside'] {
    if (!this.isWanted) return null;
    const why = this.#failure;
    return { open: this.#outside !== undefined, ...(why !== undefined && { why }) };
  }

  /** For `doctor`. Changes nothing. */
  inspect(): Promise<OutsideState> {
    return inspectOutside(this.#outside, this.#options.allowHost);
  }

  /** Call it once, before any other change: opens the outside, or removes what a crash has left of it. Never throws. */
  async start(): Promise<void> {
    await this.#keep(() => (this.isWanted ? this.#change(true) : this.#removeLeft()));
    this.#hasStarted = true;
  }

  /** False before `start` is done: nobody outside can be told anything yet. */
  get hasStarted(): boolean {
    return this.#hasStarted;
  }

  /**
   * Opens, updates or closes it, and restores what other programs have changed.
   * @param isWanted by default, whether anything needs it
   * @throws WeftError, which `report` shows from then on
   */
  set(isWanted = this.isWanted): Promise<void> {
    return this.#note(async () => {
      await this.#change(isWanted);
      await this.#mend();
    });
  }

  /** Opens, updates or closes it, as it is needed. Never throws. */
  keep(): Promise<void> {
    return this.#keep(() => this.#change(this.isWanted));
  }

  /** Restores what other programs have changed, or opens what could not be opened before. Never throws. */
  mend(): Promise<void> {
    return this.#outside ? this.#keep(() => this.#mend()) : this.keep();
  }

  /** Its port has stopped by itself, so the rest of it is removed. The next `keep` opens it again. Never throws. */
  lost(): Promise<void> {
    return this.#keep(() => this.close());
  }

  /** @throws WeftError */
  async close(): Promise<void> {
    const outside = this.#outside;
    if (!outside) return;
    this.#outside = undefined;
    await outside.close();
  }

  async #keep(change: () => Promise<void>): Promise<void> {
    const before = this.#failure;
    await this.#note(change).catch((error: unknown) => {
      if (this.#failure !== before) this.#options.onFailure(error);
    });
  }

  async #note(change: () => Promise<void>): Promise<void> {
    try {
      await change();
      this.#failure = undefined;
    } catch (error) {
      this.#failure = (error as Error).message;
      throw error;
    }
  }

  async #change(isWanted: boolean): Promise<void> {
    if (!isWanted) return this.close();
    const { forwarding, portNo, allowHost, vxlanPort, left, warn } = this.#options;
    if (portsText(this.#options.entries()) !== this.#lookedFor) await this.#look();
    const entries = this.#entries();
    const link = {
      portNo,
      transit: [transit.ip4.weft, ...(hasIpv6() ? [transit.ip6.weft] : [])].map(parseIp),
      mtu: MTU,
      published: this.#options.targets(),
    };
    if (this.#outside) {
      forwarding.setOutside(link);
      return this.#outside.update(entries);
    }
    const tap = { kind: 'tap', name: OUTSIDE_IFNAME, netns: OWN_NETNS, ifname: OUTSIDE_IFNAME } as const;
    this.#outside = await openOutside({
      ifname: OUTSIDE_IFNAME,
      transit,
      hostMac: formatMac(OUTSIDE_HOST_MAC),
      weftMac: formatMac(OUTSIDE_MAC),
      mtu: MTU,
      entries,
      allowHost,
      vxlanPort,
      openLink: () => forwarding.setOutside(link, tap)!.ifindex,
      closeLink: () => forwarding.removeOutside(),
      forgetStaleUdp,
      left,
      kept: this.#kept,
      warn,
    });
  }

  #entries(): Entries {
    const { ports, addresses } = this.#options.entries();
    const isAtLoopback = (port: PublishedPort): boolean =>
      mayBeAtLoopback(port) && !this.#ofPrograms.has(portText(port));
    return { addresses, ports: ports.map((port) => ({ ...port, isAtLoopback: isAtLoopback(port) })) };
  }

  /**
   * At 127.0.0.1, a program of the host that listens there comes first. With tens of thousands of sockets that takes a while, so it
   * is not done for each change.
   */
  async #look(): Promise<void> {
    this.#lookedFor = portsText(this.#options.entries());
    this.#ofPrograms = this.#lookedFor === '' ? new Set() : await loopbackPorts();
  }

  async #mend(): Promise<void> {
    if (this.#outside && !this.#outside.isFinished) await this.#outside.finish();
    if (this.#outside && !(await this.#outside.hasLink())) {
      this.#options.warn(`${OUTSIDE_IFNAME} was renamed, moved or replaced by another program: it is opened again`, {});
      await this.close();
      await this.#change(true);
    }
    // Programs of the host begin to listen, and end.
    await this.#look();
    await this.#outside?.update(this.#entries());
    const mended = (await this.#outside?.renew()) ?? [];
    if (mended.length > 0) this.#options.warn('the outside was restored: another program had changed it', { mended });
  }

  async #removeLeft(): Promise<void> {
    const isRemoved = await removeLeftOutside({
      ifname: OUTSIDE_IFNAME,
      hostMac: formatMac(OUTSIDE_HOST_MAC),
      left: this.#options.left,
      kept: this.#kept,
    });
    if (isRemoved) this.#options.warn('removed an outside that a crash had left behind: nothing needs one', {});
  }
}

function mayBeAtLoopback({ family, hostIp }: PublishedPort): boolean {
  return family === 4 && hostIp === undefined;
}

function portsText({ ports }: Entries): string {
  return ports.filter(mayBeAtLoopback).map(portText).join();
}
