/**
 * What is missing on a container's interface of the things that weft gives it, and what to do
 * about it. The plan is made from facts alone: the declaration is compared with the kernel.
 *
 * What a container did to its interface belongs to the container:
 *   - weft adds what is missing of the things that it gives; an address that is on another
 *     interface of the namespace (a bridge) is not missing
 *   - it removes only what it gave and no longer gives
 *   - it never takes a link down, and a link that was taken down stays down
 *   - MTU, IPv6 and the way its link-local address is made are set once
 * Whatever remains wrong is reported (`problems`).
 *
 * Default routes: each interface has one for each family, and the metric decides. Networks
 * with an outside come first, then the older interface; when a route goes, the kernel chooses
 * among the others. The container's own routes always come before all of these.
 */
import { formatIp, linkLocalOf, parseMac } from '../flow/types.ts';
import type { NetnsExchange } from '../flow/netns-exchange.ts';
import type { NamespaceFacts } from './interface-facts.ts';
import {
  addAddress,
  addDefaultRoute,
  deleteAddress,
  deleteDefaultRoute,
  routeText,
  setLink,
  type AddressFacts,
  type LinkFacts,
  type RouteFacts,
  type RtRequest,
} from './rtnetlink.ts';

export interface InterfaceWanted {
  readonly mac: string;
  /** May the container have another MAC? */
  readonly isTrusted: boolean;
  readonly mtu: number;
  readonly addresses: readonly Omit<AddressFacts, 'ifindex'>[];
  /** One for each subnet in which it has an address. */
  readonly gateways: readonly string[];
  /** Does its network have an outside? */
  readonly hasOutside: boolean;
  /** The number of queues of its TAP that weft has open. */
  readonly queues: number;
}

/** What weft has given to an interface. Stored with the endpoint as JSON. */
export interface InterfaceGiven {
  readonly addresses: readonly Omit<AddressFacts, 'ifindex'>[];
  readonly routes: readonly Omit<RouteFacts, 'ifindex'>[];
}

export interface InterfacePlan {
  readonly settings: NetnsExchange['settings'];
  readonly requests: readonly RtRequest[];
  /** What the requests add or restore, in words. */
  readonly lacks: readonly string[];
  /** Problems that remain, each a sentence that says how to solve it. */
  readonly problems: readonly string[];
  /** What will have been given when the requests are done. */
  readonly given: InterfaceGiven;
}

const METRIC_OUTSIDE = 10_000;
const METRIC_INSIDE = 20_000;
const LARGEST_INDEX = 9_999;
/** Below this MTU the kernel removes IPv6 from an interface (RFC 8200 §5). */
const SMALLEST_IP6_MTU = 1280;

/** @param given undefined if the interface was created just now */
export function planInterface(
  wanted: InterfaceWanted,
  given: InterfaceGiven | undefined,
  link: LinkFacts,
  facts: NamespaceFacts,
): InterfacePlan {
  const { ifindex, ifname } = link;
  const metric = (wanted.hasOutside ? METRIC_OUTSIDE : METRIC_INSIDE) + Math.min(ifindex, LARGEST_INDEX);
  const routes = wanted.gateways.map((gateway) => ({ gateway, metric }));
  const now: InterfaceGiven = { addresses: wanted.addresses, routes };
  const problems = problemsOf(wanted, given !== undefined, link);
  const plan = new Plan();

  if (given === undefined) plan.make(wanted, link);
  if (given && !link.isUp) return plan.finish(problems, now);
  if (given && !link.hasCarrier) plan.add(setLink(link, { carrier: 'on' }), 'carrier');
  // It is a port of a bridge or a bond, which the addresses belong to.
  if (link.hasMaster) return plan.finish([...problems, ...homeless(wanted, facts)], now);
  if (given && link.mac !== wanted.mac && !wanted.isTrusted) {
    plan.add(setLink(link, { mac: wanted.mac }), `MAC ${wanted.mac}`);
  }

  for (const gone of given?.addresses ?? []) {
    const isHere = facts.addresses.some((one) => one.ifindex === ifindex && one.ip === gone.ip);
    if (isHere && !wanted.addresses.some(({ ip }) => ip === gone.ip)) {
      plan.requests.push(deleteAddress({ ifindex, ...gone }, ifname));
    }
  }
  for (const gone of given?.routes ?? []) {
    if (hasRoute(facts, ifindex, gone) && !routes.some((route) => sameRoute(route, gone))) {
      plan.requests.push(deleteDefaultRoute({ ifindex, ...gone }, ifname));
    }
  }

  const canIp6 = link.ip6 !== undefined && (given === undefined || !link.ip6.isDisabled);
  const isPossible = (ip: string): boolean => isIp4(ip) || canIp6;
  const here = new Set(facts.addresses.filter((one) => one.ifindex === ifindex).map(({ ip }) => ip));
  const elsewhere = new Set(facts.addresses.filter((one) => one.ifindex !== ifindex).map(({ ip }) => ip));
  for (const address of wanted.addresses) {
    const { ip, prefixLength } = address;
    if (here.has(ip) || elsewhere.has(ip) || !isPossible(ip)) continue;
    plan.add(addAddress({ ifindex, ...address }, ifname), `address ${ip}/${prefixLength}`);
  }
  if (given && canIp6 && link.ip6?.isEui64) plan.addLinkLocal(wanted, link, here);
  for (const route of routes) {
    const isIp4Route = isIp4(route.gateway);
    const hasMoved = wanted.addresses.some(({ ip }) => isIp4(ip) === isIp4Route && elsewhere.has(ip));
    if (hasMoved || hasRoute(facts, ifindex, route) || !isPossible(route.gateway)) continue;
    plan.add(addDefaultRoute({ ifindex, ...route }, ifname), routeText({ ifindex, ...route }, ifname));
  }
  return plan.finish(problems, now);
}

