/** Ports of services that clients have asked for: what is kept of them (`services.ts`). */
import type { PinnedBackend } from './backends.ts';
import type { Service, ServicePort } from './service.ts';

/** A port of a service that clients have asked for. */
export interface BalancedPort {
  /** What names it in the keys of scopes and clients. */
  readonly id: number;
  /** That of the service. */
  readonly object: string;
  service: Service;
  port: ServicePort;
  /** Goes up with each change of the service or its health: what was made before does not hold any more. */
  version: number;
  /** By network, address and port of a backend. */
  readonly pinned: Map<string, PinnedBackend>;
}

/** A service, and those of its ports. */
export interface KnownService {
  service: Service;
  readonly object: string;
  balanced: BalancedPort[];
}

/** Undefined if no client has asked for it. */
export function balancedAt(
  { balanced }: KnownService,
  { protocol, l4Port }: Pick<ServicePort, 'protocol' | 'l4Port'>,
): BalancedPort | undefined {
  return balanced.find(({ port }) => port.protocol === protocol && port.l4Port === l4Port);
}
