/**
 * What Docker asks of a remote network driver and a remote IPAM driver (libnetwork's drivers/remote/api and ipams/remote/api).
 * Versions of Docker send different fields: those that weft does not know are left out.
 */
import * as z from 'zod';
import { label, labelKey, macAddress, name, quote } from '../../model/value.ts';

const LONGEST_ID = 128;

/** Hexadecimal digits, as Docker makes them; nothing here depends on that. */
const id = z
  .string()
  .regex(/^[\w.-]+$/, 'an id of letters, digits, "_", "." and "-" is expected')
  .max(LONGEST_ID, `an id has at most ${LONGEST_ID} characters`);

/** Go writes null for an empty text, list or map. */
const text = z
  .string()
  .nullish()
  .transform((given) => given ?? '');
const texts = z
  .record(z.string(), z.string())
  .nullish()
  .transform((given) => given ?? {});

export const nothing = z.unknown();

// Networks

/** What `docker network create` was given with `-o`, among the options. */
const GENERIC = 'com.docker.network.generic';
const INTERNAL = 'com.docker.network.internal';

const poolData = z
  .array(z.object({ AddressSpace: text, Pool: text, Gateway: text }))
  .nullish()
  .transform((given) => given ?? []);

export const createNetwork = z.object({
  NetworkID: id,
  Options: z
    .object({ [GENERIC]: z.object({ network: name.optional() }).nullish(), [INTERNAL]: z.boolean().nullish() })
    .nullish()
    .transform((given) => ({ network: given?.[GENERIC]?.network, isInternal: given?.[INTERNAL] ?? false })),
  IPv4Data: poolData,
  IPv6Data: poolData,
});
export const deleteNetwork = z.object({ NetworkID: id });

// Endpoints

/** `shop=web,tier=front` */
const labels = z.string().transform((given, context): Record<string, string> => {
  const pairs = given.split(',').map((pair) => pair.trim());
  const entries = pairs
    .filter((pair) => pair !== '')
    .map((pair): [string, string] => {
      const at = pair.indexOf('=');
      const [key, value] = [pair.slice(0, at), pair.slice(at + 1)];
      const { error } = z.tuple([labelKey, label]).safeParse([key, value]);
      const message = at <= 0 ? `${quote(pair)} is not KEY=VALUE` : error?.issues[0]?.message;
      if (message !== undefined) context.addIssue({ code: 'custom', message });
      return [key, value];
    });
  return Object.fromEntries(entries);
});

const PREFIX = 'weft.dev/';
const ownOptions = z.object({
  'weft.dev/name': name.optional(),
  'weft.dev/namespace': name.optional(),
  'weft.dev/labels': labels.optional(),
  /** Several are separated by commas. */
  'weft.dev/aliases': z.string().optional(),
});

/** Given with `docker run --network name=…,driver-opt=…`, or as `driver_opts` of a compose file. */
const endpointOptions = z
  .record(z.string(), z.unknown())
  .superRefine((given, context) => {
    // A label that is lost by a misspelt name would leave the container without its policies.
    for (const key of Object.keys(given).filter((one) => one.startsWith(PREFIX) && !(one in ownOptions.shape))) {
      const names = Object.keys(ownOptions.shape).join(', ');
      context.addIssue({ code: 'custom', path: [key], message: `unknown option ${quote(key)}; known are ${names}` });
    }
  })
  .pipe(ownOptions)
  .nullish()
  .transform((given) => given ?? {});

export const createEndpoint = z.object({
  NetworkID: id,
  EndpointID: id,
  Interface: z.object({
    Address: text,
    AddressIPv6: text,
    MacAddress: z.union([z.literal('').transform(() => undefined), macAddress]).nullish(),
  }),
  Options: endpointOptions,
});

export const endpoint = z.object({ NetworkID: id, EndpointID: id });

/** The path of the container's namespace, which may be still to come. */
const SANDBOX = 'an absolute path of at most 4095 bytes is expected';
export const join = z.object({
  NetworkID: id,
  EndpointID: id,
  SandboxKey: z
    .string()
    .regex(/^\/[^\0]*$/, SANDBOX)
    .max(4095, SANDBOX),
});

const MOST_PORTS = 1024;
const PORTS = 'com.docker.network.portmap';
const whole = z.int('a whole number is expected').min(0).max(65_535);

const portMapping = z.object({
  /** The number of the protocol (IANA). */
  Proto: z.literal([6, 17], '6 (TCP) and 17 (UDP) are accepted'),
  Port: whole,
  HostIP: text,
  HostPort: whole,
});

export const external = z.object({
  NetworkID: id,
  EndpointID: id,
  Options: z
    .object({ [PORTS]: z.array(portMapping).max(MOST_PORTS, `at most ${MOST_PORTS} ports are accepted`).nullish() })
    .nullish()
    .transform((given) => given?.[PORTS] ?? []),
});

// Addresses

export const requestPool = z.object({ Pool: text, SubPool: text, Options: texts, V6: z.boolean().nullish() });
export const releasePool = z.object({ PoolID: z.string() });
export const requestAddress = z.object({ PoolID: z.string(), Address: text, Options: texts });
export const releaseAddress = z.object({ PoolID: z.string(), Address: text });

export type CreateNetwork = z.output<typeof createNetwork>;
export type CreateEndpoint = z.output<typeof createEndpoint>;
export type EndpointRef = z.output<typeof endpoint>;
export type Join = z.output<typeof join>;
export type External = z.output<typeof external>;
export type RequestPool = z.output<typeof requestPool>;
export type RequestAddress = z.output<typeof requestAddress>;
export type ReleaseAddress = z.output<typeof releaseAddress>;
