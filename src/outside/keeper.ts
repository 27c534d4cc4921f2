/**
 * The life cycle of the outside: it is opened when the first network wants it and
 * closed when none does any more.
 *
 * Everything else works without it. So where nobody has just asked for it, a failure
 * is logged when it is news, told by `report`, and tried again (`keep`, `mend`);
 * whoever does ask for it is told at once (`set`).
 *
 * link.ts has what it consists of. Callers serialize the changing methods.
 */
import { forgetStaleUdp } from '../addon/host-connections.ts';
import { formatMac, parseIp, type PortNo } from '../flow/types.ts';
import type { Forwarding, Published } from '../forwarding.ts';
import { hasIpv6 } from '../link/host-forwarding.ts';
import { OWN_NETNS } from '../link/netns.ts';
import { openOutside, OUTSIDE_IFNAME, removeLeftOutside, transit, type OutsideLink } from './link.ts';
import { inspectOutside, type OutsideState } from './state.ts';
import type { AllowHost } from './rules.ts';
import type { PublishedPort } from '../model/publish.ts';
import type { StatusReport } from '../model/report.ts';
import { OUTSIDE_HOST_MAC, OUTSIDE_MAC } from '../table/topology.ts';

/** Of weft0, in bytes. */
const MTU = 1500;

export interface OutsideKeeperOptions {
  readonly forwarding: Forwarding;
  /** Of weft0, in the switch. */
  readonly portNo: PortNo;
  /** Has a network a way to the outside? */
  readonly isWanted: () => boolean;
  /** The host's ports that are published. */
  readonly published: () => readonly PublishedPort[];
  /** Where they lead, as the switch has it. */
  readonly targets: () => ReadonlyMap<string, Published>;
  readonly allowHost: AllowHost;
  /** UDP port of this host's overlay. */
  readonly vxlanPort: number;
  readonly warn: (message: string, details: object) => void;
  /** It is not as it should be, which is news. */
  readonly onFailure: (error: unknown) => void;
}

export class OutsideKeeper {
  readonly #options: OutsideKeeperOptions;
  #outside: OutsideLink | undefined;
  /** Why it is not open, or could not be kept up. */
  #failure: string | undefined;

  constructor(options: OutsideKeeperOptions) {
    this.#options = options;
  }

  /** Has a network a way to the outside? */
  get isWanted(): boolean {
    return this.#options.isWanted();
  }

  /** For `status`; null where it is not wanted. */
  report(): StatusReport['outside'] {
    if (!this.isWanted) return null;
    const why = this.#failure;
    return { open: this.#outside !== undefined, ...(why !== undefined && { why }) };
  }

  /** For `doctor`. It looks, and changes nothing. */
  inspect(): Promise<OutsideState> {
    return inspectOutside(this.#outside, this.#options.allowHost);
  }

  /** To be called once, before any other change: opens it, or removes what a crash has left of it. Never throws. */
  start(): Promise<void> {
    return this.#keep(() => (this.isWanted ? this.#change(true) : this.#removeLeft()));
  }

  /**
   * Opens, updates or closes it, and mends what other programs have changed.
   * @param isWanted by default as the networks say
   * @throws WeftError, which `report` tells from then on
   */
  set(isWanted = this.isWanted): Promise<void> {
    return this.#note(async () => {
      await this.#change(isWanted);
      await this.#mend();
    });
  }

  /** Opens, updates or closes it, as the networks say. Never throws. */
  keep(): Promise<void> {
    return this.#keep(() => this.#change(this.isWanted));
  }

  /** Mends what other programs have changed, or opens what could not be opened. Never throws. */
  mend(): Promise<void> {
    return this.#outside ? this.#keep(() => this.#mend()) : this.keep();
  }

  /** Its port has stopped by itself: what is left of it goes. The next `keep` opens it again. Never throws. */
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
    const { forwarding, portNo, allowHost, vxlanPort, warn } = this.#options;
    const published = this.#options.published();
    const link = {
      portNo,
      transit: [transit.ip4.weft, ...(hasIpv6() ? [transit.ip6.weft] : [])].map(parseIp),
      mtu: MTU,
      published: this.#options.targets(),
    };
    if (this.#outside) {
      forwarding.setOutside(link);
      return this.#outside.update(published);
    }
    const tap = { kind: 'tap', name: OUTSIDE_IFNAME, netns: OWN_NETNS, ifname: OUTSIDE_IFNAME } as const;
    this.#outside = await openOutside({
      ifname: OUTSIDE_IFNAME,
      transit,
      hostMac: formatMac(OUTSIDE_HOST_MAC),
      weftMac: formatMac(OUTSIDE_MAC),
      mtu: MTU,
      published,
      allowHost,
      vxlanPort,
      openLink: () => forwarding.setOutside(link, tap)!.ifindex,
      closeLink: () => forwarding.removeOutside(),
      forgetStaleUdp,
      warn,
    });
  }

  async #mend(): Promise<void> {
    if (this.#outside && !(await this.#outside.hasLink())) {
      this.#options.warn(`${OUTSIDE_IFNAME} was renamed, moved or replaced by another program: it is opened anew`, {});
      await this.close();
      await this.#change(true);
    }
    const mended = (await this.#outside?.renew()) ?? [];
    if (mended.length > 0) this.#options.warn('the outside is whole again: somebody had changed it', { mended });
  }

  async #removeLeft(): Promise<void> {
    const isRemoved = await removeLeftOutside({ ifname: OUTSIDE_IFNAME, hostMac: formatMac(OUTSIDE_HOST_MAC) });
    if (isRemoved) this.#options.warn('an outside that a crash has left was removed: no network wants it', {});
  }
}
