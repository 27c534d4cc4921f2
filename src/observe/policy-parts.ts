/** The parts that tell of network policy: what it has done, and what a change would do. */
import { join } from 'node:path';
import type { Cluster } from '../cluster/cluster.ts';
import { isHere } from '../cluster/endpoint.ts';
import type { Endpoints } from '../cluster/endpoints.ts';
import type { Networks } from '../cluster/networks.ts';
import type { Questions } from '../cluster/membership/questions.ts';
import type { PolicyParts } from '../cluster/policies/parts.ts';
import type { ServiceEnforcement } from '../cluster/services/service-enforcement.ts';
import type { Vni } from '../flow/types.ts';
import type { Forwarding } from '../forwarding.ts';
import { ClassKeeper } from './classes/class-keeper.ts';
import { logSwept, PolicyReports } from './policy-reports.ts';
import { WhatIf } from './what-if.ts';

export interface PolicyTellingEnvironment {
  readonly forwarding: Forwarding;
  readonly policies: Pick<PolicyParts, 'tests' | 'enforcement'>;
  readonly services: Pick<ServiceEnforcement, 'propose'>;
  readonly cluster: () => Pick<Cluster, 'propose'>;
  readonly endpoints: Endpoints;
  readonly networks: Networks;
  /** The name of this host. */
  readonly host: string;
  /** Undefined without a shared store. */
  readonly questions: Pick<Questions, 'ask'> | undefined;
  /** The state directory. */
  readonly state: string;
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  /** Milliseconds since the epoch. */
  readonly wallClock: () => number;
  readonly warn: (message: string, details: object) => void;
  readonly onError: (error: unknown) => void;
}

export interface PolicyTelling {
  readonly policyReports: PolicyReports;
  readonly classes: ClassKeeper;
  readonly whatIf: WhatIf;
}

export function policyTelling(environment: PolicyTellingEnvironment): PolicyTelling {
  const { forwarding, policies, services, cluster, endpoints, networks, host, questions } = environment;
  const { state, clock, wallClock, warn, onError } = environment;
  const { controller, datapath, tables } = forwarding;
  const { policyLog, sweep, flows } = controller;
  const { records } = datapath.connections;
  const policyReports = new PolicyReports({
    log: policyLog,
    judged: () => sweep.done(),
    ...{ endpoints, networks, clock, wallClock },
  });
  logSwept(policyReports, warn);
  const classes = new ClassKeeper({
    path: join(state, 'flow-classes'),
    networkOf: (name) => {
      const endpoint = endpoints.find(name);
      return endpoint && isHere(endpoint)
        ? (networks.find(endpoint.resource.spec.network)?.vni as Vni | undefined)
        : undefined;
    },
    ...{ records, tables, flows, policyLog, clock, wallClock, warn, onError },
  });
  const whatIf = new WhatIf({
    cluster,
    tests: policies.tests,
    propose: (change) => policies.enforcement.propose(change),
    proposeServices: (change) => services.propose(change),
    ...{ records, classes, tables, host, questions },
  });
  return { policyReports, classes, whatIf };
}
