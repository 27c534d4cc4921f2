/**
 * Reports: what the daemon answers, and therefore what `-o json` prints. These schemas are the
 * stable, documented form of weft's output. Times are RFC 3339 text, counters are numbers,
 * addresses are text.
 */
import * as z from 'zod';
import { heldRecordReport } from './held.ts';
import { diffReport, flowClassesReport, policyTestReport } from './policy-report.ts';
import { judgementReport, policyEventReport, talkReport } from './talk-report.ts';
import { changeType, choiceReport, refusedReport, serviceEventReport, serviceReport } from './service-report.ts';

const counters = z.record(z.string(), z.number());

/** An attached or static endpoint, as `weft endpoints` and `weft attach` show it. */
export const endpointReport = z.object({
  name: z.string(),
  namespace: z.string(),
  labels: z.record(z.string(), z.string()),
  network: z.string(),
  addresses: z.array(z.string()),
  mac: z.string(),
  /**
   * `attached`: forwarding. `waiting`: its interface cannot be opened now; this is tried again every second.
   * `detached`: its interface was deleted, or the host was restarted and its namespace is gone; attach it again.
   * `remote`: on another host.
   */
  state: z.enum(['attached', 'waiting', 'detached', 'remote']),
  host: z.string(),
  /** For local endpoints: where the interface is. */
  netns: z.string().optional(),
  interface: z.string().optional(),
  mtu: z.number().optional(),
  port: z.number().optional(),
  /** Why other hosts do not know of it as it is here. */
  pending: z.string().optional(),
  /** True if it only holds its addresses, for an endpoint to come. */
  held: z.boolean().optional(),
  /** True in the answer to a move if no host had it, so that it is a new one. */
  wasNowhere: z.boolean().optional(),
  /** The host that had it, in the answer to an attach without `--move`: that host does not run. */
  takenFrom: z.string().optional(),
  /** What is wrong with its interface, and how to solve it. */
  problems: z.array(z.string()).optional(),
  trust: z.boolean(),
  /** Its own ports that have names. */
  ports: z.array(z.object({ name: z.string(), port: z.number(), protocol: z.enum(['TCP', 'UDP']) })).optional(),
  /** Published ports of this host that lead to it. */
  publish: z.array(
    z.object({
      hostPort: z.number(),
      port: z.number(),
      protocol: z.enum(['TCP', 'UDP']),
      hostIP: z.string().optional(),
    }),
  ),
  /**
   * For local endpoints that have one. Rates are written like `100mbit`; `ingress` is from the container into the
   * switch.
   */
  rateLimit: z
    .object({ ingress: z.string().optional(), egress: z.string().optional(), burst: z.string().optional() })
    .optional(),
});

export const networkReport = z.object({
  name: z.string(),
  vni: z.number(),
  subnets: z.array(z.string()),
  gateways: z.array(z.string()),
  mtu: z.number(),
  /** May its containers reach what is beyond weft? */
  outside: z.boolean(),
  endpoints: z.number(),
  /** Addresses still free on this host, by subnet; at most 2^53. */
  free: z.record(z.string(), z.number()),
});

export const datapathReport = z.object({
  kind: z.enum(['native', 'reference']),
  rx: z.number(),
  originated: z.number(),
  copies: z.number(),
  segments: z.number(),
  tx: z.number(),
  consumed: z.number(),
  coalesced: z.number(),
  held: z.number(),
  drops: counters,
  upcalls: z.number(),
  /** Refused frames that were not answered because their port had used up its rate of answers. */
  unanswered: z.number(),
  flows: z.number(),
  masks: z.number(),
  flowLimit: z.number(),
  maskLimit: z.number(),
  /**
   * Flows that were not cached: `flowLimit` was reached, or `maskLimit`, or the part of it that flows which drop may have.
   * Their frames were decided one by one.
   */
  refused: z.object({ flows: z.number(), masks: z.number(), dropMasks: z.number() }),
  /** Flows that gave way because `flowLimit` was reached, and masks that gave way, with all their flows, for others. */
  evicted: z.object({ flows: z.number(), masks: z.number() }),
});

/** A conflict of this host with another host, or of a network with something that the host reaches. */
export const clashReport = z.object({ detail: z.string(), hint: z.string() });

