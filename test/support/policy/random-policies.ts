/** Policies that make a difference for some of the frames of random tests. */
import { isIp4 } from '../../../src/flow/types.ts';
import type { Changes } from '../../../src/table/changes.ts';
import { Policies } from '../../../src/table/policies.ts';
import type { Policy, PolicyPeer, PolicyRule, PortMatch } from '../../../src/table/policy/policy.ts';
import type { Prefix } from '../../../src/table/routes.ts';
import { IP_TCP, IP_UDP } from '../../../src/wire/ipv4.ts';
import type { Random } from '../random.ts';

/** For half of the ports `p2` to `p5`, by addresses of these and by labels, with single ports and ranges. */
export function randomPolicies(random: Random, changes: Changes, ips: readonly Uint8Array[]): Policies {
  const policies = new Policies(changes);
  const identities = ['red', 'blue'].map((color) => ({
    namespace: 'default',
    labels: { color },
    namespaceLabels: { 'kubernetes.io/metadata.name': 'default' },
    ports: [],
  }));
  policies.workloadsFrom((address, vni) => {
    const at = (address[15]! + vni) % 3;
    return at === 2 ? undefined : { endpoint: `default/e${at}`, identity: identities[at]! };
  });
  const blockOf = (ip: Uint8Array): Prefix => ({ ip, length: (isIp4(ip) ? 32 : 128) - random.pick([0, 8, 16]) });
  const peerOf = (): PolicyPeer =>
    random.chance(0.5)
      ? { kind: 'block', block: blockOf(random.pick(ips)), except: [] }
      : {
          kind: 'workloads',
          namespaces: 'default',
          pods: [{ key: 'color', operator: 'in', values: [random.pick(['red', 'blue'])] }],
        };
  const portOf = (): PortMatch => {
    const first = random.pick([0, 67, 80, 100]);
    const last = random.pick([first, first, first + 200, 65_535]);
    return { kind: 'range', protocol: random.pick([IP_TCP, IP_UDP]), first, last };
  };
  const rules = (): PolicyRule[] =>
    [1, 2].map(() => ({
      action: random.pick(['accept', 'deny'] as const),
      peers: random.chance(0.7) ? [peerOf()] : undefined,
      ports: random.chance(0.7) ? [portOf()] : undefined,
    }));
  for (const name of ['p2', 'p3', 'p4', 'p5'].filter(() => random.chance(0.5))) {
    const policy: Policy = {
      name: { kind: 'ClusterNetworkPolicy', name: 'one' },
      ...{ tier: 'admin', priority: 0, isStaged: false },
      onDeny: random.pick(['drop', 'reject'] as const),
      ingress: random.chance(0.6) ? rules() : undefined,
      egress: random.chance(0.6) ? rules() : undefined,
    };
    const identity = random.pick(identities);
    policies.setSubject(name, { identity, policies: [policy], onDeny: 'drop' });
  }
  return policies;
}
