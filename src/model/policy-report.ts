/** What weft reports of policies before they are applied; see `report.ts`. */
import * as z from 'zod';

/** An end of a packet that policies judge. */
const packetEnd = z.object({
  address: z.string(),
  /** `NAMESPACE/NAME`, if it is an endpoint's own address. */
  endpoint: z.string().optional(),
});

/** A packet that begins a connection, and what policies say of it. */
export const policyPacketReport = z.object({
  from: packetEnd,
  to: packetEnd,
  protocol: z.string(),
  port: z.number(),
  verdict: z.enum(['allow', 'deny']),
  /** What has decided. */
  because: z.string(),
});

export const policyTestReport = z.object({
  name: z.string(),
  namespace: z.string(),
  from: z.string(),
  to: z.string(),
  port: z.number(),
  protocol: z.string(),
  expect: z.enum(['allow', 'deny']),
  result: z.enum(['passed', 'failed', 'undecided']),
  /** Why it is undecided. */
  why: z.string().optional(),
  /** How many packets were judged: one for each pair of endpoints and each address family that both have. */
  packets: z.number(),
  /** Of how many of them policies say something else than what is expected. */
  wrong: z.number(),
  /** The first of these. */
  failures: z.array(policyPacketReport),
});

export type PolicyPacketReport = z.infer<typeof policyPacketReport>;
export type PolicyTestReport = z.infer<typeof policyTestReport>;
