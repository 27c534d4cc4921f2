/**
 * What the thread that answers is told: networks, endpoints and services, reduced to what names need. They cross between
 * threads as copies, so they are plain data. A service that is not headless has no backends here.
 */
import type { Vni } from '../flow/types.ts';
import type { Prefix, Route } from '../table/routes.ts';
import type { Service } from '../table/service.ts';

export interface ZoneNetwork {
  readonly name: string;
  readonly vni: Vni;
  readonly subnets: readonly Prefix[];
  readonly gateways: readonly Uint8Array[];
  readonly routes: readonly Route[];
  /** True if its containers may ask for names that are not weft's. */
  readonly outside: boolean;
}

export interface ZoneEndpoint {
  readonly name: string;
  readonly namespace: string;
  readonly network: string;
  /** Of 16 bytes. */
  readonly addresses: readonly Uint8Array[];
  /** True if all names below its own, which are nobody else's, mean it (RFC 4592). */
  readonly hasWildcard: boolean;
  /** Names that it shares with others. None means an endpoint where another one has it as its own name. */
  readonly aliases: readonly string[];
}

export interface ZoneService {
  readonly name: string;
  readonly namespace: string;
  /** Empty if it is headless. */
  readonly vips: readonly Uint8Array[];
  readonly externalName: string | undefined;
  /** True if all names below it, which are nobody else's, mean it (RFC 4592). */
  readonly hasWildcard: boolean;
  /** Only those that have a name. */
  readonly ports: readonly ZonePort[];
  /** Those of a headless service that are ready. */
  readonly backends: readonly ZoneBackend[];
}

export interface ZonePort {
  readonly name: string;
  readonly protocol: number;
  readonly l4Port: number;
  /** The port of each backend; 0 for one that does not have it. */
  readonly targets: readonly number[];
}

export interface ZoneBackend {
  readonly address: Uint8Array;
  /** Undefined if it is in no network. */
  readonly vni: Vni | undefined;
  readonly hostname: string | undefined;
}

/** A missing value means that it is gone. */
export type ZoneChange =
  | { readonly kind: 'network'; readonly name: string; readonly value?: ZoneNetwork | undefined }
  | { readonly kind: 'endpoint'; readonly id: string; readonly value?: ZoneEndpoint | undefined }
  | { readonly kind: 'service'; readonly id: string; readonly value?: ZoneService | undefined };

export function zoneService(service: Service): ZoneService {
  const { id, vips, externalName, hasWildcard } = service;
  const [namespace = '', name = ''] = id.split('/');
  const isHeadless = vips.length === 0;
  const ready = isHeadless ? service.backends.flatMap((backend, at) => (backend.ready ? [at] : [])) : [];
  return {
    ...{ name, namespace, vips, externalName, hasWildcard },
    ports: service.ports
      .filter((port) => port.name !== '')
      .map((port) => ({
        name: port.name,
        protocol: port.protocol,
        l4Port: port.l4Port,
        targets: ready.map((at) => port.targets[at]!),
      })),
    backends: ready.map((at) => {
      const { address, vni, hostname } = service.backends[at]!;
      return { address, vni, hostname };
    }),
  };
}
