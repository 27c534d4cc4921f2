/**
 * What `weft attach` declares. Attaching again changes what it names and nothing
 * else: an endpoint keeps the labels, published ports and limits that it has.
 */
import { WEFT_V1 } from '../model/kinds/kind.ts';
import type { EndpointResource, RateLimitSpec } from '../model/kinds/endpoint.ts';
import { parseResource } from '../model/manifest.ts';
import type { PublishOptions } from '../model/publish.ts';

export interface AttachOptions {
  readonly name: string;
  readonly network: string;
  /** One of `netns` (name or path) and `pid`. */
  readonly netns?: string;
  readonly pid?: number;
  readonly ip?: readonly string[];
  readonly mac?: string;
  readonly ifname?: string;
  readonly namespace?: string;
  /** Labels to set; null takes one away. */
  readonly labels?: Readonly<Record<string, string | null>>;
  /** All EtherTypes that it may send besides IPv4, IPv6 and ARP: numbers, or text as `0x88f7`. */
  readonly ethertypes?: readonly (number | string)[];
  readonly trust?: boolean;
  /** All ports of this host that lead to it: an empty list takes them away. Its network has an outside. */
  readonly publish?: readonly PublishOptions[];
  /** Of the bytes that pass its port: rates as `100mbit`, a burst as `256kb`. Null takes one away, or all. */
  readonly rateLimit?: RateLimitChange | null;
}

export interface RateLimitChange {
  readonly ingress?: string | null;
  readonly egress?: string | null;
  readonly burst?: string | null;
}

/**
 * The resource that `options` make of a local endpoint `known`, or a new one.
 * @throws WeftError('invalid')
 */
export function attachment(options: AttachOptions, known: EndpointResource | undefined): EndpointResource {
  const { name, network, netns, pid, ip, mac, ifname, namespace, labels, ethertypes, trust, publish, rateLimit } =
    options;
  // One of another host is not changed into one of this host: who applies it says so.
  const before = known?.spec.host === undefined ? known : undefined;
  const { netns: _netns, pid: _pid, rateLimit: limitBefore, ...spec } = before?.spec ?? {};
  const limit = changedLimit(limitBefore, rateLimit);
  return parseResource({
    apiVersion: WEFT_V1,
    kind: 'Endpoint',
    metadata: {
      ...before?.metadata,
      name,
      ...(namespace !== undefined && { namespace }),
      labels: withoutNulls({ ...before?.metadata.labels, ...labels }),
    },
    spec: {
      ...spec,
      network,
      ...(netns !== undefined && { netns }),
      ...(pid !== undefined && { pid }),
      ...(ip && { addresses: ip }),
      ...(mac !== undefined && { mac }),
      ...(ifname !== undefined && { interface: ifname }),
      ...(ethertypes && { allowedEtherTypes: ethertypes }),
      ...(trust !== undefined && { trust }),
      ...(publish && { publish }),
      ...(limit && { rateLimit: limit }),
    },
  }) as EndpointResource;
}

function changedLimit(
  before: RateLimitSpec | undefined,
  change: RateLimitChange | null | undefined,
): RateLimitSpec | undefined {
  if (change === undefined) return before;
  if (change === null) return undefined;
  const { ingress, egress, burst } = withoutNulls({ ...before, ...change });
  // A burst alone limits nothing.
  if (ingress === undefined && egress === undefined) return undefined;
  return { ...(ingress && { ingress }), ...(egress && { egress }), ...(burst && { burst }) };
}

function withoutNulls(values: Readonly<Record<string, string | null | undefined>>): Record<string, string> {
  const entries = Object.entries(values).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
  return Object.fromEntries(entries);
}
