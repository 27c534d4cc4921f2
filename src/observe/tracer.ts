/**
 * `weft trace`: from the container's own routes and neighbors, through the switch, to what
 * lies behind it.
 *
 *   1. resolve: the next hop and its MAC as the container knows them. If the container has to
 *      ask first, and weft does not know the answer, its question is traced instead
 *   2. decide, by the pipeline that decides for traffic
 *   3. follow: the way to the peers, or what the host does behind weft0
 *
 * It changes nothing.
 */
import type { Endpoints } from '../cluster/endpoints.ts';
import type { Hosts } from '../cluster/membership/hosts.ts';
import type { Action } from '../flow/action.ts';
import { fields } from '../flow/fields.ts';
import { WeftError } from '../error.ts';
import { entropyPort } from '../flow/hash.ts';
import { readBytes, readNumber, type FlowKey } from '../flow/key.ts';
import { formatIp, formatMac, isGroupIp, isIp4, isZero, parseIp, type PortNo } from '../flow/types.ts';
import type { Forwarding } from '../forwarding.ts';
import { ownNetns, resolveNetns } from '../link/netns.ts';
import { nextHop } from '../link/next-hop.ts';
import { outsidePath, type OutsideSettings } from '../outside/path.ts';
import type { DecisionReport } from '../model/report.ts';
import type { Decision } from '../pipeline/decide.ts';
import { choiceOf } from '../table/openings.ts';
import { ETH_IPV4, ETH_IPV6 } from '../wire/ethernet.ts';
import { IP_TCP, IP_UDP } from '../wire/ipv4.ts';
import { ND_NEIGHBOR_SOLICITATION } from '../wire/nd.ts';
import { reportChoice } from './choice.ts';
import { reportDecision } from './decision.ts';
import { parseFlow } from './flow-spec.ts';

export interface TracerEnvironment {
  readonly forwarding: Forwarding;
  readonly endpoints: Endpoints;
  readonly hosts: Hosts;
  readonly portByName: (name: string) => PortNo | undefined;
  readonly portName: (port: number) => string;
  /** Path MTU of the underlay, by peer. */
  readonly pathMtu: (vtep: string) => number | undefined;
  readonly outside: () => OutsideSettings;
}

/** @throws WeftError('invalid') that names the part of `text` that was not understood */
export async function trace(text: string, environment: TracerEnvironment): Promise<DecisionReport> {
  const { forwarding, endpoints, portName } = environment;
  const portByName = (name: string): PortNo | undefined => {
    const port = environment.portByName(name);
    const host = port === undefined ? endpoints.find(name)?.host : undefined;
    if (host !== undefined)
      throw new WeftError('invalid', `flow: in_port: endpoint "${name}" is on host "${host}": trace it there`);
    return port;
  };
  const asked = parseFlow(text, forwarding.tables, portByName);
  const { resolved, flow } = await resolve(text, asked.key, environment);
  const { key, head } = flow === text ? asked : parseFlow(flow, forwarding.tables, portByName);
  const decision = forwarding.controller.decide(key, head);
  const choice = decision.opening && choiceOf(decision.opening);
  const beyond = await follow(key, decision, environment);
  return {
    ...reportDecision(key, decision, portName),
    ...(resolved !== undefined && { resolved }),
    ...(beyond.length > 0 && { beyond }),
    ...(choice && { choice: reportChoice(choice) }),
  };
}

// 1. Resolve

interface Resolved {
  /** What was found, in words. */
  readonly resolved?: string;
  /** The flow with what was found, or the question that comes first. */
  readonly flow: string;
}

async function resolve(text: string, key: FlowKey, { forwarding, endpoints }: TracerEnvironment): Promise<Resolved> {
  const type = readNumber(key, fields.eth_type);
  const destination = readBytes(key, fields.ip_dst);
  const endpoint = endpoints.byPort(readNumber(key, fields.in_port));
  const isGiven = /(^|,)\s*(eth_dst|dl_dst)=/.test(text);
  const isUnicast = !isZero(destination) && !isGroupIp(destination);
  if (isGiven || !endpoint?.local || !isUnicast || (type !== ETH_IPV4 && type !== ETH_IPV6)) return { flow: text };

  // Both may have been renamed since the endpoint was attached.
  const { name, netns, interface: ifname } = endpoints.report(endpoint);
  const hop = await nextHop(await resolveNetns({ netns: netns! }), formatIp(destination));
  if (!hop) return { flow: text, resolved: `the container of ${name} has no route to ${formatIp(destination)}` };
  if (hop.type === 'local') return { flow: text, resolved: `${formatIp(destination)} is ${name}'s own address` };
  if (hop.ifname !== ifname) {
    return { flow: text, resolved: `the container of ${name} sends this by ${hop.ifname}, not by ${ifname}` };
  }
  const via = hop.address === formatIp(destination) ? hop.address : `${hop.address}, its gateway,`;
  if (hop.mac !== undefined) {
    return { flow: `${text},eth_dst=${hop.mac}`, resolved: `${via} is at ${hop.mac}, as the container knows` };
  }
  const { vni } = forwarding.tables.topology.port(readNumber(key, fields.in_port) as PortNo)!;
  const mac = forwarding.tables.neighbors.lookup(vni, parseIp(hop.address));
  if (mac) {
    const found = formatMac(mac);
    return {
      flow: `${text},eth_dst=${found}`,
      resolved: `${via} is at ${found}: weft answers when the container asks`,
    };
  }
  return {
    flow: questionFor(name, parseIp(hop.address)),
    resolved: `the container asks who has ${hop.address} first, and sends when somebody has answered; this is its question`,
  };
}

