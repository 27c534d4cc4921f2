/** Flow classes as they are kept in the state directory: a file of lines, each of which is JSON. */
import * as z from 'zod';

const address = z.union([z.ipv4(), z.ipv6()]);
const count = z.int().min(0);
const place = z.int().min(0);
const l4Port = z.int().min(0).max(65_535);

/** Of workloads: what policies saw of them. Those that are alike share one. */
const identityLine = z.strictObject({
  namespace: z.string(),
  labels: z.record(z.string(), z.string()),
  ports: z.array(z.strictObject({ name: z.string(), protocol: z.int(), l4Port })),
});

const end = z.strictObject({
  address,
  endpoint: z.string().optional(),
  /** The number of its line of identities, from 0 on. */
  identity: count.optional(),
  subject: z.string().optional(),
  isGone: z.literal(true).optional(),
});

const classLine = z.strictObject({
  level: z.enum(['exact', 'ports', 'block', 'any']),
  places: z.tuple([place, place]),
  from: end,
  to: end,
  protocol: z.int().min(0).max(255),
  l4Port,
  meant: address,
  meantPort: l4Port.optional(),
  verdict: z.enum(['allow', 'deny']),
  /** Milliseconds since the epoch. */
  firstSeenMs: z.int().min(0),
  lastSeenMs: z.int().min(0),
  opened: count,
  denied: count,
});

export const flowClassesHeader = z.strictObject({ flowClasses: z.literal(1) });
/** One of these. Not a union, of which each part would be tried for each line. */
export const flowClassLine = z.strictObject({
  identity: identityLine.optional(),
  class: classLine.optional(),
  /** In the last one: how many classes there are. */
  end: count.optional(),
});

export type FlowClassLine = z.infer<typeof flowClassLine>;
export type FlowClassRecord = z.infer<typeof classLine>;
