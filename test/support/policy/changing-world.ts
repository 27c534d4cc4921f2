/**
 * A small cluster whose policies, labels and namespaces change at random, as in life: mostly a policy says something else about the same
 * workloads, and often what it has said before, or the same about both directions, or what another one says.
 */
import type { Random } from '../random.ts';
import { randomPlaces, randomPolicies } from './generate.ts';
import type { ClusterNetworkPolicy, Manifest, NetworkPolicy, World } from './world.ts';

type Rules = Pick<NetworkPolicy['spec'], 'policyTypes' | 'ingress' | 'egress'>;
type ClusterRules = Pick<ClusterNetworkPolicy['spec'], 'ingress' | 'egress'>;

const both: Rules['policyTypes'] = ['Ingress', 'Egress'];
/** What people write most: of both directions, then of one. */
const usual: readonly Rules[] = [
  { policyTypes: both, ingress: [], egress: [] },
  { policyTypes: both, ingress: [{}], egress: [{}] },
  { policyTypes: both, ingress: [{}], egress: [] },
  { policyTypes: both, ingress: [], egress: [{}] },
  { policyTypes: ['Ingress'], ingress: [] },
  { policyTypes: ['Egress'], egress: [{}] },
];
const everybody = { namespaces: {} };
const [accept, deny, pass] = (['Accept', 'Deny', 'Pass'] as const).map((action) => ({ action }));
const usualOfCluster: readonly ClusterRules[] = [
  { ingress: [{ ...deny!, from: [everybody] }], egress: [{ ...deny!, to: [everybody] }] },
  { ingress: [{ ...accept!, from: [everybody] }], egress: [{ ...accept!, to: [everybody] }] },
  { ingress: [{ ...accept!, from: [everybody] }], egress: [{ ...deny!, to: [everybody] }] },
  { ingress: [{ ...deny!, from: [everybody] }], egress: [{ ...accept!, to: [everybody] }] },
  { ingress: [{ ...pass!, from: [everybody] }], egress: [{ ...pass!, to: [everybody] }] },
  { ingress: [{ ...deny!, from: [everybody] }] },
  { ingress: [], egress: [] },
];
/** In how many changes there are more policies than are replaced one by one. */
const MANY_SHARE = 0.05;
const MANY = 20;
/** How many there are after another change. */
const MOST_STAYING = 5;
/** How many workloads there are: of few, each change concerns more. */
const PODS = 5;

/** What one change was about. */
export interface Change {
  /** By id. */
  readonly policies: ReadonlySet<string>;
  readonly namespaces: ReadonlySet<string>;
  /** By their names in their namespaces: others than before, with their old labels. */
  readonly pods: ReadonlySet<number>;
}

export class ChangingWorld {
  readonly #random: Random;
  readonly #policies = new Map<string, Manifest>();
  readonly #said = new Map<string, Manifest['spec'][]>();
  #places: ReturnType<typeof randomPlaces>;
  #made = 0;

  constructor(random: Random) {
    this.#random = random;
    this.#places = this.#randomPlaces();
    for (let n = random.int(3); n >= 0; n--) this.#create();
  }

