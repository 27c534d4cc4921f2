/** What-if: what would be if resources were applied. Nothing is changed, and nothing is put into force. */
import type { Cluster } from '../cluster/cluster.ts';
import type { PolicyTests } from '../cluster/policies/policy-tests.ts';
import type { PolicyTestReport } from '../model/policy-report.ts';
import type { Resource } from '../model/resource.ts';

export interface WhatIfEnvironment {
  readonly cluster: Pick<Cluster, 'propose'>;
  readonly tests: Pick<PolicyTests, 'run'>;
}

export class WhatIf {
  readonly #environment: WhatIfEnvironment;

  constructor(environment: WhatIfEnvironment) {
    this.#environment = environment;
  }

  /** What the PolicyTests say, those of the resources and those that are stored. @throws WeftError if they cannot be applied */
  policyTests(resources: readonly Resource[]): Promise<PolicyTestReport[]> {
    const { cluster, tests } = this.#environment;
    return cluster.propose(resources, (change) => tests.run(change));
  }
}
