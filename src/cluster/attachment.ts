/**
 * What `weft attach` declares. Attaching an endpoint again changes only what the command names: the
 * endpoint keeps its other labels and annotations, named and published ports and limits.
 */
import { WILDCARD } from '../model/annotations.ts';
import { ALIASES } from '../model/endpoint-annotations.ts';
import { WEFT_V1 } from '../model/kinds/kind.ts';
import type { EndpointResource, RateLimitSpec } from '../model/kinds/endpoint.ts';
import { parseResource } from '../model/manifest.ts';
import { refuseUnknownLabels } from '../model/own-labels.ts';
import type { NamedPortOptions } from '../model/named-port.ts';
import type { PublishOptions } from '../model/publish.ts';

export interface AttachOptions {
  readonly name: string;
  readonly network: string;
  /** Either `netns` (a name or a path) or `pid`. */
  readonly netns?: string;
  readonly pid?: number;
  readonly ip?: readonly string[];
  readonly mac?: string;
  readonly ifname?: string;
  readonly namespace?: string;
  /** Labels to set; null removes a label. */
  readonly labels?: Readonly<Record<string, string | null>>;
  /** Annotations to set; null removes one. */
  readonly annotations?: Readonly<Record<string, string | null>>;
  /** All of its other names; an empty list removes them. */
  readonly aliases?: readonly string[];
  /** Whether all names below its own mean it, too. */
  readonly wildcard?: boolean;
  /** All EtherTypes that it may send besides IPv4, IPv6 and ARP: numbers, or text such as `0x88f7`. */
  readonly ethertypes?: readonly (number | string)[];
  readonly trust?: boolean;
  /** All of its own ports that have names; an empty list removes them. */
  readonly ports?: readonly NamedPortOptions[];
  /** All ports of this host that lead to it; an empty list removes them. Needs a network with an outside. */
  readonly publish?: readonly PublishOptions[];
  /**
   * Limits on the bytes that pass its port: rates such as `100mbit`, a burst such as `256kb`. Null removes one, or all.
   */
  readonly rateLimit?: RateLimitChange | null;
  /** Takes it over from another host, with its addresses and its MAC. */
  readonly move?: boolean;
}

export interface RateLimitChange {
  readonly ingress?: string | null;
  readonly egress?: string | null;
  readonly burst?: string | null;
}

/**
 * Builds the resource to apply from `options` and, for an endpoint of this host that exists, from `known`.
 * @throws WeftError('invalid')
 */
export function attachment(options: AttachOptions, known: EndpointResource | undefined): EndpointResource {
  const {
    name,
    network,
    netns,
    pid,
    ip,
    mac,
    ifname,
    namespace,
    labels,
    annotations: annotationsWanted,
    aliases,
    wildcard,
    ethertypes,
    trust,
    ports,
    publish,
    rateLimit,
  } = options;
  // An endpoint of another host is not turned into one of this host. Applying it reports that.
  const before = known?.spec.host === undefined ? known : undefined;
  const { netns: _netns, pid: _pid, rateLimit: limitBefore, ...spec } = before?.spec ?? {};
  const { annotations: annotationsBefore, ...metadata } = before?.metadata ?? {};
  const annotations = withoutNulls({
    ...annotationsBefore,
    ...annotationsWanted,
    ...(aliases && { [ALIASES]: aliases.length > 0 ? aliases.join(',') : null }),
    ...(wildcard !== undefined && { [WILDCARD]: wildcard ? 'true' : null }),
  });
  const limit = changedLimit(limitBefore, rateLimit);
  refuseUnknownLabels('Endpoint', labels ?? {}, { field: ['labels'] });
  return parseResource({
    apiVersion: WEFT_V1,
    kind: 'Endpoint',
    metadata: {
      ...metadata,
      name,
      ...(namespace !== undefined && { namespace }),
      labels: withoutNulls({ ...before?.metadata.labels, ...labels }),
      ...(Object.keys(annotations).length > 0 && { annotations }),
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
      ...(ports && { ports }),
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
  // A burst limits nothing without a rate.
  if (ingress === undefined && egress === undefined) return undefined;
  return { ...(ingress && { ingress }), ...(egress && { egress }), ...(burst && { burst }) };
}

function withoutNulls(values: Readonly<Record<string, string | null | undefined>>): Record<string, string> {
  const entries = Object.entries(values).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
  return Object.fromEntries(entries);
}