  get world(): World {
    return { ...this.#places, policies: [...this.#policies.values()] };
  }

  policy(id: string): Manifest | undefined {
    return this.#policies.get(id);
  }

  get ids(): readonly string[] {
    return [...this.#policies.keys()];
  }

  change(): Change {
    const random = this.#random;
    const [policies, namespaces, pods] = [new Set<string>(), new Set<string>(), new Set<number>()];
    const isLarge = random.chance(MANY_SHARE);
    for (let n = isLarge ? MANY : 1 + random.int(2); n > 0; n--) {
      const isNew = isLarge || this.#policies.size === 0 || random.chance(0.05);
      policies.add(isNew ? this.#create() : this.#edit(random.pick(this.ids)));
    }
    // What is too much is deleted at once.
    if (!isLarge) for (const id of this.ids.slice(MOST_STAYING)) policies.add(this.#delete(id));
    if (random.chance(0.1)) namespaces.add(this.#relabelNamespace());
    if (random.chance(0.1)) pods.add(this.#relabelPod());
    return { policies, namespaces, pods };
  }

  #create(): string {
    const [manifest] = randomPolicies(this.#random);
    const metadata = { ...manifest!.metadata, name: `p${this.#made++ % MANY}` };
    const made = { ...manifest!, metadata } as Manifest;
    return this.#set(this.#withRules(this.#random.chance(0.5) ? this.#selectingAll(made) : made));
  }

  /** What says something else now, or selects others, or is there no more. */
  #edit(id: string): string {
    const random = this.#random;
    const manifest = this.#policies.get(id)!;
    const kind = random.int(20);
    if (kind < 14) return this.#set(this.#withRules(manifest));
    if (kind < 15) return this.#set(this.#selectingOthers(manifest));
    if (kind < 16) return this.#set(this.#annotated(manifest));
    if (kind < 17) return this.#set({ ...manifest });
    if (kind < 18) return this.#set(this.#elsewhere(manifest));
    return this.#delete(id);
  }

  #delete(id: string): string {
    this.#policies.delete(id);
    return id;
  }

  #set(manifest: Manifest): string {
    const id = idOfPolicy(manifest);
    this.#policies.set(id, manifest);
    const said = this.#said.get(id);
    if (said) said.push(manifest.spec);
    else this.#said.set(id, [manifest.spec]);
    return id;
  }

  #withRules(manifest: Manifest): Manifest {
    const random = this.#random;
    const rules = random.chance(0.3) ? random.pick(this.#rulesOf(manifest)) : this.#usual(manifest);
    const { policyTypes: _, ingress: __, egress: ___, ...spec } = manifest.spec as NetworkPolicy['spec'];
    return { ...manifest, spec: { ...spec, ...rules } } as unknown as Manifest;
  }

  #usual({ kind }: Manifest): Rules | ClusterRules {
    const all: readonly (Rules | ClusterRules)[] = kind === 'NetworkPolicy' ? usual : usualOfCluster;
    return this.#random.pick(this.#random.chance(0.8) ? all.slice(0, 4) : all);
  }

  /** What it has said before, what others of its kind say, and something new, also of both directions alike. */
  #rulesOf(manifest: Manifest): (Rules | ClusterRules)[] {
    const said = this.#said.get(idOfPolicy(manifest)) ?? [];
    const anew = [...randomPolicies(this.#random), ...this.#policies.values()].filter(
      ({ kind }) => kind === manifest.kind,
    );
    const specs = [...said, ...anew.map(({ spec }) => spec)] as NetworkPolicy['spec'][];
    return [...(specs.length > 0 ? specs : [manifest.spec as NetworkPolicy['spec']])].flatMap((spec) => {
      const { policyTypes, ingress, egress } = spec;
      const rules = { ...(policyTypes && { policyTypes }), ...(ingress && { ingress }), ...(egress && { egress }) };
      return [rules, { ...rules, ...alike(rules, manifest.kind) }];
    });
  }

  #selectingAll(manifest: Manifest): Manifest {
    const everything = manifest.kind === 'NetworkPolicy' ? { podSelector: {} } : { subject: everybody };
    return { ...manifest, spec: { ...manifest.spec, ...everything } } as Manifest;
  }

  #selectingOthers(manifest: Manifest): Manifest {
    const others = Array.from({ length: 4 }, () => randomPolicies(this.#random)).flat();
    const other = others.find(({ kind }) => kind === manifest.kind);
    if (!other) return manifest;
    if (manifest.kind === 'NetworkPolicy') {
      const { podSelector } = (other as NetworkPolicy).spec;
      return { ...manifest, spec: { ...manifest.spec, podSelector } };
    }
    return { ...manifest, spec: { ...manifest.spec, subject: (other as ClusterNetworkPolicy).spec.subject } };
  }

  #annotated(manifest: Manifest): Manifest {
    const random = this.#random;
    const annotations = {
      ...(random.chance(0.3) && { 'weft.dev/staged': 'true' }),
      ...(random.chance(0.5) && { 'weft.dev/on-deny': random.pick(['drop', 'reject']) }),
    };
    return { ...manifest, metadata: { ...manifest.metadata, annotations } } as Manifest;
  }

  /** At another place among the others. */
  #elsewhere(manifest: Manifest): Manifest {
    if (manifest.kind === 'NetworkPolicy') return { ...manifest };
    const tier = this.#random.pick(['Admin', 'Baseline'] as const);
    return { ...manifest, spec: { ...manifest.spec, tier, priority: this.#random.int(3) } };
  }

  /** All names and addresses are the same each time. */
  #randomPlaces(): ReturnType<typeof randomPlaces> {
    const { namespaces, pods } = randomPlaces(this.#random);
    return { namespaces, pods: pods.slice(0, PODS) };
  }

  #relabelNamespace(): string {
    const { namespaces } = this.#randomPlaces();
    const at = this.#random.int(namespaces.length);
    const annotations = { 'weft.dev/on-deny': this.#random.pick(['drop', 'reject']) };
    const namespace = { ...namespaces[at]!, annotations };
    this.#places = { ...this.#places, namespaces: this.#places.namespaces.with(at, namespace) };
    return namespace.name;
  }

  #relabelPod(): number {
    const at = this.#random.int(this.#places.pods.length);
    const pod = this.#randomPlaces().pods[at]!;
    this.#places = { ...this.#places, pods: this.#places.pods.with(at, pod) };
    return at;
  }
}

export function idOfPolicy({ kind, metadata }: Manifest): string {
  return `${kind} ${'namespace' in metadata ? `${metadata.namespace}/` : ''}${metadata.name}`;
}

/** What is said of both directions, as of what is received. */
function alike({ ingress }: Rules, kind: Manifest['kind']): object {
  const egress = (ingress ?? []).map(({ from, ...rest }) => ({ ...(from && { to: from }), ...rest }));
  return { ...(kind === 'NetworkPolicy' && { policyTypes: both }), ingress: ingress ?? [], egress };
}
