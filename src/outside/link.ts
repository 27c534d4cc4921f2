/**
 * The host's side of the outside: an interface (`weft0`) between the switch and the host that
 * it runs on, IP forwarding, and the rules for what may pass.
 *
 *   container ─ switch ── weft0 ── host ── the world
 *                      ▲     ▲
 *       transit address ┘     └ the host's end of the link
 *
 * Packets that leave through weft0 have the switch's transit address as source and a port that
 * the switch chose; the host masquerades them. A published port arrives at the transit address,
 * at the same port, and the switch knows which endpoint or service it belongs to. The address of a
 * service arrives there at the service's node port.
 *
 * Nothing ever passes without the rules. They are in force before the caller opens the
 * interface (`openLink`), a TAP in `OWN_NETNS`, and are removed after it is gone (`closeLink`).
 * A crash leaves the interface up, and somebody may have flushed the rules since: the next
 * start takes the interface over, after loading the rules again. Only a daemon that takes over
 * from a running one opens the interface first, since the rules are those of a moment ago, and
 * does the rest when it forwards (`finish`).
 *
 * It acts on the network namespace that this process is in. Calls to one `OutsideLink` are made
 * one after the other.
 */
import { networkInterfaces } from 'node:os';
import { rulesetGeneration } from '../addon/netns.ts';
import { WeftError } from '../error.ts';
import { parseIp } from '../flow/types.ts';
import { hasIpv6 } from '../link/host-forwarding.ts';
import { findTap, type InterfaceConfig } from '../link/interface.ts';
import { firstLine, ip, ipBatch } from '../link/ip.ts';
import { ownNetns, type NetnsRef } from '../link/netns.ts';
import { listTable, loadRules, ruleNumbers } from '../link/nft.ts';
import type { Entries } from '../model/publish.ts';
import { forwardingFact, linkFact, type Fact } from './facts.ts';
import type { KeptRules } from './kept-rules.ts';
import { entriesText, noTableText, TABLE, tableText, transitPrefixes, type AllowHost, type Transit } from './rules.ts';

export const OUTSIDE_IFNAME = 'weft0';

/** The same on every host, because it is used on that link only: RFC 3927 and RFC 4193; `77 65 66 74` is "weft". */
export const transit: Transit = {
  ip4: { host: '169.254.77.1', weft: '169.254.77.2', prefixLength: 30 },
  ip6: { host: 'fd77:6566:7430::1', weft: 'fd77:6566:7430::2', prefixLength: 126 },
};

/**
 * An interface that this process has open already: a daemon that was killed had it, some time ago, or one that has
 * forwarded until just now, with the rules in force.
 */
export type LeftOpen = 'held' | 'continued';

export interface OutsideOptions {
  readonly ifname: string;
  readonly transit: Transit;
  /** MAC of the interface, to which the switch sends. */
  readonly hostMac: string;
  /** MAC of the switch, to which the host sends; it is a static neighbor. */
  readonly weftMac: string;
  /** At least 1280 if there is IPv6. */
  readonly mtu: number;
  readonly entries: Entries;
  readonly allowHost: AllowHost;
  /** UDP port of this host's overlay. */
  readonly vxlanPort: number;
  /** Creates the interface, or takes over the one that a crash has left, and forwards. @returns its index */
  readonly openLink: () => number;
  /** Removes it, if it was opened. */
  readonly closeLink: () => void;
  /** Makes the kernel decide again about UDP flows that would be translated differently today: `forgetStaleUdp`. */
  readonly forgetStaleUdp: (publishing: {
    readonly own: readonly Uint8Array[];
    readonly targets: readonly Uint8Array[];
    readonly ports: readonly number[];
    readonly fronts: readonly { readonly address: Uint8Array; readonly l4Port: number; readonly targetPort: number }[];
  }) => Promise<void>;
  /** Is a TAP in this namespace open here already, and who has left it? */
  readonly left: (ns: NetnsRef) => LeftOpen | undefined;
  /** The table as it was loaded last. */
  readonly kept: KeptRules;
  readonly warn: (message: string, details: object) => void;
}