/** A record of the store that this host does not accept, with why and how to mend it. */
export const refusedRecordReport = z.object({
  kind: z.string(),
  name: z.string(),
  /** Of a namespaced kind. */
  namespace: z.string().optional(),
  why: z.string(),
  /** What to do about it, unless applying it again or deleting it would help. */
  hint: z.string().optional(),
});

/** A store that several hosts share, as this host sees it. */
export const sharedStoreReport = z.object({
  /** The id of the cluster that this host belongs to; null until it has met one. */
  cluster: z.string().nullable(),
  /** Under which all of its keys are. */
  prefix: z.string(),
  reachable: z.boolean(),
  /** Why it is not reachable. */
  why: z.string().optional(),
  /** Since when it is, or is not, reachable. */
  since: z.string().optional(),
  /** The last revision that was put into force. */
  revision: z.number(),
  /** Why nothing is taken from it or written to it, although it answers. */
  refused: z.string().optional(),
  /** Why it took nothing that was written of late, although it answers: it has no space. */
  takesNothing: z.string().optional(),
  /** What `weft doctor --accept-store` would take away or change here, if it is refused as that of another cluster. */
  losses: z.array(heldRecordReport).optional(),
  /** Set if it answers, and this host has not followed it for half a minute: why not, and since when. */
  notFollowed: z.object({ why: z.string(), since: z.string() }).optional(),
  /** Resources of this host that the store does not have yet, with `(deleted)` where it still has what is gone here. */
  pending: z.array(z.string()),
  /** Why resources that this host wrote while the store was away were given up. */
  lost: z.array(z.string()),
  /** Set if this host's copy of the state was damaged when the daemon started: what that was, and what was done. */
  copyDamage: z.string().optional(),
  /** What shows that the store is not what it was. */
  signs: z.array(z.string()),
  /** What stays in force until `weft doctor --accept-store`, or until it is applied again. */
  held: z.array(heldRecordReport),
  /** How often all of it was compared with what is known, and how many changes it had not reported; those have to stay 0. */
  audit: z.object({ runs: z.number(), mismatches: z.number() }),
});

/** What `weft doctor --accept-store` has put into force. */
export const acceptReport = z.object({
  /** What was held; or what this host has lost because it belongs to another cluster. */
  accepted: z.array(heldRecordReport),
  /** What was given up (`lost` of the shared store), and is not told any more from now on; left out if that is nothing. */
  lost: z.array(z.string()).optional(),
  /** The id of the cluster that this host belongs to from now on, if that is another one. */
  cluster: z.string().optional(),
  /** Where the store is that the cluster goes on with, if that is elsewhere and had nothing. */
  follows: z.string().optional(),
});

/** Whether a host has everything in force that this one has, as far as its tunnel and the store say. `unknown`: it cannot say it. */
export const hostInForceReport = z.object({
  host: z.string(),
  state: z.enum(['in force', 'lagging', 'unknown', 'cut off', 'down']),
  /** Of one that is unknown: what others cannot say it while. */
  why: z.string().optional(),
  /** Of one that is down: as far as the store says, it runs. Nothing is heard from it here, or this host is cut off itself. */
  isLive: z.boolean().optional(),
  /** The last change of the state that it has in force, and how many revisions it is behind this host. */
  revision: z.number().optional(),
  behind: z.number().optional(),
  /** Since when the store has not heard of it. */
  since: z.string().optional(),
});

/** What is in force on the hosts that share the store, as of the last time that they were asked. */
export const inForceReport = z.object({
  /** The last change of the state that this host has in force. */
  revision: z.number(),
  hosts: z.array(hostInForceReport),
});

const loss = z.object({ lost: z.number(), of: z.number() });

