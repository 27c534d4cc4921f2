/** Network policies as programs declare them, try them and learn what they do. */
import type { Client, Followed, InNamespace } from '../api/client.ts';
import { KUBERNETES_NETWORKING_V1, type NetworkPolicyFields } from '../model/kinds/network-policy.ts';

import type { DiffReport, PolicyTestReport } from '../model/policy-report.ts';
import type { ApplyReport } from '../model/report.ts';
import type { Resource } from '../model/resource.ts';
import type { PolicyEventReport, TalkFilter } from '../model/talk-report.ts';
import type { FollowingUntil } from './following.ts';
import { declared, type Manifest, type ManifestPlace } from './manifest.ts';

export class PoliciesHandle {
  readonly #client: Client;
  readonly #until: FollowingUntil;

  constructor(client: Client, until: FollowingUntil) {
    this.#client = client;
    this.#until = until;
  }

  /** Creates a NetworkPolicy, or changes it to this. @param spec as in a manifest of Kubernetes */
  async apply(name: string, spec: NetworkPolicyFields, place: ManifestPlace = {}): Promise<ApplyReport> {
    const [report] = await this.#client.apply([declared(KUBERNETES_NETWORKING_V1, 'NetworkPolicy', name, spec, place)]);
    return report!;
  }

  delete(name: string, place: InNamespace = {}): Promise<ApplyReport> {
    return this.#client.delete('NetworkPolicy', name, place);
  }

  /** The NetworkPolicies of a namespace, or all. */
  list(place: InNamespace = {}): Promise<Resource[]> {
    return this.#client.get('NetworkPolicy', undefined, place);
  }

  /** What PolicyTests say if `manifests` were applied: those among them, and those that are stored. */
  test(manifests: readonly Manifest[] = []): Promise<PolicyTestReport[]> {
    return this.#client.policyTests(manifests);
  }

  /** What would be different if `manifests` were applied: as `weft diff`. Nothing is changed. */
  diff(manifests: readonly Manifest[]): Promise<DiffReport> {
    return this.#client.diff(manifests);
  }

  /** What policies have denied and ended lately. */
  log(of: TalkFilter = {}): Promise<PolicyEventReport[]> {
    return this.#client.policyLog(of);
  }

  /** `open`, then everything that they deny or end from then on. */
  follow(of: TalkFilter = {}, signal?: AbortSignal): AsyncGenerator<Followed<PolicyEventReport>> {
    return this.#client.followPolicyLog(this.#until.signal(signal), of);
  }
}
