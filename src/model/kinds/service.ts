/**
 * Service (v1 of Kubernetes): a name and virtual addresses for a set of endpoints.
 *
 * What is accepted, and what is refused with which words, is as Kubernetes has it. Fields that it has and weft does not are
 * refused by name; what weft adds are annotations (`service-annotations.ts`). Addresses and node ports that nobody asked for
 * are allotted by the cluster, and stored beside the resource.
 */
import * as z from 'zod';
import { checkHealthAnnotations, HEALTH_CHECK, HEALTH_CHECK_PORT } from '../health-check.ts';
import { canonicalAddress, isAddress } from '../address.ts';
import { portName } from '../named-port.ts';
import { l4Port } from '../publish.ts';
import { VXLAN_L4_PORT } from '../../wire/vxlan.ts';
import { FOR_CONNECTIONS, furtherPorts, LOAD_BALANCER_IPS, readAnnotations } from '../service-annotations.ts';
import { servicePortText } from '../service-port-text.ts';
import { dnsLabel, dnsSubdomain, portProtocol, serviceName, upstreamMetadata } from './upstream.ts';
import { ipAddress, label, labelKey, outsideAddress, quote } from '../value.ts';
import { foreignObject } from './foreign.ts';
import { defineKind, type Reference } from './kind.ts';

/** The node ports of Kubernetes. */
export const NODE_PORTS = { first: 30_000, last: 32_767 };
/** A Service without addresses of its own. */
export const HEADLESS = 'None';
const MOST_PORTS = 250;

const nodePort = z
  .int({ error: 'a node port is a whole number, 30000 to 32767' })
  .refine(
    (port) => port >= NODE_PORTS.first && port <= NODE_PORTS.last,
    'provided port is not in the valid range. The range of valid ports is 30000-32767',
  );

const servicePort = z.strictObject({
  name: dnsLabel.optional(),
  protocol: portProtocol,
  port: l4Port,
  /** The port of the backends, or the name that they have for it. The same as `port` if not given. */
  targetPort: z.union([l4Port, portName], { error: 'a port of 1 to 65535, or the name of one' }).optional(),
  nodePort: nodePort.optional(),
  /** For people; weft does nothing with it. */
  appProtocol: z.string().optional(),
});

const clusterIp = z.string().transform((text, context) => {
  if (text === '' || text === HEADLESS) return text;
  if (isAddress(text)) return canonicalAddress(text);
  context.addIssue({ code: 'custom', message: `${quote(text)} must be empty, 'None', or a valid IP address` });
  return z.NEVER;
});

const family = z.enum(['IPv4', 'IPv6']);

const LONGEST_AFFINITY_S = 86_400;
/** How long a client keeps its backend, if nobody says otherwise. */
const DEFAULT_AFFINITY_S = 10_800;
const AFFINITY = 'must be greater than 0 and at most 86400 seconds';

const serviceSpec = foreignObject(
  {
    type: z.enum(['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName']).default('ClusterIP'),
    selector: z.record(labelKey, label).optional(),
    ports: z.array(servicePort).max(MOST_PORTS, `a Service has at most ${MOST_PORTS} ports`).default([]),
    clusterIP: clusterIp.optional(),
    clusterIPs: z.array(clusterIp).max(2, 'may only hold up to 2 values').optional(),
    ipFamilies: z.array(family).max(2, 'may only hold up to 2 values').optional(),
    ipFamilyPolicy: z.enum(['SingleStack', 'PreferDualStack', 'RequireDualStack']).optional(),
    externalName: z.string().optional(),
    sessionAffinity: z.enum(['None', 'ClientIP']).default('None'),
    sessionAffinityConfig: z
      .strictObject({
        clientIP: z
          .strictObject({
            timeoutSeconds: z
              .int(AFFINITY)
              .min(1, AFFINITY)
              .max(LONGEST_AFFINITY_S, AFFINITY)
              .default(DEFAULT_AFFINITY_S),
          })
          .optional(),
      })
      .optional(),
    publishNotReadyAddresses: z.boolean().default(false),
    internalTrafficPolicy: z.enum(['Cluster', 'Local']).default('Cluster'),
    externalTrafficPolicy: z.enum(['Cluster', 'Local']).optional(),
    trafficDistribution: z.enum(['PreferSameNode', 'PreferSameZone', 'PreferClose']).optional(),
    loadBalancerIP: outsideAddress.optional(),
    /** Always true. */
    allocateLoadBalancerNodePorts: z
      .literal(true, 'the addresses of a service lead to its node ports, without which nobody comes in')
      .optional(),
  },
  {
    externalIPs:
      'it lets one namespace take the traffic of others (CVE-2020-8554), use type LoadBalancer with loadBalancerIP',
    loadBalancerSourceRanges: 'all clients are let in, a firewall in front of the hosts may say which ones come so far',
    loadBalancerClass: 'addresses are given with loadBalancerIP, and announced by whoever routes them to the hosts',
    healthCheckNodePort: 'weft answers no health checks of load balancers outside',
  },
);