/** Another host, as `weft hosts` shows it. */
export const hostReport = z.object({
  /** Null for a peer of the configuration that no Host names. */
  name: z.string().nullable(),
  underlay: z.string(),
  /**
   * `up`: each hears the probes of the other. `down`: nothing is sent there. `suspect`: it stopped answering together with
   * most others, so this host may be cut off itself, and frames still go there. `unprobed`: it has no key, or has never
   * answered.
   */
  state: z.enum(['unprobed', 'up', 'down', 'suspect']),
  /** Why it is not up. */
  why: z.string().optional(),
  /** When it got this state. */
  since: z.string(),
  roundTripMs: z.number().nullable(),
  /** Of the last probes from it, and to it. */
  lossIn: loss,
  lossOut: loss,
  /** Of the underlay; null without a route. */
  pathMtu: z.number().nullable(),
  /** Those of its networks; null if it does not say. */
  vnis: z.array(z.number()).nullable(),
  /** For a host that shares the store: its id, and the version that runs on it. */
  id: z.string().optional(),
  version: z.string().optional(),
  /** For a host that shares the store: how much of the state it has in force. */
  inForce: hostInForceReport.omit({ host: true }).optional(),
});

/** A flow hook of this host. */
export const hookReport = z.object({
  name: z.string(),
  /** How places in its text are told. */
  file: z.string(),
  /** `failed` has never been loaded; `quarantine` is asked nothing for a while. Both judge nothing that is new. */
  state: z.enum(['in_force', 'failed', 'quarantine']),
  /** What becomes of a flow that it cannot judge. */
  onError: z.enum(['deny', 'allow']),
  /** Why it is not in force, or why a newer version of it is not. */
  why: z.string().optional(),
  /** How often it was asked about a flow, has failed about one, and was put into quarantine. */
  asked: z.number(),
  failures: z.number(),
  quarantines: z.number(),
});

/** A change that waits to be confirmed: resources are named as in messages, `networkpolicy "shop/db"`. */
export const confirmationReport = z.object({
  waiting: z
    .object({
      /** Where it was made. */
      host: z.string(),
      /** When it is taken back. */
      until: z.string(),
      /** When this host takes it back, if that time is over, and the host that made it has not done that. */
      byOthersAt: z.string().optional(),
      resources: z.array(z.string()),
      /** True from when its time is over: it cannot be confirmed any more. */
      isTakenBack: z.boolean(),
    })
    .nullable(),
  /** The last one that this host has taken back since it was started, and what was left alone as it is, with why. */
  takenBack: z
    .object({
      at: z.string(),
      resources: z.array(z.string()),
      left: z.array(z.object({ resource: z.string(), why: z.string() })),
    })
    .nullable(),
});