/**
 * Loads the rules, opens the interface, and switches on the host's IP forwarding.
 * @throws WeftError `conflict` if the transit network or the interface is in use on the host,
 * `system` if `nft` is missing or the kernel refuses; then neither the interface nor rules
 * are left behind
 */
export async function openOutside(options: OutsideOptions): Promise<OutsideLink> {
  const ns = await ownNetns();
  const hasIp6 = hasIpv6();
  const left = options.left(ns);
  if (left === undefined) {
    const clash = await findTransitClash(ns, options);
    if (clash !== undefined) throw new WeftError('conflict', clash);
    if ((await findTap(ns, options.ifname))?.isOpen) {
      throw new WeftError('conflict', `${options.ifname} is open already: another weft runs on this host`);
    }
  }
  const outside = new OutsideLink(ns, options, hasIp6);
  try {
    await outside.start(left);
  } catch (error) {
    await outside.close().catch(() => {});
    throw error;
  }
  return outside;
}

/**
 * Removes what a crash has left of an outside that no network needs any more: the interface, which is persistent, and
 * the rules. An interface that another process has open is left alone. @returns true if there was something
 */
export async function removeLeftOutside({
  ifname,
  hostMac,
  left,
  kept,
}: Pick<OutsideOptions, 'ifname' | 'hostMac' | 'left' | 'kept'>): Promise<boolean> {
  const ns = await ownNetns();
  await kept.settled();
  const tap = await findTap(ns, ifname);
  if (tap?.isOpen && left(ns) === undefined) return false;
  const isLeft = tap?.mac === hostMac;
  if (isLeft) await ipBatch(ns, [`link delete dev ${ifname}`]);
  const hasTable = (await listTable(TABLE)) !== undefined;
  if (hasTable) await loadRules(noTableText());
  kept.forget();
  return isLeft || hasTable;
}

export class OutsideLink {
  /** False if the host has no IPv6; then no IPv6 passes. */
  readonly hasIp6: boolean;
  readonly #ns: NetnsRef;
  readonly #options: OutsideOptions;
  #entries: Entries;
  /** Index of the interface that was opened; undefined before. */
  #ifindex: number | undefined;
  #isFinished = true;
  /** The table as the kernel accepted it; undefined if it must be loaded. */
  #inForce: string | undefined;
  /** The kernel's numbers of the rules that were loaded. */
  #rules: readonly number[] = [];

  /** Use `openOutside`. */
  constructor(ns: NetnsRef, options: OutsideOptions, hasIp6: boolean) {
    this.#ns = ns;
    this.#options = options;
    this.#entries = options.entries;
    this.hasIp6 = hasIp6;
  }

  async start(left: LeftOpen | undefined): Promise<void> {
    const { openLink, warn } = this.#options;
    const [rules, ...others] = this.facts();
    if (left === 'continued') {
      // Connections wait until it is open. Everything else is as it was a moment ago.
      this.#ifindex = openLink();
      this.#isFinished = false;
      return;
    }
    if (left === 'held') {
      // The interface is as the daemon before has set it up, and with new rules it may carry frames.
      await this.#loadRules();
      this.#ifindex = openLink();
      this.#isFinished = false;
      return;
    }
    await rules.mend();
    this.#ifindex = openLink();
    if (!this.hasIp6) warn('no IPv6 to the outside: the host has none', {});
    for (const fact of others) await fact.mend();
  }

  /** False if the interface was opened as the daemon before has left it. */
  get isFinished(): boolean {
    return this.#isFinished;
  }

