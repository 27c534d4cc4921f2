/**
 * The nftables table `inet weft`: what may pass between weft's transit link and
 * the rest of the host, as text for `nft -f`.
 *
 *   container ─► weft ─► weft0 ─┬► input    drop, but for what `allowHost` names
 *                               └► forward ─► postrouting  masquerade ─► the world
 *   the world ─► prerouting  published: dnat to weft ─► forward ─► weft0 ─► weft
 *   the world ─► prerouting  nobody's: dnat to weft ──► forward ─► weft0 ─► weft
 *   this host ─► output      published: dnat to weft ───────────► weft0 ─► weft
 *
 * Two translations in series, and the first one, weft's, knows the connections. The host's own (nf_conntrack) adds the
 * host's address, which may change, and shares the host's ports with whoever else needs some; so it cannot be left out.
 * But nothing depends on what it remembers:
 *
 * - It keeps the source ports that weft gives (`NAT_PORTS`, without `random`): they are the same outside.
 * - It remembers as long as weft does (chain `time_out`).
 * - What comes in for one of these ports is weft's (chains `strays` and `invalid`), unless it belongs to a connection
 *   that the kernel knows, to a program of this host, or begins a TCP connection: so the uplink may go down and up,
 *   which makes the kernel forget what it masquerades there, and somebody may flush its table.
 * - A segment that the kernel takes for invalid would be answered with RST by the host, which has no such connection.
 *   It goes to weft as it is, without a connection of the kernel's, and the container judges.
 *
 * What may pass:
 *
 * - Nothing comes in by weft0 but from weft's transit addresses, and nothing goes
 *   into it but answers and what was translated here.
 * - Nothing comes from weft's transit addresses but by weft0: the interface that
 *   weft has open may have been renamed.
 * - The ports of VXLAN (4789, and the configured one) are closed from weft0, to this
 *   host and to any other: a container must not make frames of an overlay.
 * - The metadata service of a cloud is for the host, as the host itself.
 * - Published ports are those of the host's own addresses, not of its loopback.
 *   A container that calls one comes back into weft0, from the host's end.
 * - What the host began is answered: established and related, ICMP errors of its
 *   connections among them.
 *
 * Chains are at the usual priorities. To accept is to be done with this table
 * only: what another one drops (the policy of Docker's FORWARD chain) is dropped.
 */
import { NAT_PORTS } from '../flow/connection.ts';
import type { PortProtocol, PublishedPort } from '../model/publish.ts';
import { VXLAN_L4_PORT } from '../wire/vxlan.ts';

/** One family's end of the link between host and weft; canonical text. */
export interface TransitLink {
  readonly host: string;
  readonly weft: string;
  readonly prefixLength: number;
}

export interface Transit {
  readonly ip4: TransitLink;
  readonly ip6: TransitLink;
}

/** What containers may begin with this host: nothing, anything, or these ports of it. */
export type AllowHost = boolean | readonly { readonly protocol: PortProtocol; readonly port: number }[];

export interface RulesOptions {
  readonly ifname: string;
  readonly transit: Transit;
  readonly hasIp6: boolean;
  readonly published: readonly PublishedPort[];
  readonly allowHost: AllowHost;
  /** UDP port of this host's overlay. */
  readonly vxlanPort: number;
}

/** Of name servers. */
const DNS_L4_PORT = 53;

/** Family and name. */
export const TABLE = 'inet weft';

/** The source ports that weft gives. Above Kubernetes' NodePorts and WireGuard. */
export const PORTS = `${NAT_PORTS.first}-${NAT_PORTS.first + NAT_PORTS.count - 1}`;

/**
 * As long as weft itself remembers a connection (table/connections), where the kernel would forget it earlier, or keep
 * it much longer. Questions to name servers stay as they are. nft has none of these for ICMP.
 */
const TIMEOUTS_S = {
  udp: { unreplied: 120, replied: 120 },
  tcp: { syn_sent: 240, syn_recv: 240, established: 7440, fin_wait: 240, close_wait: 240, last_ack: 240 },
} as const;

