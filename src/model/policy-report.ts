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

/** Connections that would end, all alike to policies. */
const cutReport = policyPacketReport.extend({ connections: z.number() });

export const diffReport = z.object({
  /** What would be created or changed. */
  resources: z.array(
    z.object({
      kind: z.string(),
      name: z.string(),
      namespace: z.string().optional(),
      action: z.enum(['created', 'configured']),
      /** Of one that exists: what would be different. */
      fields: z.array(z.object({ path: z.string(), before: z.unknown(), after: z.unknown() })),
      /** How many more fields there are. */
      more: z.number(),
    }),
  ),
  /** Those that would fail: it cannot be applied. */
  policyTests: z.array(policyTestReport),
  /** Those of this host. */
  connections: z.object({
    /** How many there are. */
    live: z.number(),
    ended: z.array(cutReport),
    /** How many more would end that are not told, since there are too many classes. */
    more: z.number(),
  }),
});

export type CutReport = z.infer<typeof cutReport>;
export type DiffReport = z.infer<typeof diffReport>;
export type PolicyPacketReport = z.infer<typeof policyPacketReport>;
export type PolicyTestReport = z.infer<typeof policyTestReport>;
