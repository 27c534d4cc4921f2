/** Schemas of the records of a shared store that are no resources. */
import * as z from 'zod';
import { vniSchema } from './kinds/network.ts';
import { cidr, ipAddress } from './value.ts';

/** What a network has for itself. */
export const allottedNetwork = z.object({ vni: vniSchema, subnets: z.array(cidr) });

/** `allotment/networks` */
export const allotmentRecord = z.object({ networks: z.record(z.string(), allottedNetwork) });

/** `blocks/NETWORK/FAMILY-FIRST` */
export const blockRecord = z.object({
  host: z.string().optional(),
  claimed: z.record(ipAddress, z.object({ host: z.string(), endpoint: z.string(), isAsked: z.boolean().optional() })),
});

export type AllottedNetwork = Readonly<z.output<typeof allottedNetwork>>;
export type BlockRecord = z.output<typeof blockRecord>;