  /** Makes all else as this version and its configuration have it. */
  async finish(): Promise<void> {
    const [rules, ...others] = this.facts();
    await (this.#rules.length > 0 ? this.#tookForce() : rules.mend());
    for (const fact of others) await fact.mend();
    this.#isFinished = true;
  }

  /**
   * Does the interface that was opened still have that name? Another program may have renamed it, moved it to another
   * namespace, or put one of its own in its place. Nothing passes then; the outside must be closed and opened again.
   */
  async hasLink(): Promise<boolean> {
    return (await findTap(this.#ns, this.#options.ifname))?.ifindex === this.#ifindex;
  }

  /** What it depends on, in the order in which it is restored: the rules first. */
  facts(): readonly [Fact, ...Fact[]] {
    const { warn } = this.#options;
    return [
      {
        name: 'rules',
        differences: async () => ((await this.#hasRules()) ? [] : [`table ${TABLE} is not as it was loaded`]),
        mend: () => this.#loadTable(),
      },
      linkFact(this.#ns, this.#linkConfig(), this.hasIp6),
      forwardingFact((changed) =>
        warn('forwarding of the host switched on, between all of its interfaces', { changed }),
      ),
    ];
  }

  /** Publishes exactly these. TCP connections continue, even those of a port that is no longer published. */
  async update(entries: Entries): Promise<void> {
    const { hasIp6 } = this;
    const text = entriesText({ entries, hasIp6 });
    const isSame = text === entriesText({ entries: this.#entries, hasIp6 });
    this.#entries = entries;
    if (isSame && this.#inForce !== undefined) return;
    if (!(await this.#hasRules())) return this.#loadTable();
    try {
      await loadRules(text);
    } catch {
      return this.#loadTable(); // taken away by another program just now
    }
    await this.#tookForce();
  }

  /**
   * Restores what another program has changed: a reload of Debian's own /etc/nftables.conf (`flush ruleset`), for
   * example, or udev. Call it again and again. @returns one line for each thing that was changed
   * @throws WeftError also if something is still not as it should be afterwards
   */
  async renew(): Promise<string[]> {
    const mended: string[] = [];
    for (const fact of this.facts()) {
      const differences = await fact.differences();
      if (differences.length === 0) continue;
      await fact.mend();
      mended.push(...differences);
      const [left] = await fact.differences();
      if (left !== undefined) {
        throw new WeftError('system', `${left}, although weft has just mended it: another program changes it back`);
      }
    }
    return mended;
  }

  /**
   * Closes the interface first, since it would be open without the rules. Forwarding stays on: others may rely on it
   * now.
   */
  async close(): Promise<void> {
    const { closeLink, kept } = this.#options;
    closeLink();
    await kept.settled();
    await loadRules(noTableText());
    kept.forget();
    await this.#forgetStaleUdp({ ports: [], addresses: [] });
  }

  async #loadTable(): Promise<void> {
    await this.#loadRules();
    await this.#tookForce();
  }

  /** They are in force then; `#tookForce` notes how the kernel lists them. */
  async #loadRules(): Promise<void> {
    this.#inForce = undefined;
    this.#rules = await this.#options.kept.load(this.#tableText());
  }

  #tableText(): string {
    return tableText({ ...this.#options, entries: this.#entries, hasIp6: this.hasIp6 });
  }

  async #tookForce(): Promise<void> {
    const generation = rulesetGeneration();
    const listing = await listTable(TABLE);
    // Another program may have replaced it since; what that left is not mistaken for ours.
    const isOurs = listing !== undefined && isSameSet(ruleNumbers(listing), this.#rules);
    this.#inForce = isOurs ? listing : undefined;
    this.#keep(generation);
    await this.#forgetStaleUdp(this.#entries);
  }

  /**
   * The first packet of a connection decides how it is translated, and a UDP flow without a pause is one connection for
   * ever.
   */
  async #forgetStaleUdp({ ports: published, addresses }: Entries): Promise<void> {
    const { transit, forgetStaleUdp, warn } = this.#options;
    const interfaces = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
    const outer = interfaces.filter(({ internal }) => !internal).map(({ address }) => address);
    const own = [...outer, '127.0.0.1'].map((address) => parseIp(address));
    const targets = [transit.ip4, transit.ip6].map(({ weft }) => parseIp(weft));
    const ports = published.flatMap(({ protocol, hostPort }) => (protocol === 'UDP' ? [hostPort] : []));
    const fronts = addresses
      .filter(({ protocol }) => protocol === 'UDP')
      .map(({ address, l4Port, nodePort }) => ({ address: parseIp(address), l4Port, targetPort: nodePort }));
    try {
      await forgetStaleUdp({ own, targets, ports, fronts });
    } catch (error) {
      warn('UDP that did not pause goes on as before it was published, or not', { err: error });
    }
  }

  /** Is the table in the kernel exactly the one that it accepted, to the last rule? */
  async #hasRules(): Promise<boolean> {
    if (this.#inForce === undefined) return false;
    const generation = rulesetGeneration();
    if ((await listTable(TABLE)) !== this.#inForce) return false;
    this.#keep(generation);
    return true;
  }

  /** For the next start. @param generation that of nftables before the table was listed */
  #keep(generation: number | undefined): void {
    const isKnown = this.#inForce !== undefined && generation !== undefined;
    this.#options.kept.keep(this.#tableText(), isKnown ? { generation, rules: this.#rules } : undefined);
  }

  #linkConfig(): InterfaceConfig {
    const { ifname, transit, hostMac, weftMac, mtu } = this.#options;
    const links = [transit.ip4, ...(this.hasIp6 ? [transit.ip6] : [])];
    return {
      ifname,
      mac: hostMac,
      mtu,
      hasLinkLocal: false,
      addresses: links.map(({ host, prefixLength }) => ({ ip: host, prefixLength, isLinkOnly: true })),
      neighbors: links.map(({ weft }) => ({ ip: weft, mac: weftMac })),
    };
  }
}

function isSameSet(one: readonly number[], other: readonly number[]): boolean {
  return one.length === other.length && one.every((number) => other.includes(number));
}

interface RouteJson {
  readonly dst?: string;
  readonly dev?: string;
  readonly type?: string;
}

interface AddressJson {
  readonly ifname?: string;
  readonly addr_info?: readonly { readonly local?: string; readonly prefixlen?: number }[];
}

/**
 * Does anybody else have an address within the transit networks, or a route that is as specific?
 * @returns one line that says who, undefined if nobody does
 */
export async function findTransitClash(
  ns: NetnsRef,
  { ifname, transit }: Pick<OutsideOptions, 'ifname' | 'transit'>,
): Promise<string | undefined> {
  for (const network of transitPrefixes(transit, hasIpv6())) {
    const said = (what: string): string => `${what} is on weft’s link to the host (${network}): give it another`;
    const addresses = (await list(ns, ['address', 'show', 'to', network])) as readonly AddressJson[];
    // ip prints an empty object for each interface and address that does not match.
    for (const { ifname: other, addr_info: found = [] } of addresses) {
      const address = found.find(({ local }) => local !== undefined);
      if (address && other !== ifname) return said(`address ${address.local}/${address.prefixlen} of ${other}`);
    }
    const family = network.includes(':') ? '-6' : '-4';
    const routes = (await list(ns, [family, 'route', 'show', 'table', 'all', 'root', network])) as readonly RouteJson[];
    for (const { dst, dev, type } of routes) {
      if (dev !== ifname) return said(`the route to ${dst}${dev === undefined ? ` (${type})` : ` by ${dev}`}`);
    }
  }
  return undefined;
}

async function list(ns: NetnsRef, args: readonly string[]): Promise<unknown> {
  const { exitCode, stdout, stderr } = await ip(ns, ['-j', ...args]);
  if (exitCode !== 0) throw new WeftError('system', `\`ip ${args.join(' ')}\` failed: ${firstLine(stderr)}`);
  return JSON.parse(stdout.trim() || '[]');
}