export const statusReport = z.object({
  host: z.string(),
  version: z.string(),
  pid: z.number(),
  startedAt: z.string(),
  forwarding: z.boolean(),
  underlay: z.string().nullable(),
  /** The tunnel to other hosts, with `why` if it is waiting for something; null if none is needed. */
  tunnel: z.object({ open: z.boolean(), why: z.string().optional() }).nullable(),
  peers: z.array(z.string()),
  /** Whether each peer is alive; `weft hosts` shows more. */
  peerStates: z.record(z.string(), hostReport.shape.state),
  /** Path MTU of the underlay to each peer to which there is a route. */
  pathMtus: z.record(z.string(), z.number()),
  /** Where the path MTU comes from: the kernel (an interface, or an ICMP error), or lost probes. */
  pathSources: z.record(z.string(), z.enum(['kernel', 'probed'])),
  store: z.string(),
  /** Null if this host has its store for itself. */
  sharedStore: sharedStoreReport.nullable(),
  clashes: z.array(clashReport),
  /** The outside, with `why` if it is not open or could not be restored; null if no network has one. */
  outside: z.object({ open: z.boolean(), why: z.string().optional() }).nullable(),
  /** Weft's own sockets, with `why` if they are not open; null if weft listens on nothing. */
  internal: z.object({ open: z.boolean(), listening: z.array(z.string()), why: z.string().optional() }).nullable(),
  /** The TCP address on which metrics are served, with `why` if it is not open; null if there is none. */
  metrics: z.object({ address: z.string(), open: z.boolean(), why: z.string().optional() }).nullable(),
  /** Whether this host is one of the shared store, and otherwise why not; null if no store is shared. */
  registration: z
    .object({ state: z.enum(['registered', 'waiting', 'refused']), why: z.string().optional() })
    .nullable(),
  /** Null if no store is shared. */
  inForce: inForceReport.nullable(),
  networks: z.number(),
  endpoints: z.number(),
  /** For endpoints whose interface is not as it was given: what is wrong, and how to solve it. */
  endpointProblems: z.record(z.string(), z.array(z.string())),
  /** Resources that other programs have stored in a way that this host does not accept; they wait until that changes. */
  refusedRecords: z.array(refusedRecordReport),
  /** How many there are, also of those that are not named. */
  refusedRecordCount: z.number(),
  /** Flow hooks: those that are declared, and those in files of this host, in the order in which they are asked. */
  hooks: z.array(hookReport),
  /** What this host knows of the conversations of the last 7 days. */
  flowClasses: flowClassesReport,
  confirmation: confirmationReport,
  /**
   * How many there are, how many of them are only tracked, how many weft has ended and remembers for a while, and how many there
   * may be.
   */
  connections: z.object({ active: z.number(), tracked: z.number(), ended: z.number(), limit: z.number() }),
  /**
   * How many connections policies have ended that they allowed before. What they would deny if staged policies were in force: in how
   * many decisions about new conversations, and how many open connections.
   */
  policies: z.object({ cut: z.number(), stagedDecisions: z.number(), stagedConnections: z.number() }),
  /**
   * Of the backends of services: how many are checked by this host, and how many of these checks fail; how many this host has
   * ejected at the moment, and how often it has ejected one.
   */
  health: z.object({ checked: z.number(), failing: z.number(), ejected: z.number(), ejections: z.number() }),
  /** Entries in the forwarding databases: all, and the learned ones by port or VTEP. */
  fdb: z.object({ entries: z.number(), learned: counters, evicted: z.number(), moves: z.number() }),
  /** Resident memory, the share of JavaScript's heap, and how much of that is used, garbage included. */
  memory: z.object({ rssBytes: z.number(), heapTotalBytes: z.number(), heapUsedBytes: z.number() }),
  /**
   * For cached flows: how often one was decided again because something that its decision depends on had changed, and
   * how many were withdrawn from the datapath for that, until they were decided again or until their next frame.
   */
  decisions: z.object({ redecided: z.number(), withdrawn: z.number() }),
  /**
   * How often a cached flow, and an open connection, was compared with what would be decided now, and how often they differed: a
   * defect unless it is 0. Each was repaired; `last` is what the latest one was.
   */
  audit: z.object({
    flows: z.number(),
    connections: z.number(),
    mismatches: z.number(),
    last: z.object({ what: z.string(), why: z.string() }).optional(),
  }),
  datapath: datapathReport,
  ports: z.array(
    z.object({
      port: z.number(),
      name: z.string(),
      kind: z.string(),
      network: z.string().nullable(),
      rxFrames: z.number(),
      rxBytes: z.number(),
      txFrames: z.number(),
      txBytes: z.number(),
      unanswered: z.number(),
      drops: counters,
    }),
  ),
});

export const checkReport = z.object({
  check: z.string(),
  result: z.enum(['ok', 'warning', 'failed']),
  detail: z.string(),
  /** What to do about it. */
  hint: z.string().optional(),
});
export const doctorReport = z.object({ checks: z.array(checkReport) });

/** One stage of a decision: what it read, and why it decided so. */
export const stageReport = z.object({ stage: z.string(), read: z.array(z.string()), because: z.string() });

export const decisionReport = z.object({
  /** The flow that was decided, with all its fields. */
  flow: z.string(),
  /** For a trace: what the container sends the frame to, and how that is known. */
  resolved: z.string().optional(),
  stages: z.array(stageReport),
  megaflow: z.string(),
  actions: z.string(),
  verdict: z.enum(['forward', 'drop', 'consume', 'wait', 'connect']),
  reason: z.string().optional(),
  /** For a drop for want of a backend (`service_no_backend`, `service_local`): what excludes the backends. */
  refused: refusedReport.optional(),
  /** What policies say, those of its sender first; missing if they were not asked. */
  judgements: z.array(judgementReport).optional(),
  /** The objects that were consulted: when one of them changes, the flow is decided again. */
  consulted: z.array(z.string()),
  /** For a trace: what happens behind the switch, in order. */
  beyond: z.array(z.string()).optional(),
  /** For a trace that opens a connection through a service: how its backend is chosen. */
  choice: choiceReport.optional(),
});

