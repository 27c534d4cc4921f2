/** Schemas of request bodies, made from those of the resources. */
import * as z from 'zod';
import { WeftError } from '../error.ts';
import type { KindDefinition } from '../model/kinds/kind.ts';
import { findKind, unknownKindText } from '../model/kinds/registry.ts';
import { burst, rate } from '../model/rate.ts';
import { endpointSpec } from '../model/kinds/endpoint.ts';
import { networkSpec } from '../model/kinds/network.ts';
import { label, labelKey, name } from '../model/value.ts';

/** The schema without its default: what is not given stays as it is. */
const given = <S extends z.ZodType>(schema: z.ZodDefault<S>): z.ZodOptional<S> => schema.unwrap().optional();

export const networkRequest = z.strictObject({
  name,
  ...networkSpec.shape,
  subnets: networkSpec.shape.subnets.optional(),
  ranges: given(networkSpec.shape.ranges),
  routes: given(networkSpec.shape.routes),
  outside: given(networkSpec.shape.outside),
});

export const attachRequest = z.strictObject({
  name: name.optional(),
  network: endpointSpec.shape.network,
  netns: endpointSpec.shape.netns,
  pid: endpointSpec.shape.pid,
  ip: given(endpointSpec.shape.addresses),
  mac: endpointSpec.shape.mac,
  ifname: given(endpointSpec.shape.interface),
  namespace: name.optional(),
  labels: z.record(labelKey, label.nullable()).optional(),
  aliases: z.array(name).optional(),
  wildcard: z.boolean().optional(),
  ethertypes: given(endpointSpec.shape.allowedEtherTypes),
  trust: given(endpointSpec.shape.trust),
  ports: endpointSpec.shape.ports,
  publish: given(endpointSpec.shape.publish),
  rateLimit: z
    .strictObject({ ingress: rate.nullable(), egress: rate.nullable(), burst: burst.nullable() })
    .partial()
    .nullable()
    .optional(),
  move: z.boolean().optional(),
  hold: z.boolean().optional(),
});

/** How long the hosts are waited for, at most. */
export const waitRequest = z.strictObject({ timeoutMs: z.int().min(1).max(3_600_000) });

export const applyRequest = z.strictObject({
  /** Each is validated by the schema of its kind. */
  resources: z.array(z.unknown()).min(1, 'is empty: give at least one resource'),
  dryRun: z.boolean().default(false),
  /** For how long it waits to be confirmed. */
  confirmMs: z.int().min(1000).max(86_400_000).optional(),
});

/** What would be if these were applied. */
export const whatIfRequest = z.strictObject({ resources: z.array(z.unknown()) });

export const labelRequest = z.strictObject({
  /** Labels to set; null takes one away. */
  labels: z.record(labelKey, label.nullable()),
});

export const traceRequest = z.strictObject({ flow: z.string() });

export const cniRequest = z.strictObject({
  isAgain: z.boolean(),
  environment: z.record(z.string(), z.string()),
  config: z.string(),
});

export const shutdownRequest = z.strictObject({ purge: z.boolean().default(false) });

/** Other versions may ask for more, or for something else: what it means follows from `format`. */
export const takeoverRequest = z.object({
  format: z.int(),
  version: z.string(),
  at: z.string(),
  place: z.object({ host: z.string(), state: z.string(), connections: z.string() }),
});

const word = z.int().min(0).max(0xffff_ffff);

export const captureRequest = z.strictObject({
  port: z.string().optional(),
  /** Bytes to keep of each frame. */
  snapBytes: z
    .int('is a whole number of bytes, 64 to 262144')
    .min(64, 'is a whole number of bytes, 64 to 262144')
    .max(262_144, 'is a whole number of bytes, 64 to 262144')
    .optional(),
  /** Classic BPF, checked before it is run. */
  filter: z.array(z.strictObject({ code: word, jumpTrue: word, jumpFalse: word, k: word })).optional(),
});

/** By its name, plural or short name. @throws WeftError('invalid') */
export function parseKind(text: string): KindDefinition {
  const kind = findKind(text);
  if (!kind) throw new WeftError('invalid', `kind: ${unknownKindText(text)}`);
  return kind;
}
