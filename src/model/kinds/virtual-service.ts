/**
 * VirtualService (`networking.istio.io/v1`), the part about connections: where those to a Service go, by its port and by
 * who opens them, in shares of several destinations. The first route that matches is taken; a connection that none
 * matches goes to the Service as if there were no rule.
 */
import * as z from 'zod';
import { serviceHost, serviceOf } from '../service-host.ts';
import { label, labelKey, name, quote } from '../value.ts';
import { ISTIO_NETWORKING_V1, portNumber, portSelector } from './destination-rule.ts';
import { foreignObject } from './foreign.ts';
import { defineKind } from './kind.ts';
import { upstreamMetadata } from './upstream.ts';

const MOST_HOSTS = 64;
const MOST_ROUTES = 64;
const MOST_MATCHES = 64;
const MOST_DESTINATIONS = 64;
const GREATEST_WEIGHT = 1_000_000;

const NO_GATEWAYS = 'weft has no gateways, a rule holds for all containers';
const isWeight = `a weight is a whole number, 0 to ${GREATEST_WEIGHT}`;

/** All of it has to apply. */
const match = foreignObject(
  {
    /** The port of the Service that the client connects to. */
    port: portNumber.optional(),
    /** Labels of the client's endpoint. */
    sourceLabels: z
      .record(labelKey, label)
      .refine((labels) => Object.keys(labels).length > 0, 'give at least one label')
      .optional(),
    /** The namespace of the client's endpoint. */
    sourceNamespace: name.optional(),
  },
  {
    gateways: NO_GATEWAYS,
    destinationSubnets: 'spec.hosts says which Service is meant',
    sourceSubnet: 'clients are matched by sourceLabels and sourceNamespace',
  },
);

const destination = foreignObject({
  host: serviceHost,
  /** As a DestinationRule of that Service names it; without one, all of its backends. */
  subset: name.optional(),
  /** A port of that Service; the one that the client connects to if it is not given. */
  port: portSelector.optional(),
});

const route = foreignObject({
  destination,
  /** Its part of the sum of all. Among several, one without a weight gets nothing, as in Istio. */
  weight: z.int({ error: isWeight }).min(0, isWeight).max(GREATEST_WEIGHT, isWeight).optional(),
});

const tcpRoute = foreignObject({
  /** One of them is enough; without any, all connections. */
  match: z.array(match).max(MOST_MATCHES, `a route has at most ${MOST_MATCHES} matches`).default([]),
  route: z
    .array(route)
    .min(1, 'give at least one destination')
    .max(MOST_DESTINATIONS, `a route has at most ${MOST_DESTINATIONS} destinations`),
}).superRefine(({ route: destinations }, context) => {
  const sum = destinations.reduce((all, { weight = 0 }) => all + weight, 0);
  if (destinations.length === 1 || sum > 0) return;
  context.addIssue({
    code: 'custom',
    path: ['route'],
    message: 'the weights of its destinations add up to 0, so none gets anything: give at least one a weight',
  });
});

type TcpRoute = z.output<typeof tcpRoute>;

/** Does it take every connection? */
function takesAll({ match: matches }: TcpRoute): boolean {
  return matches.length === 0 || matches.some((one) => Object.keys(one).length === 0);
}

export const virtualServiceSchema = foreignObject({
  apiVersion: z.literal(ISTIO_NETWORKING_V1),
  kind: z.literal('VirtualService'),
  metadata: upstreamMetadata(name),
  spec: foreignObject(
    {
      hosts: z
        .array(serviceHost)
        .min(1, 'give at least one Service')
        .max(MOST_HOSTS, `a rule is for at most ${MOST_HOSTS} Services`),
      tcp: z.array(tcpRoute).max(MOST_ROUTES, `a rule has at most ${MOST_ROUTES} routes`).default([]),
    },
    {
      http: 'http routes are layer 7, and weft balances connections: write them as tcp routes',
      tls: 'tls routes go by the name in the handshake, which weft does not read: write them as tcp routes',
      gateways: NO_GATEWAYS,
      exportTo: 'a rule holds for clients of all namespaces',
    },
  ).superRefine(({ tcp }, context) => {
    if (tcp.length === 0) context.addIssue({ code: 'custom', path: ['tcp'], message: 'give at least one route' });
    const last = tcp.findIndex(takesAll);
    if (last === -1 || last === tcp.length - 1) return;
    const message = `is never reached: tcp[${last}] takes every connection`;
    context.addIssue({ code: 'custom', path: ['tcp', last + 1], message });
  }),
}).superRefine(({ metadata: { namespace }, spec: { hosts } }, context) => {
  const services = hosts.map((host) => hostId(host, namespace));
  for (const [index, service] of services.entries()) {
    if (services.indexOf(service) === index) continue;
    const path = ['spec', 'hosts', index];
    const input = hosts[index]!;
    context.addIssue({ code: 'custom', path, input, message: `${quote(input)} is given twice` });
  }
});

export type VirtualServiceResource = z.output<typeof virtualServiceSchema>;

export const virtualServiceKind = defineKind({
  kind: 'VirtualService',
  plural: 'virtualservices',
  shortNames: ['vs'],
  apiVersion: ISTIO_NETWORKING_V1,
  isNamespaced: true,
  isLeaf: true,
  schema: virtualServiceSchema,
  references: ({ metadata: { namespace }, spec: { hosts, tcp } }) => {
    const destinations = tcp.flatMap(({ route: all }) => all.map((one) => one.destination.host));
    const named = new Map([...hosts, ...destinations].map((host) => [hostId(host, namespace), host]));
    return [...named.values()].map((host) => ({ kind: 'Service', ...serviceOf(host, namespace) }));
  },
  columns: {
    heads: ['HOSTS', 'DESTINATIONS'],
    cells: ({ spec: { hosts, tcp } }) => [hosts.join(','), tcp.map(routeText).join('; ')],
  },
});

function hostId(host: string, namespace: string): string {
  const service = serviceOf(host, namespace);
  return `${service.namespace}/${service.name}`;
}

/** `reviews/v1 90, reviews/v2 10` */
function routeText({ route: destinations }: TcpRoute): string {
  return destinations
    .map(({ destination: { host, subset }, weight = 0 }) => {
      const to = subset === undefined ? host : `${host}/${subset}`;
      return destinations.length === 1 ? to : `${to} ${weight}`;
    })
    .join(', ');
}