export const flowReport = z.object({
  id: z.number(),
  megaflow: z.string(),
  actions: z.string(),
  packets: z.number(),
  bytes: z.number(),
  decidedAt: z.string(),
  /** Milliseconds since it was last hit. */
  idleMs: z.number(),
  /** The ends of the packet that it was decided for; its other packets may have others. */
  packet: talkReport,
  /** Why it drops them, if it does. */
  reason: z.string().optional(),
});

/** A connection. Ends are ADDRESS:PORT; for an echo, the port is its identifier, and 0 for a protocol without ports. */
export const connectionReport = z.object({
  /** As in `weft why c3`. It is given to another one when this one has ended. */
  id: z.string(),
  /** `tcp`, `udp`, `sctp` or `icmp`; any other one as `proto NUMBER`. */
  protocol: z.string(),
  state: z.enum(['new', 'answered', 'syn_sent', 'syn_received', 'established', 'closing', 'time_wait', 'closed']),
  /**
   * Opened by a container to the outside, from outside to a published port, by a container to a socket of weft at its
   * gateway, or by a container to a service.
   */
  direction: z.enum(['outbound', 'published', 'gateway', 'service', 'internal']),
  network: z.string().nullable(),
  endpoint: z.string().nullable(),
  /** As the opener sent it, and as it continues from there. */
  source: z.string(),
  destination: z.string(),
  translatedSource: z.string(),
  translatedDestination: z.string(),
  /** NAMESPACE/NAME of the endpoint that opened it, and of the one that it goes to; null if that is none. */
  from: z.string().nullable(),
  to: z.string().nullable(),
  /** The VTEP of the host by which it came in from outside; missing if that is this host, or it did not. */
  via: z.string().optional(),
  /** The service that it was opened through, NAMESPACE/NAME, and its port there by name, or by number if it has no name. */
  service: z.object({ name: z.string(), port: z.string() }).nullable(),
  /** What hooks have set for it, each missing if none has: what its original direction gets, and may send. */
  mark: z.number().optional(),
  dscp: z.number().optional(),
  rate: z.object({ bitsPerSecond: z.number().optional(), packetsPerSecond: z.number().optional() }).optional(),
  packets: z.number(),
  bytes: z.number(),
  replyPackets: z.number(),
  replyBytes: z.number(),
  idleMs: z.number(),
  expiresInMs: z.number(),
});

/** What the datapath has dropped by itself, by port and reason. */
export const countedDropReport = z.object({
  port: z.string(),
  reason: z.string(),
  text: z.string(),
  count: z.number(),
  /** What bounds it, in words. */
  facts: z.array(z.string()),
});

export const whyReport = z.object({
  /** A flow id (`42`), a drop id (`d7`, or `port_down@web` without a decision) or a connection id (`c3`). */
  id: z.string(),
  /** For a connection, when the flow that it takes was decided; missing while it takes none. */
  decidedAt: z.string().optional(),
  /** Statistics of a live flow; `idleMs` as in a flow report. */
  packets: z.number().optional(),
  bytes: z.number().optional(),
  idleMs: z.number().optional(),
  /** For a connection, that of the flow which its packets take; missing while they take none. */
  decision: decisionReport.optional(),
  /** For a connection: itself, and how its backend was chosen, if it had a choice and that is still known. */
  connection: connectionReport.optional(),
  choice: choiceReport.optional(),
  /** For what the datapath has dropped by itself. */
  drop: countedDropReport.optional(),
});

export const dropReport = z.object({
  /**
   * `d7` if the decision was kept (`weft why d7`); `port_down@web` if the datapath drops by itself; missing if its port is gone.
   */
  id: z.string().optional(),
  port: z.string(),
  reason: z.string(),
  text: z.string(),
  count: z.number(),
  lastAt: z.string().optional(),
  /** The flow of the last dropped frame, and its ends. */
  flow: z.string().optional(),
  packet: talkReport.optional(),
  /** What the stage says that dropped it. */
  because: z.string().optional(),
});