/** The parts of a plan while it is being made. */
class Plan {
  readonly settings: { path: string; value: string }[] = [];
  readonly requests: RtRequest[] = [];
  readonly lacks: string[] = [];

  finish(problems: readonly string[], given: InterfaceGiven): InterfacePlan {
    const { settings, requests, lacks } = this;
    return { settings, requests, lacks, problems, given };
  }

  add(request: RtRequest, what: string): void {
    this.requests.push(request);
    this.lacks.push(what);
  }

  /**
   * A new interface. Its MAC, and the way IPv6 makes its link-local address, are set before it comes up, so that the
   * kernel forms fe80::/64 + EUI-64 of exactly this MAC: the one link-local address that anti-spoofing admits. If IPv6
   * is disabled for new interfaces (container engines do that) and the endpoint has an IPv6 address, it is enabled.
   */
  make({ mac, mtu, addresses }: InterfaceWanted, link: LinkFacts): void {
    if (link.ip6?.isDisabled && addresses.some(({ ip }) => !isIp4(ip))) {
      this.settings.push({ path: `/proc/sys/net/ipv6/conf/${link.ifname}/disable_ipv6`, value: '0' });
    }
    const hasIp6 = link.ip6 !== undefined && mtu >= SMALLEST_IP6_MTU;
    this.requests.push(setLink(link, { mac, mtu, ...(hasIp6 && { addrgenmode: 'eui64' }) }));
    this.requests.push(setLink(link, { state: 'up' }));
  }

  /** A flush removes the link-local address, too, and the kernel makes it again only when the link comes up. */
  addLinkLocal({ mac, addresses }: InterfaceWanted, { ifindex, ifname }: LinkFacts, here: ReadonlySet<string>): void {
    if (!addresses.some(({ ip }) => !isIp4(ip))) return;
    if ([...here].some((ip) => ip.startsWith('fe80:'))) return;
    const ip = formatIp(linkLocalOf(parseMac(mac)));
    this.add(addAddress({ ifindex, ip, prefixLength: 64 }, ifname), `address ${ip}/64`);
  }
}

function problemsOf({ mtu, addresses, queues }: InterfaceWanted, wasGiven: boolean, link: LinkFacts): string[] {
  const { ifname } = link;
  const problems: string[] = [];
  if (wasGiven && !link.isUp) {
    problems.push(`${ifname} is down, the container took it down: \`ip link set ${ifname} up\` there`);
  }
  if (link.mtu > mtu && wasGiven) {
    problems.push(
      `${ifname} has MTU ${link.mtu}, more than the network’s ${mtu}: \`ip link set ${ifname} mtu ${mtu}\` there`,
    );
  }
  if (link.queues !== undefined && link.queues > queues) {
    problems.push(`another program has ${ifname} open, too, and gets some of its frames: stop it`);
  }
  const [ip6] = addresses.filter(({ ip }) => !isIp4(ip));
  if (ip6 && link.ip6 === undefined) {
    problems.push(`${ifname} has no IPv6, so ${ip6.ip} is not reached: the kernel has none, or the MTU is below 1280`);
  } else if (ip6 && wasGiven && link.ip6?.isDisabled) {
    problems.push(
      `IPv6 is disabled on ${ifname}, so ${ip6.ip} is not reached: \`sysctl -w net.ipv6.conf.${ifname}.disable_ipv6=0\` there`,
    );
  }
  return problems;
}

/** Addresses that no interface of the namespace has, if weft does not add them. */
function homeless({ addresses }: InterfaceWanted, facts: NamespaceFacts): string[] {
  return addresses
    .filter(({ ip }) => !facts.addresses.some((one) => one.ip === ip))
    .map(
      ({ ip, prefixLength }) =>
        `no interface has ${ip}/${prefixLength}: give it to the bridge that the interface is a port of`,
    );
}

function hasRoute(facts: NamespaceFacts, ifindex: number, route: Omit<RouteFacts, 'ifindex'>): boolean {
  return facts.routes.some((one) => one.ifindex === ifindex && sameRoute(one, route));
}

function sameRoute(a: Omit<RouteFacts, 'ifindex'>, b: Omit<RouteFacts, 'ifindex'>): boolean {
  return a.gateway === b.gateway && a.metric === b.metric;
}

/** For canonical text. */
function isIp4(ip: string): boolean {
  return !ip.includes(':');
}
