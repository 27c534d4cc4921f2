/**
 * The configuration that a runtime gives to the plugin on stdin (CNI specification 1.1, section 3): the plugin's object of the
 * list, and what the runtime adds. An unknown key is refused by name, since it may be a misspelt one.
 */
import * as z from 'zod';
import { didYouMean } from '../../model/nearest.ts';
import { l4Port } from '../../model/publish.ts';
import {
  cidr as subnet,
  ipAddress,
  label,
  labelKey,
  listenAddress,
  macAddress,
  name,
  quote,
} from '../../model/value.ts';
import { validate } from '../../model/validate.ts';
import { WeftError } from '../../error.ts';
import { CNI_CODES, CniFailure } from './failure.ts';

/** From the oldest to the newest. */
export const CNI_VERSIONS = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export type CniVersion = (typeof CNI_VERSIONS)[number];
export const NEWEST_VERSION: CniVersion = '1.1.0';

/** Of networks, containers and interfaces: what the specification allows of their names. */
const word = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]*$/, {
  error: ({ input }) =>
    `${quote(String(input))} is not accepted: letters, digits, "_", "." and "-", a letter or digit first`,
});

/** An address, perhaps with the length of a prefix, which the subnet says better. */
const cidr = z.string().transform((text) => text.split('/')[0]!);
/** In bits a second, and bits. Runtimes say 0 for none. */
const bits = z.number().min(0).optional();

const portMapping = z.object({
  hostPort: z.int().min(0).max(65_535),
  containerPort: l4Port,
  protocol: z
    .string()
    .default('tcp')
    .transform((text) => text.toUpperCase())
    .pipe(z.enum(['TCP', 'UDP'], { error: ({ input }) => `${quote(String(input))} is not accepted: tcp or udp` })),
  hostIP: z.union([z.literal(''), listenAddress]).optional(),
});

const dns = z.object({
  servers: z.array(z.string()).optional(),
  searches: z.array(z.string()).optional(),
  options: z.array(z.string()).optional(),
});

/** An address that may be missing, or empty, as Go writes it. */
const optionalAddress = z
  .union([z.literal('').transform(() => undefined), ipAddress])
  .nullish()
  .transform((given) => given ?? undefined);

const ipRange = z.strictObject({
  subnet,
  rangeStart: optionalAddress,
  rangeEnd: optionalAddress,
  gateway: optionalAddress,
});

/** Runtimes add only what the list declares as capabilities. */
const runtimeConfig = z.strictObject({
  portMappings: z.array(portMapping).nullish(),
  bandwidth: z.object({ ingressRate: bits, ingressBurst: bits, egressRate: bits, egressBurst: bits }).nullish(),
  ips: z.array(cidr).nullish(),
  ipRanges: z.array(z.array(ipRange).min(1, 'a set of ranges has at least one range')).nullish(),
  mac: z.union([z.literal(''), macAddress]).nullish(),
  aliases: z.record(z.string(), z.array(z.string())).nullish(),
  dns: dns.nullish(),
});

const labels = z.record(labelKey, label);

const configuration = z.strictObject({
  cniVersion: z.enum(CNI_VERSIONS),
  name: word,
  type: z.string(),
  /** weft's network; by default it is called like the configuration. */
  network: name.optional(),
  /** The daemon's socket; for the plugin. */
  socket: z.string().optional(),
  /** Labels of all endpoints that are made by it. */
  'weft.dev/labels': labels.optional(),
  dns: z
    .object({
      nameservers: z.array(z.string()).optional(),
      domain: z.string().optional(),
      search: z.array(z.string()).optional(),
      options: z.array(z.string()).optional(),
    })
    .optional(),
  capabilities: z.record(z.string(), z.boolean()).optional(),
  runtimeConfig: runtimeConfig.optional(),
  args: z
    .object({
      cni: z
        .object({
          ips: z.array(cidr).optional(),
          mac: macAddress.optional(),
          labels: z.array(z.object({ key: labelKey, value: label })).optional(),
        })
        .optional(),
    })
    .optional(),
  prevResult: z.record(z.string(), z.unknown()).optional(),
  'cni.dev/valid-attachments': z.array(z.object({ containerID: z.string(), ifname: z.string() })).optional(),
  /** As it was called before 1.1.0 was final. */
  'cni.dev/attachments': z.array(z.object({ containerID: z.string(), ifname: z.string() })).optional(),
});

export type CniConfiguration = z.output<typeof configuration>;
export type RuntimeConfig = z.output<typeof runtimeConfig>;

/** @throws CniFailure */
export function readConfiguration(text: string): CniConfiguration {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new CniFailure(CNI_CODES.decoding, `the configuration on stdin is not JSON: ${(error as Error).message}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new CniFailure(CNI_CODES.decoding, 'the configuration on stdin is not a JSON object');
  }
  const { cniVersion } = value as { readonly cniVersion?: unknown };
  if (!CNI_VERSIONS.includes(cniVersion as CniVersion)) {
    const given =
      cniVersion === undefined ? 'cniVersion is missing' : `cniVersion ${JSON.stringify(cniVersion)} is not known`;
    throw new CniFailure(CNI_CODES.version, `${given}: this plugin knows ${CNI_VERSIONS.join(', ')}`);
  }
  const known = Object.keys(configuration.shape);
  for (const key of Object.keys(value)) {
    if (known.includes(key)) continue;
    if (key === 'ipam') {
      throw new CniFailure(CNI_CODES.unsupportedField, 'ipam is not accepted: weft gives out addresses itself');
    }
    const given = JSON.stringify((value as Record<string, unknown>)[key]);
    throw new CniFailure(
      CNI_CODES.unsupportedField,
      `${quote(key)} with the value ${quote(given)} is no key of this plugin${didYouMean(key, known)}`,
    );
  }
  try {
    return validate(configuration, value);
  } catch (error) {
    if (error instanceof WeftError) throw new CniFailure(CNI_CODES.configuration, error.message);
    throw error;
  }
}
