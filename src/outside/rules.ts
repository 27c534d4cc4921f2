/**
 * The nftables table `inet weft`: what may pass between weft's transit link and
 * the rest of the host, as text for `nft -f`.
 *
 *   container ─► weft ─► weft0 ─┬► input    drop, except what `allowHost` lists
 *                               └► forward ─► postrouting  masquerade ─► the world
 *   the world ─► prerouting  published: dnat to weft ─► forward ─► weft0 ─► weft
 *   the world ─► prerouting  nobody's: dnat to weft ──► forward ─► weft0 ─► weft
 *   this host ─► output      published: dnat to weft ───────────► weft0 ─► weft
 *   127.0.0.1 ─► output      published: dnat to weft ─► postrouting  snat ─► weft0 ─► weft
 *
 * There are two translations in series. The first one, weft's, knows the connections. The host's own (nf_conntrack)
 * adds the host's address, which may change, and shares the host's ports with everybody else who needs some, so it
 * cannot be left out. But nothing depends on what the host remembers:
 *
 * - It keeps the source ports that weft gives (`NAT_PORTS`, without `random`), so they are the same outside.
 * - It has the same timeouts as weft (chain `time_out`).
 * - Packets to one of these ports go to weft (chains `strays` and `invalid`), unless they belong to a connection that
 * the
 *   kernel knows or to a program of this host, or begin a TCP connection. So the uplink may go down and up, which makes
 *   the kernel forget what it masqueraded there, and somebody may flush its table.
 * - A segment that the kernel considers invalid would be answered with RST by the host, which has no such connection.
 * It
 *   goes to weft unchanged, without a connection of the kernel's, and the container decides.
 *
 * What may pass:
 *
 * - Only packets from weft's transit addresses come in by weft0, and only answers and packets
 *   that were translated here go into it.
 * - Packets from weft's transit addresses come in by weft0 only: the interface that weft has
 *   open may have been renamed.
 * - The ports of VXLAN (4789, and the configured one) are closed for packets from weft0, to this
 *   host and to all others: a container must not send frames of an overlay.
 * - The metadata service of a cloud serves the host only, and so does the host itself.
 * - Published ports and node ports are ports of the host's own addresses, and for the host itself of 127.0.0.1, unless a
 *   program of the host listens there. Other addresses of its loopback are its own, and so are all for containers. A
 *   container that calls one comes back into weft0, from the host's end.
 * - Addresses of services (type LoadBalancer) need not be the host's: whatever is routed here for one of their ports
 *   comes in by the node port of that. Overlay frames never do.
 * - Answers to what the host began may pass: established and related, including ICMP errors of
 *   its connections.
 *
 * Chains are at the usual priorities. Accepting a packet ends only this table: it is still
 * dropped if another table drops it (the policy of Docker's FORWARD chain).
 */
import { NAT_PORTS } from '../flow/connection.ts';
import type { Entries, PortProtocol } from '../model/publish.ts';
import { VXLAN_L4_PORT } from '../wire/vxlan.ts';

/** The two ends of the link between host and weft, for one family; canonical text. */
export interface TransitLink {
  readonly host: string;
  readonly weft: string;
  readonly prefixLength: number;
}

export interface Transit {
  readonly ip4: TransitLink;
  readonly ip6: TransitLink;
}

/** What containers may open towards this host: nothing, anything, or these ports. */
export type AllowHost = boolean | readonly { readonly protocol: PortProtocol; readonly port: number }[];

export interface RulesOptions {
  readonly ifname: string;
  readonly transit: Transit;
  readonly hasIp6: boolean;
  readonly entries: Entries;
  readonly allowHost: AllowHost;
  /** UDP port of this host's overlay. */
  readonly vxlanPort: number;
}

/** Port of name servers. */
const DNS_L4_PORT = 53;

/** Family and name. */
export const TABLE = 'inet weft';

/** The source ports that weft gives. They are above Kubernetes' NodePorts and WireGuard's port. */
export const PORTS = `${NAT_PORTS.first}-${NAT_PORTS.first + NAT_PORTS.count - 1}`;

/**
 * The same timeouts as weft's own (table/connections), where the kernel would otherwise forget a connection earlier or
 * keep it much longer. DNS keeps the kernel's timeout. nft has no such setting for ICMP.
 */
const TIMEOUTS_S = {
  udp: { unreplied: 120, replied: 120 },
  tcp: { syn_sent: 240, syn_recv: 240, established: 7440, fin_wait: 240, close_wait: 240, last_ack: 240 },
} as const;