type ServiceSpec = z.output<typeof serviceSpec>;
type Refuse = (path: readonly PropertyKey[], input: unknown, message: string) => void;

const serviceSchema = z
  .strictObject({
    apiVersion: z.literal('v1'),
    kind: z.literal('Service'),
    metadata: upstreamMetadata(serviceName),
    spec: serviceSpec,
  })
  .superRefine(refine);

interface Written {
  readonly metadata: { readonly annotations?: Readonly<Record<string, string>> | undefined };
  readonly spec: ServiceSpec;
}

function refine({ metadata: { annotations }, spec }: Written, context: z.core.$RefinementCtx): void {
  const refuse: Refuse = (path, input, message) => {
    context.addIssue({ code: 'custom', path: [...path], input, message });
  };
  const inSpec: Refuse = (path, input, message) => refuse(['spec', ...path], input, message);
  const { loadBalancerIps } = readAnnotations(annotations, (key, message) =>
    refuse(['metadata', 'annotations', key], annotations?.[key], message),
  );
  if (spec.type === 'ExternalName' || isHeadless(spec)) {
    for (const key of [...FOR_CONNECTIONS, HEALTH_CHECK]) {
      const text = annotations?.[key];
      if (text !== undefined) refuse(['metadata', 'annotations', key], text, 'without an address, it has no effect');
    }
  }
  checkHealthAnnotations(annotations ?? {}, context, ['metadata', 'annotations']);
  const asksForCheck = annotations?.[HEALTH_CHECK] !== undefined;
  if (asksForCheck && spec.ports.every(({ protocol }) => protocol !== 'TCP') && !annotations[HEALTH_CHECK_PORT])
    refuse(
      ['metadata', 'annotations', HEALTH_CHECK],
      annotations[HEALTH_CHECK],
      `there is no TCP port: give ${HEALTH_CHECK_PORT}`,
    );
  refineType(spec, inSpec);
  refinePorts(spec, inSpec);
  refineAddresses(spec, inSpec);
  refinePolicies(spec, inSpec);
  const given = [...loadBalancerIps, ...(spec.loadBalancerIP === undefined ? [] : [spec.loadBalancerIP])];
  const at = ['metadata', 'annotations', LOAD_BALANCER_IPS];
  if (loadBalancerIps.length > 0 && spec.type !== 'LoadBalancer') {
    refuse(at, loadBalancerIps.join(), "may only be used when `type` is 'LoadBalancer'");
  } else if (given.length > 0 && new Set(given.map(familyOf)).size < new Set(given).size) {
    refuse(at, given.join(), 'may specify no more than one IP for each IP family');
  }
  const overlay = spec.ports.findIndex(({ protocol, port }) => protocol === 'UDP' && port === VXLAN_L4_PORT);
  if (given.length > 0 && overlay >= 0) {
    const why = `${VXLAN_L4_PORT}/udp is where hosts send VXLAN, so that clients outside cannot use it: choose another port`;
    inSpec(['ports', overlay, 'port'], VXLAN_L4_PORT, why);
  }
}

/** True if clients outside reach it. */
export function isPublished({ type }: Pick<ServiceSpec, 'type'>): boolean {
  return type === 'NodePort' || type === 'LoadBalancer';
}

/** True if it has no address of its own. */
export function isHeadless({ clusterIP, clusterIPs }: ServiceSpec): boolean {
  return clusterIP === HEADLESS || clusterIPs?.[0] === HEADLESS;
}

