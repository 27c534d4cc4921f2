/**
 * EndpointSlice (discovery.k8s.io/v1 of Kubernetes): addresses behind a Service, written by hand. weft makes those of Services
 * with a selector itself, on each host, and stores none of them.
 */
import * as z from 'zod';
import { ANNOTATION_PREFIX } from '../annotations.ts';
import { l4Port } from '../publish.ts';
import { dnsLabel, dnsSubdomain, portProtocol, upstreamMetadata } from './upstream.ts';
import { name, quote, unicastAddress } from '../value.ts';
import { foreignObject } from './foreign.ts';
import { defineKind, type Reference } from './kind.ts';
import { familyOf } from './service.ts';

/** The label that says which Service of its namespace a slice is for. */
export const SERVICE_NAME = 'kubernetes.io/service-name';
/** Who writes a slice. */
export const MANAGED_BY = 'endpointslice.kubernetes.io/managed-by';
/** Its value for slices that weft makes of selectors. */
export const MANAGED_BY_WEFT = 'weft.dev';

const MOST_ENDPOINTS = 1000;
const MOST_PORTS = 100;
const MOST_ADDRESSES = 100;
const MOST_HINTS = 8;

/** Null means that it is not known. */
const condition = z.boolean().nullable().optional();
const text = z.string().nullable().optional();

const isLoopback = (address: string): boolean => address === '::1' || address.startsWith('127.');

const endpointAddress = unicastAddress.refine(
  (address) => !isLoopback(address),
  'may not be in the loopback range (127.0.0.0/8, ::1/128)',
);

const hint = z
  .array(z.strictObject({ name: z.string().min(1) }))
  .max(MOST_HINTS, `may have at most ${MOST_HINTS} hints`);

const sliceEndpoint = foreignObject(
  {
    /** All of one endpoint: the first one is used. */
    addresses: z
      .array(endpointAddress)
      .min(1, 'must contain at least 1 address')
      .max(MOST_ADDRESSES, `may have at most ${MOST_ADDRESSES} addresses`),
    conditions: z
      .strictObject({
        /** Null means true. */
        ready: condition,
        /** Null means the same as `ready`. */
        serving: condition,
        /** Null means false. */
        terminating: condition,
      })
      .nullable()
      .optional(),
    /** Its name below that of a headless Service. */
    hostname: dnsLabel.nullable().optional(),
    /** The host that it is on. */
    nodeName: text,
    zone: text,
    /** What it is. An Endpoint of the same namespace is known by its address, too. */
    targetRef: z
      .strictObject({
        kind: z.string().optional(),
        namespace: name.optional(),
        name: z.string().optional(),
        uid: z.string().optional(),
        apiVersion: z.string().optional(),
        resourceVersion: z.string().optional(),
        fieldPath: z.string().optional(),
      })
      .nullable()
      .optional(),
    /** Where it is to be used rather than elsewhere. weft decides that by `nodeName` and `zone`. */
    hints: z.strictObject({ forZones: hint.optional(), forNodes: hint.optional() }).nullable().optional(),
  },
  { deprecatedTopology: 'write nodeName and zone in its place' },
);

const slicePort = z.strictObject({
  /** That of a port of the Service; empty for the one that has no name. */
  name: z
    .union([dnsLabel, z.literal('')], { error: 'the name of a port of the Service, or empty' })
    .nullable()
    .optional(),
  protocol: portProtocol,
  port: l4Port,
  appProtocol: text,
});

const endpointSliceSchema = z
  .strictObject({
    apiVersion: z.literal('discovery.k8s.io/v1'),
    kind: z.literal('EndpointSlice'),
    metadata: upstreamMetadata(dnsSubdomain),
    addressType: z.enum(['IPv4', 'IPv6'], {
      error: ({ input }) =>
        input === 'FQDN' ? 'weft does not support names as addresses: accepted are "IPv4", "IPv6"' : undefined,
    }),
    endpoints: z.array(sliceEndpoint).max(MOST_ENDPOINTS, `must have at most ${MOST_ENDPOINTS} items`).default([]),
    ports: z.array(slicePort).max(MOST_PORTS, `must have at most ${MOST_PORTS} items`).nullable().default([]),
  })
  .superRefine(({ metadata: { labels, annotations }, addressType, endpoints, ports }, context) => {
    const refuse = (path: PropertyKey[], input: unknown, message: string): void => {
      context.addIssue({ code: 'custom', path, input, message });
    };
    for (const key of Object.keys(annotations ?? {}).filter((key) => key.startsWith(ANNOTATION_PREFIX)))
      refuse(
        ['metadata', 'annotations', key],
        annotations?.[key],
        `${quote(key)} has no effect here: write it in the Service`,
      );
    const service = labels[SERVICE_NAME];
    if (service !== undefined && !name.safeParse(service).success)
      refuse(['metadata', 'labels', SERVICE_NAME], service, `${quote(service)} is not a name of a Service`);
    if (labels[MANAGED_BY] === MANAGED_BY_WEFT)
      refuse(['metadata', 'labels', MANAGED_BY], MANAGED_BY_WEFT, 'weft makes such a slice itself: leave it out');
    for (const [index, { addresses }] of endpoints.entries()) {
      for (const [at, address] of addresses.entries()) {
        if (familyOf(address) !== addressType)
          refuse(['endpoints', index, 'addresses', at], address, `must be an ${addressType} address`);
      }
    }
    const names = (ports ?? []).map((port) => port.name ?? '');
    for (const [index, one] of names.entries())
      if (names.indexOf(one) < index) refuse(['ports', index, 'name'], one, `${quote(one)} is given twice`);
  });

export type EndpointSliceResource = z.output<typeof endpointSliceSchema>;
export type SliceEndpoint = EndpointSliceResource['endpoints'][number];

const MOST_SHOWN = 3;

export const endpointSliceKind = defineKind({
  kind: 'EndpointSlice',
  plural: 'endpointslices',
  shortNames: [],
  apiVersion: 'discovery.k8s.io/v1',
  isNamespaced: true,
  isLeaf: true,
  schema: endpointSliceSchema,
  // Its Service may be declared later.
  references: (): Reference[] => [],
  columns: {
    heads: ['ADDRESSTYPE', 'PORTS', 'ENDPOINTS'],
    cells: ({ addressType, ports, endpoints }) => [
      addressType,
      (ports ?? []).map(({ port }) => port).join(',') || '<unset>',
      shortened(endpoints.map(({ addresses: [first = ''] }) => first)),
    ],
  },
});

/** As kubectl shows them. */
function shortened(addresses: readonly string[]): string {
  if (addresses.length === 0) return '<unset>';
  const more = addresses.length - MOST_SHOWN;
  return `${addresses.slice(0, MOST_SHOWN).join(',')}${more > 0 ? ` + ${more} more...` : ''}`;
}
