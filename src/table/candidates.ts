/**
 * Candidates: which backends of a service a client may be given. Nothing here is kept, and nothing depends on the
 * connection: clients of one network that ask for the same address all have the same candidates.
 *
 *   1. backends of the family of the address that have the port, with a weight, and are in the subset that is asked for
 *   2. those that the client's network reaches anyway: a service joins no networks
 *   3. with the policy `local`, those of this host, which is the client's
 *   4. the first of these sets that is not empty: ready and not terminating, serving and terminating (KEP-1669), and then
 *      the same two of those that are ejected (`health.ts`): a client that reaches no others is better off with them than
 *      with nobody. Whose checks fail is in none of them.
 *   5. of these, those that are near, if there are any (KEP-3015): on this host, or else in its zone. If it is not known
 *      of all of them where they are, all are as near. There are never more than a Maglev table can have.
 */
import { OUTSIDE } from '../flow/connection.ts';
import { isIp4, type Vni } from '../flow/types.ts';
import type { Fault, FaultKind } from './health.ts';
import { MOST_BACKENDS } from './maglev.ts';
import { spreadOf, type Backend, type Service, type ServicePort, type Spread, type TrafficPolicy } from './service.ts';

/** Why a backend is no candidate. */
export type Exclusion =
  | 'other_family'
  | 'no_port'
  | 'no_weight'
  | 'other_subset'
  | 'unreachable'
  | 'other_host'
  | 'not_ready'
  | 'terminating'
  | FaultKind
  | 'full'
  | 'farther_away'
  | 'too_many';

export interface Excluded {
  readonly backend: Backend;
  readonly why: Exclusion;
  /** More about it, for people. */
  readonly detail?: string;
}

/** The place of a backend in `Service.backends`. */
export type BackendIndex = number;

export interface Candidates {
  /** In the order of `Service.backends`. */
  readonly chosen: readonly BackendIndex[];
  readonly excluded: readonly Excluded[];
  /** Why there are none: only other hosts have one, or nobody has; undefined if there are some. */
  readonly refusal: 'local' | 'no_backend' | undefined;
}

/** What clients ask for. */
export interface Asked {
  /** The family of the address. */
  readonly isV4: boolean;
  /** The policy for clients from there. */
  readonly policy: TrafficPolicy;
  /** A subset of its backends; undefined for all of them. */
  readonly subset?: string | undefined;
}

/** What else they depend on. */
export interface Surroundings {
  /** The name and the zone of this host. */
  readonly host: string | undefined;
  readonly zone: string | undefined;
  /** Whether packets of the client come to the backend if they are sent to its own address. */
  readonly reaches: (backend: Backend) => boolean;
  /** What is wrong with it, as far as that excludes it. */
  readonly faultOf: (backend: Backend) => Fault | undefined;
}

/** The policy for clients from there. */
export function policyFor({ externalPolicy, internalPolicy }: Service, from: Vni | typeof OUTSIDE): TrafficPolicy {
  return from === OUTSIDE ? externalPolicy : internalPolicy;
}

export function candidatesOf(
  service: Service,
  port: ServicePort,
  { isV4, policy, subset }: Asked,
  { host, zone, reaches, faultOf }: Surroundings,
): Candidates {
  const { backends } = service;
  const { targets } = port;
  const excluded: Excluded[] = [];
  const ready: BackendIndex[] = [];
  const leaving: BackendIndex[] = [];
  const ejected = { ready: [] as BackendIndex[], leaving: [] as BackendIndex[] };
  /** Whether hosts that the policy excludes have one. */
  let isElsewhere = false;

  for (const [at, backend] of backends.entries()) {
    const exclude = (why: Exclusion, detail?: string): void =>
      void excluded.push({ backend, why, ...(detail !== undefined && { detail }) });
    if (isIp4(backend.address) !== isV4) exclude('other_family');
    else if ((targets[at] ?? 0) === 0) exclude('no_port');
    else if (subset !== undefined && !backend.subsets.includes(subset)) exclude('other_subset');
    else if (backend.weight <= 0) exclude('no_weight');
    else if (!reaches(backend)) exclude('unreachable');
    else {
      const fault = faultOf(backend);
      const isReady = backend.ready && !backend.terminating;
      const isLeaving = backend.terminating && backend.serving;
      if (!isReady && !isLeaving) {
        if (backend.terminating) exclude('terminating');
        else exclude('not_ready', backend.whyNotReady);
      } else if (fault?.kind === 'check_failed') exclude(fault.kind, fault.detail);
      else if (policy === 'local' && (host === undefined || backend.host !== host)) {
        if (fault) exclude(fault.kind, fault.detail);
        else exclude('other_host');
        isElsewhere ||= !fault;
      } else {
        const set = fault ? ejected : { ready, leaving };
        (isReady ? set.ready : set.leaving).push(at);
      }
    }
  }
  const sets = [ready, leaving, ejected.ready, ejected.leaving];
  const eligible = sets.find((set) => set.length > 0);
  if (!eligible) return { chosen: [], excluded, refusal: isElsewhere ? 'local' : 'no_backend' };
  for (const at of sets.flatMap((set) => (set === eligible ? [] : set))) {
    const backend = backends[at]!;
    const fault = faultOf(backend);
    excluded.push(fault ? { backend, why: fault.kind, detail: fault.detail } : { backend, why: 'terminating' });
  }
  const near = nearest(backends, eligible, spreadOf(service, port, subset).distribution, { host, zone });
  const isNear = new Set(near);
  for (const at of eligible) if (!isNear.has(at)) excluded.push({ backend: backends[at]!, why: 'farther_away' });
  for (const at of near.slice(MOST_BACKENDS)) excluded.push({ backend: backends[at]!, why: 'too_many' });
  return { chosen: near.slice(0, MOST_BACKENDS), excluded, refusal: undefined };
}

function nearest(
  backends: readonly Backend[],
  eligible: readonly BackendIndex[],
  distribution: Spread['distribution'],
  { host, zone }: Pick<Surroundings, 'host' | 'zone'>,
): readonly BackendIndex[] {
  const near = (key: 'host' | 'zone', here: string | undefined): readonly BackendIndex[] => {
    if (here === undefined || eligible.some((at) => backends[at]![key] === undefined)) return [];
    return eligible.filter((at) => backends[at]![key] === here);
  };
  const onHost = distribution === 'same-node' ? near('host', host) : [];
  if (onHost.length > 0) return onHost;
  const inZone = distribution === 'none' ? [] : near('zone', zone);
  return inZone.length > 0 ? inZone : eligible;
}
