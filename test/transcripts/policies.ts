/** NetworkPolicies in documents: one policy has one rule in one direction, or none. */
import { parseIp, sameBytes, type Vni } from '../../src/flow/types.ts';
import type { Forwarding } from '../../src/forwarding.ts';
import type { Identity, PolicyLabels, Policy, PolicyPeer, PortMatch } from '../../src/table/policy/policy.ts';
import { IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';

/** A workload of the simulated network. */
export interface Pod {
  /** The name of its port. */
  readonly name: string;
  readonly host: string;
  readonly vni: Vni;
  readonly addresses: readonly string[];
}

export class LabPolicies {
  readonly #labels = new Map<string, PolicyLabels>();
  readonly #identities = new Map<string, Identity>();
  readonly #policies = new Map<string, { readonly selects: readonly string[]; readonly policy: Policy }>();

  label(name: string, labels: readonly string[]): void {
    this.#labels.set(name, Object.fromEntries(labels.map((label) => label.split('=') as [string, string])));
    this.#identities.delete(name);
  }

  set(name: string, flags: readonly string[], fields: ReadonlyMap<string, string[]>): void {
    const selected = fields.get('for');
    if (!selected) return void this.#policies.delete(name);
    const peers = fields.get('peer')?.map(peerOf);
    const ports = fields.get('port')?.map(portOf);
    const rules = flags.includes('nobody') ? [] : [{ action: 'accept', peers, ports } as const];
    const policy: Policy = {
      name: { kind: 'NetworkPolicy', name: `default/${name}` },
      ...{ tier: 'network', priority: 0, isStaged: flags.includes('staged') },
      ingress: flags.includes('ingress') ? rules : undefined,
      egress: flags.includes('egress') ? rules : undefined,
      onDeny: flags.includes('reject') ? 'reject' : 'drop',
    };
    this.#policies.set(name, { selects: selected.flatMap((names) => names.split(',')), policy });
  }

  /** Puts into force on a host what all workloads are, and which policies select its own. Services call a workload `default/NAME`. */
  put({ tables, controller }: Forwarding, host: string, pods: readonly Pod[]): void {
    const { policies } = tables;
    policies.workloadsFrom((address, vni) => {
      const pod = pods.find((one) => one.vni === vni && one.addresses.some((ip) => sameBytes(parseIp(ip), address)));
      return pod && { endpoint: `default/${pod.name}`, identity: this.#identityOf(pod.name) };
    });
    for (const { name } of pods.filter((pod) => pod.host === host)) {
      const identity = this.#identityOf(name);
      const selecting = [...this.#policies.values()].filter(({ selects }) => selects.includes(name));
      const subject = { identity, policies: selecting.map(({ policy }) => policy), onDeny: 'drop' } as const;
      for (const endpoint of [name, `default/${name}`]) policies.setSubject(endpoint, subject);
    }
    policies.workloadsChanged(pods.flatMap(({ addresses }) => addresses.map(parseIp)));
    controller.enforce();
  }

  #identityOf(name: string): Identity {
    const known = this.#identities.get(name);
    if (known) return known;
    const namespaceLabels = { 'kubernetes.io/metadata.name': 'default' };
    const identity = { namespace: 'default', labels: this.#labels.get(name) ?? {}, namespaceLabels, ports: [] };
    this.#identities.set(name, identity);
    return identity;
  }
}

/** `app:web`, `kube-system` (a namespace), `10.0.0.0/8`. */
function peerOf(text: string): PolicyPeer {
  const [ip, length] = text.split('/');
  if (length !== undefined) {
    return { kind: 'block', block: { ip: parseIp(ip!), length: Number(length) }, except: [] };
  }
  const [key, value] = text.split(':');
  if (value === undefined) return { kind: 'workloads', namespaces: text, pods: [] };
  return { kind: 'workloads', namespaces: 'default', pods: [{ key: key!, operator: 'in', values: [value] }] };
}

/** `80/tcp`, `8000-9000/tcp`. */
function portOf(text: string): PortMatch {
  const [, first, last, protocol] = /^(\d+)(?:-(\d+))?\/(tcp|udp)$/.exec(text)!;
  const range = { first: Number(first), last: Number(last ?? first) };
  return { kind: 'range', protocol: protocol === 'tcp' ? IP_TCP : IP_UDP, ...range };
}