function refineType(spec: ServiceSpec, refuse: Refuse): void {
  const { type, externalName } = spec;
  if (type !== 'ExternalName') {
    if (externalName !== undefined)
      refuse(['externalName'], externalName, "may only be used when `type` is 'ExternalName'");
    if (spec.ports.length === 0 && !isHeadless(spec))
      refuse(['ports'], spec.ports, 'is missing: give at least one port');
    if (isPublished(spec) && isHeadless(spec)) {
      refuse(['clusterIP'], HEADLESS, `may not be set to 'None' for ${type} services`);
    }
    return;
  }
  for (const field of ['clusterIP', 'clusterIPs', 'ipFamilies', 'ipFamilyPolicy'] as const) {
    const value = spec[field];
    if (value !== undefined && value.length > 0) refuse([field], value, 'may not be set for ExternalName services');
  }
  const name = (externalName ?? '').replace(/\.$/, '');
  if (name === '') refuse(['externalName'], undefined, 'is missing: the name that it stands for is expected');
  else {
    const problem = dnsSubdomain.safeParse(name.toLowerCase()).error?.issues[0];
    if (problem) refuse(['externalName'], externalName, problem.message);
  }
}

function refinePorts({ type, ports }: ServiceSpec, refuse: Refuse): void {
  for (const [index, { name, protocol, port, nodePort: published }] of ports.entries()) {
    const before = ports.slice(0, index);
    if (name === undefined && ports.length > 1)
      refuse(['ports', index, 'name'], undefined, 'is missing: of several ports, each has a name');
    if (name !== undefined && before.some((other) => other.name === name))
      refuse(['ports', index, 'name'], name, `${quote(name)} is given twice`);
    if (before.some((other) => other.port === port && other.protocol === protocol))
      refuse(['ports', index], port, `port ${port}/${protocol.toLowerCase()} is given twice`);
    if (published === undefined) continue;
    if (type === 'ClusterIP' || type === 'ExternalName')
      refuse(['ports', index, 'nodePort'], published, `may not be used when \`type\` is '${type}'`);
    if (before.some((other) => other.nodePort === published && other.protocol === protocol))
      refuse(['ports', index, 'nodePort'], published, `${published}/${protocol.toLowerCase()} is given twice`);
  }
}

function refineAddresses({ type, clusterIP = '', clusterIPs = [], ...spec }: ServiceSpec, refuse: Refuse): void {
  if (type === 'ExternalName') return;
  const { ipFamilies = [], ipFamilyPolicy: policy } = spec;
  const [first] = clusterIPs;
  if (clusterIP !== '' && first !== undefined && first !== clusterIP)
    refuse(['clusterIPs'], clusterIPs, `first value must match \`clusterIP\` (${clusterIP})`);
  if (clusterIP === '' && first !== undefined)
    refuse(['clusterIPs'], clusterIPs, 'must be empty when `clusterIP` is not specified');
  if (clusterIPs.length > 1 && clusterIPs.includes(HEADLESS))
    refuse(['clusterIPs'], clusterIPs, "'None' must be the first and only value");
  const [one, other] = ipFamilies;
  if (one !== undefined && one === other) refuse(['ipFamilies', 1], other, `${quote(other)} is given twice`);
  const asked = (clusterIPs.length > 0 ? clusterIPs : [clusterIP]).filter((ip) => ip !== '' && ip !== HEADLESS);
  if (asked.length > 1 && familyOf(asked[0]!) === familyOf(asked[1]!))
    refuse(['clusterIPs'], clusterIPs, 'may specify no more than one IP for each IP family');
  for (const [index, ip] of asked.entries()) {
    const wanted = ipFamilies[index];
    if (wanted !== undefined && wanted !== familyOf(ip))
      refuse(['clusterIPs', index], ip, `expected an ${wanted} value as indicated by \`ipFamilies[${index}]\``);
  }
  if (policy === undefined || policy === 'SingleStack') {
    for (const [field, { length }] of Object.entries({ ipFamilies, clusterIPs })) {
      if (length < 2) continue;
      const message = `must be RequireDualStack or PreferDualStack when multiple '${field}' are specified`;
      refuse(['ipFamilyPolicy'], policy ?? {}, message);
    }
  }
}