export const applyReport = z.object({
  kind: z.string(),
  name: z.string(),
  /** Of a namespaced kind. */
  namespace: z.string().optional(),
  action: z.enum(['created', 'configured', 'unchanged', 'deleted']),
  dryRun: z.boolean(),
  /** Why it is declared and not in force on this host. */
  waiting: z.string().optional(),
  /** Why other hosts do not know of it yet. */
  pending: z.string().optional(),
  /** Connections that this host has ended because of it, or would end if staged policies were in force. */
  swept: z.array(policyEventReport).optional(),
  /** How many connections more were ended; `weft policy log` may name them. */
  sweptMore: z.number().optional(),
  /** What is deleted with a host: its endpoints, its blocks of addresses, and what it has claimed. */
  with: z.array(z.string()).optional(),
  /** When it is taken back, unless it is confirmed. */
  unconfirmedUntil: z.string().optional(),
});

/** What was confirmed: where and when it was made, its resources that stay, and those that are otherwise by now, with why. */
export const confirmReport = z.object({
  host: z.string(),
  at: z.string(),
  resources: z.array(z.string()),
  otherwise: z.array(z.object({ resource: z.string(), why: z.string() })).default([]),
});

/** One metric of `weft metrics -o json`. */
export const metricReport = z.object({
  name: z.string(),
  type: z.enum(['counter', 'gauge']),
  help: z.string(),
  values: z.array(z.object({ labels: z.record(z.string(), z.string()), value: z.number() })),
});

/** One change of `weft get KIND --watch -o json --output-watch-events`. */
export const eventReport = z.object({
  type: changeType,
  /** A resource of the kind. */
  object: z.looseObject({ apiVersion: z.string(), kind: z.string(), metadata: z.looseObject({ name: z.string() }) }),
});

/** One frame of `weft capture -o json`. */
export const captureReport = z.object({
  /** With nanoseconds. */
  time: z.string(),
  port: z.string(),
  /** `rx`: received from the port. */
  direction: z.enum(['rx', 'tx']),
  lengthBytes: z.number(),
  summary: z.string(),
});

/** Everything that `-o json` prints, by name. */
export const reports = {
  endpoint: endpointReport,
  network: networkReport,
  status: statusReport,
  doctor: doctorReport,
  host: hostReport,
  decision: decisionReport,
  flow: flowReport,
  why: whyReport,
  service: serviceReport,
  drop: dropReport,
  connection: connectionReport,
  apply: applyReport,
  confirm: confirmReport,
  policyTest: policyTestReport,
  diff: diffReport,
  capture: captureReport,
  metric: metricReport,
  policyEvent: policyEventReport,
  accept: acceptReport,
  inForce: inForceReport,
  event: eventReport,
  serviceEvent: serviceEventReport,
} as const;

export type EndpointReport = z.infer<typeof endpointReport>;
export type NetworkReport = z.infer<typeof networkReport>;
export type HostInForceReport = z.output<typeof hostInForceReport>;
export type InForceReport = z.output<typeof inForceReport>;
export type StatusReport = z.infer<typeof statusReport>;
export type HookReport = z.infer<typeof hookReport>;
export type RefusedRecordReport = z.infer<typeof refusedRecordReport>;
export type SharedStoreReport = z.infer<typeof sharedStoreReport>;
export type AcceptReport = z.infer<typeof acceptReport>;
export type ClashReport = z.infer<typeof clashReport>;
export type HostReport = z.infer<typeof hostReport>;
export type CheckReport = z.infer<typeof checkReport>;
export type DoctorReport = z.infer<typeof doctorReport>;
export type DecisionReport = z.infer<typeof decisionReport>;
export type FlowReport = z.infer<typeof flowReport>;
export type WhyReport = z.infer<typeof whyReport>;
export type DropReport = z.infer<typeof dropReport>;
export type CountedDropReport = z.infer<typeof countedDropReport>;
export type ConnectionReport = z.infer<typeof connectionReport>;
export type ApplyReport = z.infer<typeof applyReport>;
export type ConfirmReport = z.infer<typeof confirmReport>;
export type ConfirmationReport = z.infer<typeof confirmationReport>;
export type CaptureReport = z.infer<typeof captureReport>;
export type MetricReport = z.infer<typeof metricReport>;
export type DatapathReport = z.infer<typeof datapathReport>;
