/** Schemas of the records of a shared store that are no resources. */
import * as z from 'zod';
import { vniSchema } from './kinds/network.ts';
import { cidr, ipAddress, name } from './value.ts';

/** What a network has for itself. */
export const allottedNetwork = z.object({ vni: vniSchema, subnets: z.array(cidr) });

/** `allotment/networks` */
export const allotmentRecord = z.object({ networks: z.record(z.string(), allottedNetwork) });

/** `blocks/NETWORK/FAMILY-FIRST` */
export const blockRecord = z.object({
  host: z.string().optional(),
  claimed: z.record(ipAddress, z.object({ host: z.string(), endpoint: z.string(), isAsked: z.boolean().optional() })),
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

export type HostRegistration = Readonly<z.output<typeof hostRegistration>>;
export type AllottedNetwork = Readonly<z.output<typeof allottedNetwork>>;
export type BlockRecord = z.output<typeof blockRecord>;