/** The whole table; replaces one that may exist, so it is idempotent. */
export function tableText(options: RulesOptions): string {
  const { ifname, transit, hasIp6, allowHost } = options;
  const noVxlan = noVxlanTo(options.vxlanPort);
  const links = [
    { ip: 'ip', family: 4, ...transit.ip4 },
    ...(hasIp6 ? [{ ip: 'ip6', family: 6, ...transit.ip6 }] : []),
  ];
  const each = (line: (link: (typeof links)[number]) => readonly string[]): string[] => links.flatMap(line);
  return lines(
    `add table ${TABLE}`,
    `delete table ${TABLE}`,
    `table ${TABLE} {`,
    ...each(({ family }) => [
      `set published${family} { type inet_proto . inet_service; }`,
      `set published${family}_at { type ipv${family}_addr . inet_proto . inet_service; }`,
      `map services${family} { type ipv${family}_addr . inet_proto . inet_service : inet_service; }`,
    ]),
    'set loopback4 { type inet_proto . inet_service; }',
    ...Object.entries(TIMEOUTS_S).flatMap(([protocol, policy]) => [
      `ct timeout of_${protocol} {`,
      `protocol ${protocol}`,
      `policy = { ${Object.entries(policy)
        .map((each) => each.join(': '))
        .join(', ')} }`,
      '}',
    ]),
    'chain unreachable { type filter hook prerouting priority raw; policy accept;',
    `iifname "${ifname}" ip daddr 127.0.0.0/8 counter drop comment "the loopback is the host’s"`,
    ...each(({ ip, weft }) => [
      `iifname != "${ifname}" ${ip} daddr ${weft} counter drop comment "not published"`,
      `iifname != "${ifname}" ${ip} saddr ${weft} counter drop comment "weft’s address, and not by weft’s link"`,
    ]),
    '}',
    'chain publish {',
    `udp dport ${vxlanSet(options.vxlanPort)} return`,
    ...each(({ ip, family, weft }) => {
      const target = family === 4 ? weft : `[${weft}]`;
      return [
        `meta l4proto { tcp, udp } dnat ${ip} to ${target}:${ip} daddr . meta l4proto . th dport map @services${family}`,
      ];
    }),
    'ip daddr 127.0.0.0/8 return',
    'ip6 daddr ::1 return',
    'fib daddr type != local return',
    ...each(({ ip, family, weft }) => [
      `${ip} daddr . meta l4proto . th dport @published${family}_at counter dnat ${ip} to ${weft}`,
      `meta nfproto ipv${family} meta l4proto . th dport @published${family} counter dnat ${ip} to ${weft}`,
    ]),
    '}',
    'chain prerouting { type nat hook prerouting priority dstnat; policy accept; jump publish; }',
    // After everybody's own NAT.
    'chain strays { type nat hook prerouting priority dstnat + 10; policy accept;',
    `iifname { "${ifname}", "lo" } accept`,
    `meta l4proto != { tcp, udp } accept`,
    `th dport != ${PORTS} accept`,
    'tcp flags & (syn | ack) == syn accept',
    'fib daddr type != local accept',
    notOfHost,
    ...each(({ ip, family, weft }) => [
      `meta nfproto ipv${family} counter dnat ${ip} to ${weft} comment "no connection of this host"`,
    ]),
    '}',
    'chain invalid { type filter hook prerouting priority mangle; policy accept;',
    'ct state != invalid accept',
    `iifname { "${ifname}", "lo" } accept`,
    'fib daddr type != local accept',
    `tcp dport ${PORTS} jump divert`,
    `icmp type echo-reply icmp id ${PORTS} jump divert`,
    `icmpv6 type echo-reply icmpv6 id ${PORTS} jump divert`,
    '}',
    'chain divert {',
    notOfHost,
    ...each(({ ip, weft }) => [`${ip} daddr set ${weft} counter comment "invalid to the kernel: weft judges"`]),
    '}',
    'chain output { type nat hook output priority -100; policy accept;',
    `ip daddr 127.0.0.1 meta l4proto . th dport @loopback4 counter dnat ip to ${transit.ip4.weft}`,
    'jump publish',
    '}',
    'chain postrouting { type nat hook postrouting priority srcnat; policy accept;',
    `ip saddr 127.0.0.0/8 oifname "${ifname}" counter snat ip to ${transit.ip4.host}`,
    ...each(({ ip, weft, host }) => [
      `${ip} saddr ${weft} oifname != "${ifname}" meta l4proto { tcp, udp } counter masquerade to :${PORTS}`,
      `${ip} saddr ${weft} oifname != "${ifname}" counter masquerade`,
      `${ip} saddr ${weft} oifname "${ifname}" counter snat ${ip} to ${host} comment "a container calls a published port"`,
    ]),
    '}',
    'chain input { type filter hook input priority filter; policy accept;',
    `iifname != "${ifname}" accept`,
    noVxlan,
    'ct state established,related accept',
    ...allowed(allowHost),
    'counter drop comment "containers reach nothing of this host"',
    '}',
    'chain forward { type filter hook forward priority filter; policy accept;',
    `iifname "${ifname}" jump from_weft`,
    `oifname "${ifname}" jump to_weft`,
    '}',
    'chain from_weft {',
    // Only connections are translated: a packet that belongs to none would leave with weft's
    // transit address.
    'ct state invalid,untracked counter drop comment "would not be translated"',
    noVxlan,
    ...(allowHost === true ? [] : [noMetadata]),
    ...each(({ ip, weft }) => [`${ip} saddr ${weft} goto time_out`]),
    'counter drop comment "not from the transit address"',
    '}',
    'chain to_weft {',
    'ct state established,related accept',
    // Nobody else's packets to one of weft's addresses come this far: see "unreachable".
    ...each(({ ip, weft }) => [`ct state invalid ${ip} daddr ${weft} accept`]),
    'ct status dnat goto time_out',
    'counter drop comment "not published"',
    '}',
    'chain time_out {',
    `ct state new udp dport != ${DNS_L4_PORT} ct timeout set "of_udp"`,
    'ct state new meta l4proto tcp ct timeout set "of_tcp"',
    '}',
    '}',
    ...elements(options),
  );
}

