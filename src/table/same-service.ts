/** Whether two values are the same service: who sets the same one again changes nothing. */
import { sameBytes } from '../flow/types.ts';
import type {
  Backend,
  BackendCheck,
  OutlierSettings,
  PortSpreads,
  Routing,
  Service,
  ServicePort,
  Spread,
  Subset,
} from './service.ts';

export function sameService(a: Service, b: Service): boolean {
  return (
    a === b ||
    (a.id === b.id &&
      a.affinityMs === b.affinityMs &&
      a.internalPolicy === b.internalPolicy &&
      a.externalPolicy === b.externalPolicy &&
      a.rule === b.rule &&
      sameSpreads(a, b) &&
      sameRouting(a.routing, b.routing) &&
      same(a.subsets, b.subsets, sameSubset) &&
      a.drainMs === b.drainMs &&
      sameOutlier(a.outlier, b.outlier) &&
      sameCheck(a.check, b.check) &&
      a.externalName === b.externalName &&
      a.hasWildcard === b.hasWildcard &&
      same(a.vips, b.vips, sameBytes) &&
      same(a.externalAddresses, b.externalAddresses, sameBytes) &&
      same(a.ports, b.ports, samePort) &&
      same(a.backends, b.backends, sameBackend))
  );
}

/** They are small, and plain data whose fields are always in one order. */
function sameRouting(a: Routing | undefined, b: Routing | undefined): boolean {
  return a === b || (a !== undefined && b !== undefined && JSON.stringify(a) === JSON.stringify(b));
}

function sameOutlier(a: OutlierSettings | undefined, b: OutlierSettings | undefined): boolean {
  if (a === b || a === undefined || b === undefined) return a === b;
  return (
    a.failures === b.failures &&
    a.intervalMs === b.intervalMs &&
    a.baseEjectionMs === b.baseEjectionMs &&
    a.mostEjectedPercent === b.mostEjectedPercent &&
    a.leastHealthyPercent === b.leastHealthyPercent
  );
}

function sameCheck(a: BackendCheck | undefined, b: BackendCheck | undefined): boolean {
  if (a === b || a === undefined || b === undefined) return a === b;
  return (
    a.type === b.type &&
    a.path === b.path &&
    a.intervalMs === b.intervalMs &&
    a.timeoutMs === b.timeoutMs &&
    a.failures === b.failures &&
    a.successes === b.successes &&
    same(a.targets, b.targets, Object.is)
  );
}

type Spreads = Spread & { readonly portSpreads: PortSpreads };

function sameSpreads(a: Spreads, b: Spreads): boolean {
  return (
    sameSpread(a, b) &&
    (a.portSpreads === b.portSpreads ||
      (a.portSpreads.size === b.portSpreads.size &&
        [...a.portSpreads].every(([port, spread]) => {
          const other = b.portSpreads.get(port);
          return other !== undefined && sameSpread(spread, other);
        })))
  );
}

function sameSpread(a: Spread, b: Spread): boolean {
  return a.balancing === b.balancing && a.distribution === b.distribution && a.maxConnections === b.maxConnections;
}

function sameSubset(a: Subset, b: Subset): boolean {
  return a.name === b.name && sameSpreads(a, b);
}

function samePort(a: ServicePort, b: ServicePort): boolean {
  return (
    a.name === b.name &&
    a.protocol === b.protocol &&
    a.l4Port === b.l4Port &&
    a.lastL4Port === b.lastL4Port &&
    a.nodePort === b.nodePort &&
    same(a.targets, b.targets, Object.is)
  );
}

function sameBackend(a: Backend, b: Backend): boolean {
  return (
    a === b ||
    (a.endpoint === b.endpoint &&
      a.vni === b.vni &&
      a.host === b.host &&
      a.zone === b.zone &&
      a.hostname === b.hostname &&
      a.ready === b.ready &&
      a.serving === b.serving &&
      a.terminating === b.terminating &&
      a.whyNotReady === b.whyNotReady &&
      a.weight === b.weight &&
      same(a.subsets, b.subsets, Object.is) &&
      sameBytes(a.address, b.address))
  );
}

function same<T>(a: readonly T[], b: readonly T[], isSame: (a: T, b: T) => boolean): boolean {
  return a === b || (a.length === b.length && a.every((one, at) => isSame(one, b[at]!)));
}
