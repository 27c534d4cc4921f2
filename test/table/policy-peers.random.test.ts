/**
 * Which rules of a set match a peer, after rules have come and gone at random, against twins that look at each rule in turn: address
 * blocks of both families that contain each other and except each other, and selectors that many rules share.
 */
import t from 'tap';
import { isIp4, parseIp } from '../../src/flow/types.ts';
import { PeerRules } from '../../src/table/policy/peer-rules.ts';
import type { Identity, Policy, PolicyPeer, PolicyRule } from '../../src/table/policy/policy.ts';
import { rulesOf, type Rule } from '../../src/table/policy/rules.ts';
import type { Prefix } from '../../src/table/routes.ts';
import { IP_TCP } from '../../src/wire/ipv4.ts';
import { Random } from '../support/random.ts';

const SETS = 30;
const CHANGES = 12;
const seed = Number(process.env.SEED ?? Date.now() % 2 ** 32);

t.test(`the rules that match a peer are those that say so, whatever was there before (seed ${seed})`, (t) => {
  const random = new Random(seed);
  let [matched, wrong] = [0, 0];
  for (let set = 0; set < SETS && wrong === 0; set++) {
    const rules = new PeerRules();
    // Some sets are small, some have hundreds of prefixes, and in some all prefixes begin alike.
    const [most, spread] = [random.pick([2, 20, 200]), random.pick([1, 3, 200])];
    let present: readonly Rule[] = [];
    for (let change = 0; change < CHANGES; change++) {
      const stays = present.filter(() => random.int(4) > 0);
      const removed = present.filter((rule) => !stays.includes(rule));
      // What has gone may come again.
      const again = removed.filter(() => random.int(3) === 0);
      // Few are put beside what is there, many among it.
      const added = [...randomRules(random, random.int(random.pick([3, most])), spread), ...again];
      rules.change(removed, added);
      present = [...stays, ...added];
      for (let n = 0; n < 60; n++) {
        const address = randomAddress(random, spread);
        const found = new Set(rules.blockWith(address)?.rules());
        const expected = new Set(present.filter((rule) => hasAddress(rule, address)));
        matched += expected.size;
        if (!sameSets(found, expected)) wrong++;
      }
      const identity = randomIdentity(random);
      const found = rules.ofWorkload(identity).flatMap((selecting) => [...selecting.rules]);
      const expected = present.filter((rule) => selectsWorkload(rule, identity));
      if (!sameSets(new Set(found), new Set(expected))) wrong++;
      if (!sameSets(new Set(rules.everybody), new Set(present.filter(({ peers }) => !peers)))) wrong++;
    }
  }
  t.equal(wrong, 0);
  t.ok(matched > 10_000, `${matched} rules matched`);
  t.end();
});

t.test('only the rules of a policy that names a port depend on the ports of the workload', (t) => {
  const web = [{ name: 'web', protocol: IP_TCP, l4Port: 8080 }];
  const [named, numbered] = [
    policyWith([{ kind: 'name', name: 'web', protocol: undefined }]),
    policyWith([{ kind: 'range', protocol: IP_TCP, first: 80, last: 80 }]),
  ];
  t.equal(rulesOf(numbered, 'ingress', web), rulesOf(numbered, 'ingress', []));
  t.same(rulesOf(named, 'ingress', web)[0]!.ranges, [{ protocol: IP_TCP, first: 8080, last: 8080 }]);
  t.same(rulesOf(named, 'ingress', [])[0]!.ranges, []);
  t.end();
});

function policyWith(ports: PolicyRule['ports']): Policy {
  return {
    name: { kind: 'NetworkPolicy', name: 'default/p' },
    ...{ tier: 'network', priority: 0, egress: undefined, onDeny: undefined, isStaged: false },
    ingress: [{ action: 'accept', peers: undefined, ports }],
  };
}

function sameSets(a: ReadonlySet<unknown>, b: ReadonlySet<unknown>): boolean {
  return a.size === b.size && [...a].every((one) => b.has(one));
}

function randomRules(random: Random, count: number, spread: number): readonly Rule[] {
  const ingress = Array.from({ length: count }, () => ({
    action: 'accept' as const,
    peers: random.int(20) === 0 ? undefined : Array.from({ length: random.int(3) }, () => randomPeer(random, spread)),
    ports: undefined,
  }));
  const policy: Policy = {
    name: { kind: 'NetworkPolicy', name: 'default/p' },
    ...{ tier: 'network', priority: 0, ingress, egress: undefined, onDeny: undefined, isStaged: false },
  };
  return rulesOf(policy, 'ingress', []);
}

function randomPeer(random: Random, spread: number): PolicyPeer {
  if (random.int(3) === 0) {
    const pods = random.int(3) === 0 ? [] : [{ key: 'app', operator: 'in' as const, values: [`${random.int(5)}`] }];
    return { kind: 'workloads', namespaces: 'default', pods };
  }
  const block = randomPrefix(random, spread);
  const except = Array.from({ length: random.int(3) }, () =>
    random.int(4) === 0 ? randomPrefix(random, spread) : randomWithin(random, block),
  );
  return { kind: 'block', block, except };
}

function randomIdentity(random: Random): Identity {
  const namespaceLabels = { 'kubernetes.io/metadata.name': 'default' };
  return { namespace: 'default', labels: { app: `${random.int(6)}` }, namespaceLabels, ports: [] };
}

function randomPrefix(random: Random, spread: number): Prefix {
  const ip = randomAddress(random, spread);
  return { ip, length: random.int(isIp4(ip) ? 33 : 129) };
}

function randomWithin(random: Random, { ip, length }: Prefix): Prefix {
  const most = isIp4(ip) ? 32 : 128;
  return { ip, length: length + random.int(most - length + 1) };
}

/** Few of them are apart in each byte, so that most prefixes contain others. */
function randomAddress(random: Random, spread: number): Uint8Array {
  const ip = parseIp(random.int(2) === 0 ? '10.0.0.0' : 'fd00::');
  const first = isIp4(ip) ? 12 : 0;
  for (let at = first; at < 16; at++) if (random.int(2) === 0) ip[at] = random.int(8) === 0 ? 255 : random.int(spread);
  return ip;
}

function hasAddress({ peers = [] }: Rule, address: Uint8Array): boolean {
  return peers.some(
    (peer) =>
      peer.kind === 'block' &&
      isIn(peer.block, address) &&
      !peer.except.some((except) => isIp4(except.ip) === isIp4(peer.block.ip) && isIn(except, address)),
  );
}

function isIn({ ip, length }: Prefix, address: Uint8Array): boolean {
  if (isIp4(ip) !== isIp4(address)) return false;
  const from = isIp4(ip) ? 96 : 0;
  return Array.from({ length }, (_, bit) => bit + from).every((bit) => bitOf(ip, bit) === bitOf(address, bit));
}

function bitOf(bytes: Uint8Array, bit: number): number {
  return (bytes[bit >> 3]! >> (7 - (bit & 7))) & 1;
}

function selectsWorkload({ peers = [] }: Rule, { labels }: Identity): boolean {
  return peers.some(
    (peer) =>
      peer.kind === 'workloads' &&
      peer.pods.every((term) => term.operator === 'in' && term.values.includes(labels.app ?? '')),
  );
}