/** Replaces what is published. Connections continue: only their first packet is looked up. */
export function entriesText(options: Pick<RulesOptions, 'entries' | 'hasIp6'>): string {
  const families = options.hasIp6 ? [4, 6] : [4];
  return lines(
    ...families.flatMap((family) => [
      `flush set ${TABLE} published${family}`,
      `flush set ${TABLE} published${family}_at`,
      `flush map ${TABLE} services${family}`,
    ]),
    `flush set ${TABLE} loopback4`,
    ...elements(options),
  );
}

/** Removes the table; does nothing if there is none. */
export function noTableText(): string {
  return lines(`add table ${TABLE}`, `delete table ${TABLE}`);
}

/** Matches sockets of programs that listen, and of connections that are over. */
const notOfHost = 'socket transparent { 0, 1 } return comment "of a program of this host"';

/** Ports where overlay frames may be accepted: VXLAN's own port by other hosts, the configured one by this host. */
export function vxlanPorts(vxlanPort: number): readonly number[] {
  return [...new Set([VXLAN_L4_PORT, vxlanPort])];
}

function vxlanSet(vxlanPort: number): string {
  const ports = vxlanPorts(vxlanPort);
  return ports.length === 1 ? String(ports[0]) : `{ ${ports.join(', ')} }`;
}

function noVxlanTo(vxlanPort: number): string {
  return `udp dport ${vxlanSet(vxlanPort)} counter drop comment "containers make no frames of an overlay"`;
}

/**
 * AWS's metadata service over IPv6: what it answers, including credentials, is meant for the host. The other services
 * have link-local addresses, for which the switch drops packets.
 */
export const METADATA_ADDRESS = 'fd00:ec2::254';
const noMetadata = `ip6 daddr ${METADATA_ADDRESS} counter drop comment "metadata of a cloud is the host’s"`;

function allowed(allowHost: AllowHost): string[] {
  if (typeof allowHost === 'boolean') return allowHost ? ['accept'] : [];
  return allowHost.map(({ protocol, port }) => `${protocol.toLowerCase()} dport ${port} accept`);
}

function elements({ entries, hasIp6 }: Pick<RulesOptions, 'entries' | 'hasIp6'>): string[] {
  const sets = new Map<string, Set<string>>();
  const add = (family: 4 | 6, name: string, element: string): void => {
    if (family === 6 && !hasIp6) return;
    sets.set(name, (sets.get(name) ?? new Set()).add(element));
  };
  for (const { family, protocol, hostPort, hostIp, isAtLoopback } of entries.ports) {
    const port = `${protocol.toLowerCase()} . ${hostPort}`;
    if (isAtLoopback) add(4, 'loopback4', port);
    if (hostIp === undefined) add(family, `published${family}`, port);
    else add(family, `published${family}_at`, `${hostIp} . ${port}`);
  }
  for (const { family, protocol, address, l4Port, nodePort } of entries.addresses) {
    add(family, `services${family}`, `${address} . ${protocol.toLowerCase()} . ${l4Port} : ${nodePort}`);
  }
  return [...sets].map(([name, all]) => `add element ${TABLE} ${name} { ${[...all].join(', ')} }`);
}

function lines(...all: readonly string[]): string {
  return `${all.join('\n')}\n`;
}

/** The networks of the link, as ADDRESS/PREFIX. */
export function transitPrefixes({ ip4, ip6 }: Transit, hasIp6: boolean): string[] {
  return [ip4, ...(hasIp6 ? [ip6] : [])].map(({ host, prefixLength }) => `${host}/${prefixLength}`);
}
