/** Schemas of the records of a shared store that are no resources. */
import * as z from 'zod';
import { vniSchema } from './kinds/network.ts';
import { serviceAllotted } from './kinds/service.ts';
import { cidr, ipAddress, macAddress, name, quote } from './value.ts';

/** What a network has for itself. */
const allottedNetwork = z.object({ vni: vniSchema, subnets: z.array(cidr) });

/** `allotment/networks` */
export const allotmentRecord = z.object({ networks: z.record(z.string(), allottedNetwork) });

/** `unconfirmed/change`: a change that waits to be confirmed. */
export const unconfirmedChange = z.object({
  /** Where it was made. */
  host: z.string(),
  /** When. */
  at: z.iso.datetime(),
  forMs: z.int().min(0),
  /** Set when it is being taken back: the revision of the change. */
  takingBack: z.int().optional(),
});
export type UnconfirmedChange = z.output<typeof unconfirmedChange>;

/** `unconfirmed/of/KEY`: the resource that it has replaced; null if there was none. */
export const unconfirmedOf = z.object({ before: z.looseObject({}).nullable() });

/** The first subnet that is the second one of its family, and what is wrong with it. */
export function secondOfFamily(cidrs: readonly string[]): { readonly index: number; readonly why: string } | undefined {
  const families = cidrs.map((text) => (text.includes(':') ? 'IPv6' : 'IPv4'));
  const index = families.findIndex((family, at) => families.indexOf(family) < at);
  if (index < 0) return undefined;
  const why = `${quote(cidrs[index]!)} is the second ${families[index]} subnet: services get their addresses from at most one of each family`;
  return { index, why };
}

/** `allotment/services`: where services get their addresses, at most one subnet of each family. */
export const serviceRangeRecord = z.object({
  subnets: z
    .array(cidr)
    .min(1, 'has no subnet')
    .superRefine((cidrs, context) => {
      const second = secondOfFamily(cidrs);
      if (second) context.addIssue({ code: 'custom', message: second.why, path: [second.index] });
    }),
});

/** `vips/ADDRESS` and `node-ports/PORT`: the one service that has it, by its id. */
export const serviceClaim = z.object({ service: z.string() });

/** An address that a host has, or wants, out of a block that is not its own. */
const addressClaim = z.object({
  host: z.string(),
  endpoint: z.string(),
  /** The host of the block has not answered yet. */
  isAsked: z.literal(true).optional(),
  /** It is given back, and the host of the block has not taken it yet. */
  isFree: z.literal(true).optional(),
});

/** `blocks/NETWORK/FAMILY-FIRST` */
export const blockRecord = z.object({
  host: z.string().optional(),
  claimed: z.record(ipAddress, addressClaim),
});

/** What a host keeps of a block in its own store: `holdings/NETWORK/FAMILY-FIRST`. */
export const holdingRecord = z.object({
  /** The revision at which the block was this host's; missing if it is not. */
  heldAt: z.number().optional(),
  /** Addresses of the block that were given to other hosts. */
  yielded: z.record(
    ipAddress,
    z.object({
      host: z.string(),
      endpoint: z.string(),
      /** The revision of the record that said so, or on which it was decided. */
      at: z.number(),
      /** True if the record has said so. */
      isSure: z.boolean(),
    }),
  ),
  /** Addresses that were claimed out of the block, and the revisions at which they were this host's. */
  singles: z.record(ipAddress, z.object({ endpoint: z.string(), at: z.number() })),
  /** Addresses that endpoints of this host have, or had until a moment ago. */
  used: z.record(ipAddress, z.string()),
  /** Those of them that endpoints had whose interfaces a container engine carried. */
  carried: z.array(ipAddress).optional(),
});

const hexOf = (bytes: number) =>
  z.string().regex(new RegExp(`^[0-9a-f]{${2 * bytes}}$`), `${bytes} bytes in hexadecimal`);

/** What a host that shares the store has registered, in `hosts/NAME` beside its resource. */
export const hostRegistration = z.object({
  /** Its own name, as in all records that belong to one host. */
  host: name,
  /** Random, and the same as long as its state directory exists. */
  id: hexOf(16),
  /** The last 3 bytes of the MAC with which it asks for neighbors. */
  mac: hexOf(3),
  /** When it registered, RFC 3339. For people. */
  since: z.string(),
});

/** `host-claims/WHAT/VALUE`: the one host that has it. */
export const hostClaim = z.object({ host: name });

/** The process that a daemon is, to tell whether it still runs: only processes of one boot and namespace can be compared. */
const processIdentity = z.object({
  bootId: z.string(),
  /** The namespace in which the pid counts. */
  pidNamespace: z.string(),
  pid: z.int(),
  /** When the process started, in clock ticks since the boot. */
  startTicks: z.string(),
  /** Device and inode of its state directory, which only one daemon uses at a time, or one that takes over from it. */
  stateDirectory: z.string(),
});

/** `live/NAME`, under a lease: the daemon that runs on a host. */
export const liveRecord = z.object({
  host: name,
  id: hexOf(16),
  version: z.string(),
  /** What its version can do that others may not. */
  capabilities: z.array(z.string()),
  process: processIdentity,
  /** RFC 3339. For people. */
  startedAt: z.string(),
  /** Its clock when this was written, in milliseconds since the epoch. */
  clock: z.number(),
  /** The MTU of its underlay, if it is known. */
  mtu: z.int().optional(),
});

/** `applied/NAME`, under the same lease: the last change of the state that the host has in force. */
export const appliedRecord = z.object({ revision: z.int() });

/**
 * `unhealthy/NAME`, under the same lease: the backends of that host whose checks fail, by the id of their service and by their
 * address, and why.
 */
export const unhealthyRecord = z.object({
  /** Its own name, as in all records that belong to one host. */
  host: name,
  backends: z.record(z.string(), z.record(z.string(), z.string().max(200))),
});

/** `asked/ID`, under a lease of its own: what a host asks the others. */
export const askedRecord = z.object({ host: name, lease: z.string(), question: z.unknown() });

/** `answers/ID/HOST`, under the same lease. */
export const answerRecord = z.object({ host: name, answer: z.unknown() });

/** A change that a host proposes, so far as policies and services depend on it. */
export const proposedRecord = z.object({
  /** Policies, namespaces, slices of services and rules about them. */
  resources: z.array(z.unknown()),
  /** Earlier versions say nothing of them. */
  services: z.array(z.object({ resource: z.unknown(), allotted: serviceAllotted })).default([]),
  endpoints: z.array(
    z.object({
      resource: z.unknown(),
      addresses: z.array(ipAddress),
      mac: macAddress,
      /** Where it would be. */
      host: name,
    }),
  ),
});

export type ProposedRecord = z.output<typeof proposedRecord>;
export type ProcessIdentity = Readonly<z.output<typeof processIdentity>>;
export type LiveRecord = Readonly<z.output<typeof liveRecord>>;
export type HostRegistration = Readonly<z.output<typeof hostRegistration>>;
export type AllottedNetwork = Readonly<z.output<typeof allottedNetwork>>;
export type AddressClaim = Readonly<z.output<typeof addressClaim>>;
export type BlockRecord = z.output<typeof blockRecord>;
export type HoldingRecord = z.output<typeof holdingRecord>;
