/**
 * What the thread that answers knows: networks, endpoints and services, reduced to what names need. It is told of changes, which
 * cross between threads as copies, so they are plain data. A service that is not headless has no backends here.
 */
import type { Vni } from '../flow/types.ts';
import type { Prefix, Route } from '../table/routes.ts';

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

/** What is told of a service (`service-update.ts`). */
export interface ServiceUpdate extends Omit<ZoneService, 'ports' | 'backends'> {
  readonly ports: readonly Omit<ZonePort, 'targets'>[];
  /** What is different of its backends. They stay where nothing is replaced. */
  readonly replaced: readonly ReplacedBackends[];
}

export interface ReplacedBackends {
  /** The place of the first one that goes, among those of before. */
  readonly at: number;
  /** How many go. */
  readonly count: number;
  /** Those that come in their place. */
  readonly by: PackedBackends;
}

export interface PackedBackends {
  /** 16 bytes for each. */
  readonly addresses: Uint8Array;
  readonly vnis: readonly ZoneBackend['vni'][];
  readonly hostnames: readonly ZoneBackend['hostname'][];
  /** For each port of the update: that of each backend. */
  readonly targets: readonly Uint16Array[];
}

/** A missing value means that it is gone. */
export type ZoneChange =
  | { readonly kind: 'network'; readonly name: string; readonly value?: ZoneNetwork | undefined }
  | { readonly kind: 'endpoint'; readonly id: string; readonly value?: ZoneEndpoint | undefined }
  | { readonly kind: 'service'; readonly id: string; readonly value?: ServiceUpdate | undefined };
