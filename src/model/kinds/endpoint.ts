/** Endpoint: one interface of a container on a network, either local (a TAP) or on another host (a static entry). */
import * as z from 'zod';
import { annotations, checkedBy } from '../annotations.ts';
import { readEndpointAnnotations } from '../endpoint-annotations.ts';
import { findRepeatedName, namedPort, namedPortText } from '../named-port.ts';
import { findRepeated, publishSpec, publishText } from '../publish.ts';
import { burst, rate, rateLimitText } from '../rate.ts';
import { namespacedMetadata } from '../resource.ts';
import { etherType, ipAddress, macAddress, name, quote, unicastAddress } from '../value.ts';
import { defineKind, WEFT_V1, type Reference } from './kind.ts';

const MOST_PUBLISHED = 1024;
const MOST_NAMED_PORTS = 100;
/** IFNAMSIZ of linux/if.h, without the zero behind it. */
const LONGEST_IFNAME_BYTES = 15;
/** `all` and `default` are names of sysctls. */
const RESERVED_IFNAMES = ['lo', 'all', 'default', '.', '..'];

/** How many bytes of Ethernet frames may pass a port. The directions are the switch's. */
const rateLimitSpec = z
  .strictObject({
    /** From the container into the switch. */
    ingress: rate.optional(),
    /** From the switch to the container. */
    egress: rate.optional(),
    /** How many bytes may pass at once in each direction. By default 250 ms of the rate, at least 128kb. */
    burst: burst.optional(),
  })
  .refine(({ ingress, egress }) => ingress !== undefined || egress !== undefined, 'give ingress, egress or both');

/** As the kernel takes it: one that it refuses could never be in force. It also names the interface's sysctls. */
export const interfaceName = z
  .string()
  .refine(
    (text) => /^[^\s/:%\p{Cc}]+$/u.test(text) && Buffer.byteLength(text) <= LONGEST_IFNAME_BYTES,
    'an interface name has 1 to 15 characters, without spaces, control characters, "/", ":" and "%"',
  )
  .refine((text) => !RESERVED_IFNAMES.includes(text), 'this interface name is reserved');

export const endpointSpec = z.strictObject({
  network: name,
  /** Where it is. A local endpoint has either `netns` (a name or a path) or `pid`, any other has a `host`. */
  netns: z.string().min(1, 'a network namespace is a name or a path').optional(),
  pid: z.int({ error: 'a pid is a positive whole number' }).min(1, 'a pid is a positive whole number').optional(),
  host: name.optional(),
  /** Chosen from the subnets if there are none. */
  addresses: z.array(ipAddress).default([]),
  mac: macAddress.optional(),
  interface: interfaceName.default('eth0'),
  /** Addresses that it may also send from (a virtual IP, for example). */
  allowedAddresses: z.array(unicastAddress).default([]),
  /** EtherTypes that it may send besides IPv4, IPv6 and ARP. */
  allowedEtherTypes: z.array(etherType).default([]),
  /** Turns anti-spoofing off, for an endpoint with a router or a nested switch behind it. */
  trust: z.boolean().default(false),
  /** Its own ports by name, for Services that name their target port. */
  ports: z.array(namedPort).max(MOST_NAMED_PORTS, `an endpoint names at most ${MOST_NAMED_PORTS} ports`).optional(),
  /** Ports of this host that lead to it. Its network must have an outside. */
  publish: z
    .array(publishSpec)
    .max(MOST_PUBLISHED, `an endpoint publishes at most ${MOST_PUBLISHED} ports`)
    .default([]),
  rateLimit: rateLimitSpec.optional(),
});

export const endpointSchema = z
  .strictObject({
    apiVersion: z.literal(WEFT_V1),
    kind: z.literal('Endpoint'),
    metadata: namespacedMetadata.extend({ annotations }),
    spec: endpointSpec,
  })
  .superRefine(checkedBy(readEndpointAnnotations))
  .superRefine(({ spec }, context) => {
    for (const [index, address] of spec.addresses.entries()) {
      if (spec.addresses.indexOf(address) < index) {
        const path = ['spec', 'addresses', index];
        context.addIssue({ code: 'custom', path, input: address, message: `${quote(address)} is given twice` });
      }
    }
    const places = [spec.netns, spec.pid, spec.host].filter((place) => place !== undefined).length;
    if (places !== 1) {
      context.addIssue({ code: 'custom', path: ['spec'], message: 'give exactly one of netns, pid and host' });
    }
    if (spec.host !== undefined && (spec.mac === undefined || spec.addresses.length === 0)) {
      context.addIssue({
        code: 'custom',
        path: ['spec'],
        message: 'an endpoint of another host needs its mac and addresses',
      });
    }
    const repeated = findRepeated(spec.publish);
    if (repeated) {
      const { index, message } = repeated;
      context.addIssue({ code: 'custom', path: ['spec', 'publish', index], message });
    }
    const renamed = findRepeatedName(spec.ports ?? []);
    if (renamed) {
      const { index, message } = renamed;
      context.addIssue({ code: 'custom', path: ['spec', 'ports', index], message });
    }
  });

/** What weft allots to an endpoint and stores with it. */
export const endpointAllotted = z.object({
  addresses: z.array(unicastAddress),
  mac: macAddress,
  /** The host that it is on, in a store that several hosts share. */
  host: name.optional(),
});

export type RateLimitSpec = z.output<typeof rateLimitSpec>;
export type EndpointResource = z.output<typeof endpointSchema>;

export const endpointKind = defineKind({
  kind: 'Endpoint',
  plural: 'endpoints',
  shortNames: ['ep'],
  apiVersion: WEFT_V1,
  isNamespaced: true,
  isLeaf: true,
  schema: endpointSchema,
  references: ({ spec }): Reference[] => [
    { kind: 'Network', name: spec.network },
    ...(spec.host === undefined ? [] : [{ kind: 'Host', name: spec.host }]),
  ],
  columns: {
    heads: ['NETWORK', 'ADDRESSES', 'PLACE'],
    cells: ({ spec: { network, addresses, netns, pid, host } }) => [
      network,
      addresses.join(','),
      netns !== undefined ? `netns ${netns}` : pid !== undefined ? `pid ${pid}` : `host ${host}`,
    ],
  },
  wideColumns: {
    heads: ['MAC', 'INTERFACE', 'PORTS', 'PUBLISHED', 'RATES', 'TRUSTED'],
    cells: ({ spec: { mac = '', interface: ifname, ports = [], publish, rateLimit, trust } }) => [
      mac,
      ifname,
      ports.map(namedPortText).join(','),
      publish.map(publishText).join(','),
      rateLimit === undefined ? '' : rateLimitText(rateLimit),
      trust ? 'yes' : '',
    ],
  },
});