/** The flow of an ARP request or a neighbor solicitation. */
function questionFor(name: string, ip: Uint8Array): string {
  if (isIp4(ip)) return `in_port=${name},arp,arp_tpa=${formatIp(ip)}`;
  const group = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, ...ip.subarray(13));
  const mac = formatMac(Uint8Array.of(0x33, 0x33, ...group.subarray(12)));
  return `in_port=${name},icmp6,icmpv6_type=${ND_NEIGHBOR_SOLICITATION},ip_dst=${formatIp(group)},nd_target=${formatIp(ip)},eth_dst=${mac},ip_ttl=255`;
}

// 3. Follow

async function follow(key: FlowKey, decision: Decision, environment: TracerEnvironment): Promise<string[]> {
  const vteps = decision.actions.flatMap((action) => (action.op === 'encap' ? [formatIp(action.vtep)] : []));
  const lines: string[] = [];
  for (const vtep of vteps) lines.push(await wayTo(vtep, key, environment));
  if (vteps.length === 1 && isUnicastIp(key)) lines.push(judgedAt(vteps[0]!, environment));
  return isForOutside(decision, environment) ? [...lines, ...(await behindOutside(key, environment))] : lines;
}

/** This host enforces the policies of its own endpoints only. Whether weft runs at a VTEP is known of one that shares the store. */
function judgedAt(vtep: string, { hosts }: TracerEnvironment): string {
  const there = hostAt(vtep, hosts) ?? vtep;
  const name = hosts.nameAt(vtep);
  if (name === undefined || !hosts.registrationOf(name)) {
    return `if weft runs on ${there}, that decides whether policies let it in, as it arrives: trace it there`;
  }
  return `whether policies let it in is decided on ${there}, as it arrives: a PolicyTest asks both ends (weft policy test)`;
}

function isUnicastIp(key: FlowKey): boolean {
  const type = readNumber(key, fields.eth_type);
  return (type === ETH_IPV4 || type === ETH_IPV6) && !isGroupIp(readBytes(key, fields.ip_dst));
}

function hostAt(vtep: string, hosts: Hosts): string | undefined {
  const host = hosts.all().find(({ resource }) => resource.spec.underlay === vtep);
  return host && `host ${host.name}`;
}

async function wayTo(vtep: string, key: FlowKey, { forwarding, hosts, pathMtu }: TracerEnvironment): Promise<string> {
  const host = hostAt(vtep, hosts);
  const named = host === undefined ? vtep : `${vtep} (${host})`;
  const hop = await nextHop(await ownNetns(), vtep);
  if (!hop) return `VTEP ${named}: this host has no route to it`;
  const gateway = hop.address === vtep ? '' : ` via ${hop.address}`;
  const mtu = pathMtu(vtep);
  const ports = `UDP ${entropyPort(key)} to ${forwarding.tables.topology.vxlanL4Port}`;
  return `VTEP ${named}: ${ports} by ${hop.ifname}${gateway}${mtu === undefined ? '' : `, path MTU ${mtu}`}`;
}

function isForOutside({ actions, verdict, opening }: Decision, { forwarding }: TracerEnvironment): boolean {
  const { outside } = forwarding.tables.topology;
  if (!outside) return false;
  const goesOut = (action: Action): boolean => action.op === 'output' && action.port === outside.portNo;
  const opensOutward = verdict === 'connect' && opening !== undefined && 'address' in opening;
  return actions.some(goesOut) || opensOutward;
}

function behindOutside(key: FlowKey, { outside }: TracerEnvironment): Promise<string[]> {
  const proto = readNumber(key, fields.ip_proto);
  return outsidePath(
    {
      destination: formatIp(readBytes(key, fields.ip_dst)),
      protocol: proto === IP_TCP ? 'TCP' : proto === IP_UDP ? 'UDP' : 'other',
      l4Port: readNumber(key, fields.l4_dst),
    },
    outside(),
  );
}