function refinePolicies(spec: ServiceSpec, refuse: Refuse): void {
  const { type, sessionAffinity, sessionAffinityConfig, externalTrafficPolicy } = spec;
  if (sessionAffinity === 'None' && sessionAffinityConfig !== undefined)
    refuse(['sessionAffinityConfig'], sessionAffinityConfig, 'must not be set when session affinity is None');
  if (externalTrafficPolicy !== undefined && !isPublished(spec))
    refuse(['externalTrafficPolicy'], externalTrafficPolicy, 'may only be set for externally-accessible services');
  for (const field of ['loadBalancerIP', 'allocateLoadBalancerNodePorts'] as const) {
    if (spec[field] !== undefined && type !== 'LoadBalancer')
      refuse([field], spec[field], "may only be used when `type` is 'LoadBalancer'");
  }
}

export type Family = z.output<typeof family>;
export type ServiceResource = z.output<typeof serviceSchema>;
/** The spec as it is written: what has a default may be missing. */
export type ServiceFields = z.input<typeof serviceSpec>;
export type ServicePortSpec = z.output<typeof servicePort>;

/** @param address canonical, so that an IPv4-mapped one is written as IPv4 */
export function familyOf(address: string): Family {
  return address.includes(':') ? 'IPv6' : 'IPv4';
}

/** How long a client keeps its backend, in milliseconds; undefined if it gets one for each connection. */
export function affinityMsOf({ sessionAffinity, sessionAffinityConfig }: ServiceSpec): number | undefined {
  if (sessionAffinity === 'None') return undefined;
  return 1000 * (sessionAffinityConfig?.clientIP?.timeoutSeconds ?? DEFAULT_AFFINITY_S);
}

/** The addresses that the operator gave it for clients outside, canonical. */
export function loadBalancerIpsOf({ metadata, spec }: ServiceResource): readonly string[] {
  if (spec.type !== 'LoadBalancer') return [];
  const { loadBalancerIps } = readAnnotations(metadata.annotations);
  return [...new Set([...(spec.loadBalancerIP === undefined ? [] : [spec.loadBalancerIP]), ...loadBalancerIps])];
}

/** What weft allots to a Service and stores with it. */
export const serviceAllotted = z.object({
  /** One address for each of its families, in their order; empty if it has none (headless, ExternalName). */
  clusterIps: z.array(ipAddress),
  ipFamilies: z.array(family),
  /** Those of its ports, in their order, and the first one of each of its ranges (`weft.dev/ports`); 0 where there is none. */
  nodePorts: z.array(z.int()),
});

/** What is shown of it besides, and not read again. */
export interface ServiceStatus {
  readonly loadBalancer?: { readonly ingress?: readonly { readonly ip: string }[] };
  /** Those of its ranges (`weft.dev/ports`), in their order: `31000-31100`. */
  readonly nodePorts?: readonly string[];
}

export type ServiceAllotted = Readonly<z.output<typeof serviceAllotted>>;

export const serviceKind = defineKind({
  kind: 'Service',
  plural: 'services',
  shortNames: ['svc'],
  apiVersion: 'v1',
  isNamespaced: true,
  isLeaf: true,
  schema: serviceSchema,
  references: (): Reference[] => [],
  columns: {
    heads: ['TYPE', 'CLUSTER-IP', 'EXTERNAL-IP', 'PORT(S)'],
    cells: (service) => {
      const { type, clusterIP, ports } = service.spec;
      const { ranges } = readAnnotations(service.metadata.annotations);
      const { nodePorts = [] } = statusOf(service);
      const further = furtherPorts(ports, ranges).map(({ first, last, protocol, range, offset }) => {
        const published = Number.parseInt(nodePorts[range] ?? '', 10) + offset;
        return { port: first, lastPort: last, protocol, ...(published > 0 && { nodePort: published }) };
      });
      const all = [...ports, ...further].map(servicePortText);
      return [type, clusterIP ?? '<none>', externalText(service), all.length === 0 ? '<none>' : all.join(',')];
    },
  },
  wideColumns: {
    heads: ['SELECTOR'],
    cells: ({ spec: { selector = {} } }) => [
      Object.entries(selector)
        .map(([key, value]) => `${key}=${value}`)
        .join(',') || '<none>',
    ],
  },
});

function statusOf(service: ServiceResource): ServiceStatus {
  return (service as { readonly status?: ServiceStatus }).status ?? {};
}

/** As kubectl shows it. */
function externalText(service: ServiceResource): string {
  const { type, externalName } = service.spec;
  if (type === 'ExternalName') return externalName ?? '';
  if (type !== 'LoadBalancer') return '<none>';
  return loadBalancerIpsOf(service).join(',') || '<pending>';
}
