/** The parts that know of the health of backends, and how they are connected. */
import type { EjectionChange } from '../health/outlier-detection.ts';
import { formatIp } from '../flow/types.ts';
import type { Forwarding } from '../forwarding.ts';
import type { StatusReport } from '../model/report.ts';
import type { Store } from '../store/store.ts';
import type { Service } from '../table/service.ts';
import { BackendChecks, type BackendVerdict } from './backend-checks.ts';
import { HealthLog } from './health-log.ts';
import { UnhealthyBackends } from './unhealthy-backends.ts';

export interface HealthPartsEnvironment {
  readonly forwarding: Forwarding;
  readonly hostName: string;
  /** Undefined if no store is shared. */
  readonly store: Store | undefined;
  /** Of this host; undefined while it is not registered. */
  readonly lease: () => string | undefined;
  readonly clock: () => number;
  readonly later: (work: () => void) => void;
  readonly after: (delayMs: number, work: () => void) => () => void;
  readonly logger: Record<'info' | 'warn', (details: object, message: string) => void>;
}

export interface HealthParts {
  readonly checks: BackendChecks;
  readonly unhealthy: UnhealthyBackends;
  setService(service: Service): void;
  removeService(id: string): void;
  report(): StatusReport['health'];
}

export function healthParts(environment: HealthPartsEnvironment): HealthParts {
  const { forwarding, hostName, store, lease, clock, later, after, logger } = environment;
  const log = new HealthLog((level, details, message) => logger[level](details, message), clock);
  const { services, topology } = forwarding.tables;
  const unhealthy = new UnhealthyBackends({
    ...{ hostName, store, lease, after },
    service: (id) => services.get(id),
    setHealth: (id, faults) => forwarding.setHealth(id, 'check_failed', faults),
    warn: (details, message) => logger.warn(details, message),
  });
  const checks = new BackendChecks({
    ...{ topology, hostName, later },
    onVerdict: (verdict) => {
      unhealthy.set(verdict);
      log.changed(verdictChange(verdict));
    },
  });
  forwarding.onEjection = (change) => log.changed(ejectionChange(change));
  return {
    ...{ checks, unhealthy },
    setService: (service) => {
      checks.setService(service);
      unhealthy.follow(service.id);
    },
    removeService: (id) => {
      checks.removeService(id);
      unhealthy.follow(id);
    },
    report: () => ({ ...checks.statistics, ...forwarding.outliers.statistics }),
  };
}

function verdictChange({ service, address, why }: BackendVerdict) {
  return { service, backend: address, what: why === undefined ? ('back' as const) : ('check failed' as const), why };
}

function ejectionChange({ service, backend: { endpoint, address }, why }: EjectionChange) {
  const what = why === undefined ? ('back' as const) : ('ejected' as const);
  return { service, backend: endpoint ?? formatIp(address), what, why };
}
