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

/** The host that says so; missing without a shared store. */
const saidBy = z.string().optional();

/** An end of a class of conversations. */
const classEnd = packetEnd.extend({
  /** The workload is not there any more: what is judged is one like it. */
  gone: z.literal(true).optional(),
});

/** Conversations of the last days that are alike to policies, of which policies would say something else. */
const classChangeReport = policyPacketReport.extend({
  host: saidBy,
  from: classEnd,
  to: classEnd,
  /** What is decided as it is; `verdict` is what would be. */
  before: z.enum(['allow', 'deny']),
  /**
   * What else it stands for, because its workload talks to very many: any further port of these two, any further peer in a block of
   * addresses, or all the rest. The one that was seen last is judged.
   */
  covers: z.enum(['exact', 'ports', 'block', 'any']),
  /** How many conversations were opened, and how often one was denied. */
  opened: z.number(),
  denied: z.number(),
  firstSeen: z.iso.datetime(),
  lastSeen: z.iso.datetime(),
});

/** What a host knows of the conversations of the last days. */
export const flowClassesReport = z.object({
  count: z.number(),
  limit: z.number(),
  /** How many classes were given up, because there were too many. */
  givenUp: z.number(),
  /** How many conversations are in no class, because too many of one source began at once. */
  passedOver: z.number(),
});

/** Connections that would end, all alike to policies. */
const cutReport = policyPacketReport.extend({ host: saidBy, connections: z.number() });

/** A conversation with a service. */
const servicePartsReport = z.object({
  host: saidBy,
  from: classEnd,
  /** Its backend, and the port there. */
  to: classEnd,
  protocol: z.string(),
  port: z.number(),
  /** `NAMESPACE/NAME` */
  service: z.string(),
  because: z.string(),
});

/** Connections that would end since the service that they are of does not have their backend any more. */
const unbackedReport = servicePartsReport.extend({ connections: z.number() });

/** Conversations of the last days that would go by another route, or not to the backend that they had. */
const rerouteReport = servicePartsReport.extend({
  /** The backends that may be chosen then, the first ones of them. */
  then: z.array(packetEnd.extend({ port: z.number() })),
  thenMore: z.number(),
  covers: z.enum(['exact', 'ports', 'block', 'any']),
  opened: z.number(),
  lastSeen: z.iso.datetime(),
});

/** What a change would do to conversations of one host, or of all that have answered. */
export const hostDiffReport = z.object({
  connections: z.object({
    /** How many there are. */
    live: z.number(),
    ended: z.array(cutReport),
    /** How many more would end that are not told, since there are too many classes. */
    more: z.number(),
  }),
  /** What was seen in the last 7 days. */
  flowClasses: z.object({
    ...flowClassesReport.omit({ limit: true }).shape,
    /** Those that would have another verdict, the latest first. */
    changed: z.array(classChangeReport),
    more: z.number(),
  }),
  /** What would become of conversations with services. Earlier versions do not say it. */
  services: z
    .object({
      ended: z.array(unbackedReport),
      changed: z.array(rerouteReport),
      /** How many more connections and classes there are that are not told. */
      more: z.number(),
    })
    .default({ ended: [], changed: [], more: 0 }),
});

export const diffReport = hostDiffReport.extend({
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
  /** With a shared store: whose connections and flow classes these are, and which hosts are missing. */
  hosts: z.array(
    z.object({
      name: z.string(),
      answered: z.boolean(),
      /** Why it has not. */
      why: z.string().optional(),
    }),
  ),
});

export type ClassChangeReport = z.infer<typeof classChangeReport>;
export type FlowClassesReport = z.infer<typeof flowClassesReport>;
export type UnbackedReport = z.infer<typeof unbackedReport>;
export type RerouteReport = z.infer<typeof rerouteReport>;
export type CutReport = z.infer<typeof cutReport>;
export type DiffReport = z.infer<typeof diffReport>;
export type HostDiffReport = z.infer<typeof hostDiffReport>;
export type PolicyPacketReport = z.infer<typeof policyPacketReport>;
export type PolicyTestReport = z.infer<typeof policyTestReport>;