/** The whole table, in place of one that may be there: idempotent. */
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
    ...each(({ ip, family }) => [
      `set published${family} { type inet_proto . inet_service; }`,
      `set published${family}_at { type ${ip === 'ip' ? 'ipv4' : 'ipv6'}_addr . inet_proto . inet_service; }`,
    ]),
    ...Object.entries(TIMEOUTS_S).flatMap(([protocol, policy]) => [
      `ct timeout of_${protocol} {`,
      `protocol ${protocol}`,
      `policy = { ${Object.entries(policy)
        .map((each) => each.join(': '))
        .join(', ')} }`,
      '}',
    ]),
    'chain unreachable { type filter hook prerouting priority raw; policy accept;',
    ...each(({ ip, weft }) => [
      `iifname != "${ifname}" ${ip} daddr ${weft} counter drop comment "not published"`,
      `iifname != "${ifname}" ${ip} saddr ${weft} counter drop comment "weft’s address, and not by weft’s link"`,
    ]),
    '}',
    'chain publish {',
    'ip daddr 127.0.0.0/8 return',
    'ip6 daddr ::1 return',
    'fib daddr type != local return',
    ...each(({ ip, family, weft }) => [
      `${ip} daddr . meta l4proto . th dport @published${family}_at counter dnat ${ip} to ${weft}`,
      `meta nfproto ipv${family} meta l4proto . th dport @published${family} counter dnat ${ip} to ${weft}`,
    ]),
    '}',
    'chain prerouting { type nat hook prerouting priority dstnat; policy accept; jump publish; }',
    // After everybody's own translations.
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
    'chain output { type nat hook output priority -100; policy accept; jump publish; }',
    'chain postrouting { type nat hook postrouting priority srcnat; policy accept;',
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
    // NAT is for connections: what belongs to none would leave with weft's transit address.
    'ct state invalid,untracked counter drop comment "would not be translated"',
    noVxlan,
    ...(allowHost === true ? [] : [noMetadata]),
    ...each(({ ip, weft }) => [`${ip} saddr ${weft} goto time_out`]),
    'counter drop comment "not from the transit address"',
    '}',
    'chain to_weft {',
    'ct state established,related accept',
    // Nobody else comes this far with one of weft's addresses: see "unreachable".
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

/** Replaces the published ports. Connections go on: only their first packet is looked up. */
export function publishedText(options: Pick<RulesOptions, 'published' | 'hasIp6'>): string {
  const families = options.hasIp6 ? [4, 6] : [4];
  return lines(
    ...families.flatMap((family) => ['', '_at'].map((suffix) => `flush set ${TABLE} published${family}${suffix}`)),
    ...elements(options),
  );
}

/** Removes the table, also when there is none. */
export function noTableText(): string {
  return lines(`add table ${TABLE}`, `delete table ${TABLE}`);
}

/** Also of a program that listens, or is done with a connection. */
const notOfHost = 'socket transparent { 0, 1 } return comment "of a program of this host"';

/** Where frames of an overlay may be taken in: by others of VXLAN's own port, by this host at the configured one. */
export function vxlanPorts(vxlanPort: number): readonly number[] {
  return [...new Set([VXLAN_L4_PORT, vxlanPort])];
}

function noVxlanTo(vxlanPort: number): string {
  const ports = vxlanPorts(vxlanPort);
  return `udp dport ${ports.length === 1 ? ports[0] : `{ ${ports.join(', ')} }`} counter drop comment "containers make no frames of an overlay"`;
}

/** Of AWS over IPv6: what it tells of, credentials too, is the host's. The others are link-local, and end in the switch. */
export const METADATA_ADDRESS = 'fd00:ec2::254';
const noMetadata = `ip6 daddr ${METADATA_ADDRESS} counter drop comment "metadata of a cloud is the host’s"`;

function allowed(allowHost: AllowHost): string[] {
  if (typeof allowHost === 'boolean') return allowHost ? ['accept'] : [];
  return allowHost.map(({ protocol, port }) => `${protocol.toLowerCase()} dport ${port} accept`);
}

function elements({ published, hasIp6 }: Pick<RulesOptions, 'published' | 'hasIp6'>): string[] {
  const sets = new Map<string, Set<string>>();
  for (const { family, protocol, hostPort, hostIp } of published) {
    if (family === 6 && !hasIp6) continue;
    const set = `published${family}${hostIp === undefined ? '' : '_at'}`;
    const key = `${hostIp === undefined ? '' : `${hostIp} . `}${protocol.toLowerCase()} . ${hostPort}`;
    sets.set(set, (sets.get(set) ?? new Set()).add(key));
  }
  return [...sets].map(([set, keys]) => `add element ${TABLE} ${set} { ${[...keys].join(', ')} }`);
}

function lines(...all: readonly string[]): string {
  return `${all.join('\n')}\n`;
}

/** The networks of the link, as ADDRESS/PREFIX. */
export function transitPrefixes({ ip4, ip6 }: Transit, hasIp6: boolean): string[] {
  return [ip4, ...(hasIp6 ? [ip6] : [])].map(({ host, prefixLength }) => `${host}/${prefixLength}`);
}
