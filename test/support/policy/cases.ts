/**
 * Policies that were written by hand, and the workloads that they are about. `cases/*.yaml` are tables: what is tried, and the
 * policies as specifications of NetworkPolicies, by their namespace, or of ClusterNetworkPolicies (`cluster`).
 */
import { readdirSync, readFileSync } from 'node:fs';
import { parse } from 'yaml';
import type { ClusterNetworkPolicy, Manifest, Namespace, NetworkPolicy, Pod, ProtocolName } from './world.ts';

export interface PolicyCase {
  /** `peers 3: pods of all namespaces` */
  readonly what: string;
  readonly policies: readonly Manifest[];
}

/** An entry of a table. */
interface Entry {
  readonly what: string;
  readonly policies: readonly Readonly<Record<string, object>>[];
  readonly annotations?: Record<string, string>;
}

/** The workloads, and what is tried with them. */
export interface CaseWorld {
  readonly namespaces: readonly Namespace[];
  readonly pods: readonly Pod[];
  readonly cases: readonly PolicyCase[];
}

const caseNamespaces: readonly Namespace[] = [
  { name: 'shop', labels: { env: 'prod', team: 'sales' } },
  { name: 'lab', labels: { env: 'test' } },
  { name: 'ops', labels: {} },
];

type Port = readonly [name: string, port: number, protocol?: ProtocolName];
const web: readonly Port[] = [
  ['http', 80],
  ['admin', 81],
];
/** `ops` is on a network of its own, `red`; the others are on `blue`. */
const casePods: readonly Pod[] = [
  podOf('shop/web', '10.44.1.2', { app: 'web', tier: 'front' }, web),
  podOf('shop/api', '10.44.1.3', { app: 'api', tier: 'back' }, [['http', 81]]),
  podOf('shop/db', '10.44.1.4', { app: 'db', tier: 'back' }, [
    ['http', 80, 'UDP'],
    ['admin', 80],
  ]),
  podOf('lab/web', '10.44.2.2', { app: 'web', tier: 'front', canary: 'yes' }, [['http', 81]]),
  podOf('lab/api', '10.44.2.3', { app: 'api', tier: 'back' }, web),
  podOf('lab/db', '10.44.2.4', { app: 'db', tier: 'back' }, [['admin', 81, 'UDP']]),
  podOf('ops/web', '10.45.0.2', { app: 'web', tier: 'front' }, web),
  podOf('ops/api', '10.45.0.3', { app: 'api' }, [['http', 80, 'UDP']]),
  podOf('ops/db', '10.45.0.4', {}, []),
];
export const caseNetworks = {
  blue: ['10.44.0.0/16', 'fd44::/64'],
  red: ['10.45.0.0/16', 'fd45::/64'],
} as const;
/** weft’s DNS, as policies see it: at the gateways. */
export const dnsPod: Pod = {
  ...{ name: 'dns', namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } },
  addresses: ['10.44.0.1', 'fd44::1', '10.45.0.1', 'fd45::1'],
  ports: [
    { name: 'dns', port: 53, protocol: 'UDP' },
    { name: 'dns-tcp', port: 53, protocol: 'TCP' },
  ],
};

export function networkOf({ addresses }: Pick<Pod, 'addresses'>): keyof typeof caseNetworks {
  return addresses[0]!.startsWith('10.45.') ? 'red' : 'blue';
}

function podOf(id: string, ip4: string, labels: Record<string, string>, ports: readonly Port[]): Pod {
  const [namespace, name] = id.split('/') as [string, string];
  const [, b, c, d] = ip4.split('.');
  const named = ports.map(([port, number, protocol = 'TCP']) => ({ name: port, port: number, protocol }));
  return { name, namespace, labels, addresses: [ip4, `fd${b}::${c === '0' ? '' : `${c}:`}${d}`], ports: named };
}

export const caseNamespaceNames: readonly string[] = caseNamespaces.map(({ name }) => name);

/** @param asDefault the namespace that is called `default` instead, where workloads have shorter names; undefined: none is */
export function caseWorld(asDefault: string | undefined): CaseWorld {
  const renamed = (name: string): string => (name === asDefault ? 'default' : name);
  return {
    namespaces: caseNamespaces.map((one) => ({ ...one, name: renamed(one.name) })),
    pods: casePods.map((pod) => ({ ...pod, namespace: renamed(pod.namespace) })),
    cases: policyCases(renamed),
  };
}

function policyCases(renamed: (namespace: string) => string): PolicyCase[] {
  // Nothing else in a specification is called like a namespace.
  const specOf = (spec: object): object =>
    JSON.parse(JSON.stringify(spec), (_, value: unknown) =>
      typeof value === 'string' ? renamed(value) : value,
    ) as object;
  const directory = new URL('cases/', import.meta.url);
  return readdirSync(directory)
    .sort()
    .flatMap((file) => {
      const table = file.replace('.yaml', '');
      const entries = parse(readFileSync(new URL(file, directory), 'utf8')) as Entry[];
      return entries.map(({ what, policies, annotations }, at) => ({
        what: `${table} ${at + 1}: ${what}`,
        policies: policies.flatMap((one, n) =>
          Object.entries(one).map(([of, spec]) =>
            manifest(renamed(of), `${table}-${at + 1}-${n}`, specOf(spec), annotations),
          ),
        ),
      }));
    });
}

/** @param of a namespace, or `cluster` */
function manifest(of: string, name: string, spec: object, annotations?: Record<string, string>): Manifest {
  const metadata = { name, ...(annotations && { annotations }) };
  if (of === 'cluster') return { kind: 'ClusterNetworkPolicy', metadata, spec: spec as ClusterNetworkPolicy['spec'] };
  return {
    kind: 'NetworkPolicy',
    metadata: { ...metadata, namespace: of },
    spec: spec as NetworkPolicy['spec'],
  };
}

/** As `weft apply` reads it. */
export function appliedManifest(policy: Manifest): object {
  const apiVersion = policy.kind === 'NetworkPolicy' ? 'networking.k8s.io/v1' : 'policy.networking.k8s.io/v1alpha2';
  return { apiVersion, ...policy };
}
