/**
 * Policies change at random, as the cluster hands them over, with labels and namespaces: after each change what is in force is what it
 * would be if all of it were put anew, whatever was in force before; and whatever was found out before, of which something else is said
 * now, is found out again: judgements, flows that are cached, and connections that are open.
 */
import t from 'tap';
import { bytesId } from '../../src/flow/key.ts';
import { parseIp, type Vni } from '../../src/flow/types.ts';
import { createSimulation, type SimulatedHost, type SimulatedPort } from '../../src/simulation.ts';
import { Changes } from '../../src/table/changes.ts';
import { identityObject, namespaceObject, Policies, policyObject } from '../../src/table/policies.ts';
import { policyDirections } from '../../src/table/policy/policy.ts';
import { ChangingWorld } from '../support/policy/changing-world.ts';
import { EnforcedPolicies } from '../support/policy/enforced.ts';
import { oracle, podAt } from '../support/policy/oracle.ts';
import { macOf } from '../support/policy/simulated-places.ts';
import { simulatedDatapaths } from '../support/policy/simulated.ts';
import { endpointName } from '../support/policy/tables.ts';
import { Talk } from '../support/policy/talk.ts';
import { ICMP, protocolNumbers, type World } from '../support/policy/world.ts';
import { Random } from '../support/random.ts';

const VNI = 100 as Vni;
/** How many worlds, each with a seed of its own. */
const WORLDS = Number(process.env.COUNT ?? 5);
const CHANGES = 30;
const seed = Number(process.env.SEED ?? Date.now() % 2 ** 32);
const STRANGERS = ['192.0.2.7', 'fd00:0:0:2::c8'];
const PORTS = [80, 443];
const TALKS = 8;
const seeds = Array.from({ length: WORLDS }, (_, n) => seed + n);

/** Counts how often a policy is replaced at once for all that have it, and how often it is not alike enough for that. */
class CountingPolicies extends Policies {
  readonly #tally: { replaced: number; unalike: number };

  constructor(changes: Changes, tally: { replaced: number; unalike: number }) {
    super(changes);
    this.#tally = tally;
  }

  override replacePolicy(...policies: Parameters<Policies['replacePolicy']>): boolean {
    const isDone = super.replacePolicy(...policies);
    this.#tally[isDone ? 'replaced' : 'unalike']++;
    return isDone;
  }
}

t.test(`what is in force is as if it were put anew, and what has changed is noted (seeds ${seed} and on)`, (t) => {
  const tally = { judged: 0, changed: 0, opened: 0, closed: 0, replaced: 0, unalike: 0 };
  for (const one of seeds) {
    const random = new Random(one);
    const world = new ChangingWorld(random);
    const changes = new Changes();
    const kept = new CountingPolicies(changes, tally);
    const enforced = new EnforcedPolicies(
      world,
      kept,
      () => {},
      () => true,
    );
    let before = judgements(kept, world.world);
    for (let step = 0; step < CHANGES; step++) {
      changes.drain();
      kept.takeConcerned();
      enforced.apply(world.change());
      const changed = new Set(changes.drain().changed);
      const concerned = kept.takeConcerned();
      const what = `seed ${one}, change ${step}`;
      // Sometimes nobody asks in between, so that nothing is compiled.
      if (random.chance(0.3)) {
        before = [];
        continue;
      }
      const after = judgements(kept, world.world);
      const fresh = new Policies(new Changes());
      new EnforcedPolicies(
        world,
        fresh,
        () => {},
        () => true,
      );
      const anew = judgements(fresh, world.world);
      const differing = after.filter(({ said }, at) => said !== anew[at]!.said);
      if (differing.length > 0) t.same(after, anew, `${what}: as if put anew`);
      for (const [at, { said, verdict, subject, direction, address }] of after.entries()) {
        tally.judged++;
        if (!before[at] || before[at].said === said) continue;
        tally.changed++;
        if (before[at].verdict !== verdict) tally[verdict === 'allow' ? 'opened' : 'closed']++;
        const { namespace } = podAt(world.world, address) ?? { namespace: '' };
        const ip = parseIp(address);
        const isNoted = [policyObject(subject, direction), identityObject(ip), namespaceObject(namespace)].some(
          (object) => changed.has(object),
        );
        const isConcerned =
          concerned.subjects.has(subject) ||
          concerned.addresses.has(bytesId(ip)) ||
          concerned.namespaces.has(namespace);
        if (!isNoted) t.fail(`${what}: ${direction} of ${subject} with ${address} is not decided again`);
        if (!isConcerned) t.fail(`${what}: ${direction} of ${subject} with ${address} is not judged again`);
      }
      before = after;
    }
  }
  t.ok(tally.opened > 10 * WORLDS && tally.closed > 10 * WORLDS, JSON.stringify(tally));
  t.ok(
    tally.replaced > 2 * WORLDS && tally.unalike > WORLDS / 2,
    'policies are replaced for all at once, and for each',
  );
  t.end();
});

for (const [kind, open] of Object.entries(simulatedDatapaths)) {
  t.test(`${kind}: flows and connections follow (seeds ${seed} and on)`, (t) => {
    const tally = { new: 0, allowed: 0, held: 0, ended: 0, flows: 0, connections: 0 };
    for (const one of seeds) {
      const random = new Random(one, 1);
      const world = new ChangingWorld(random);
      const net = createSimulation({ open, sharesStore: true });
      const hosts = [net.host('left', '192.0.2.1'), net.host('right', '192.0.2.2')];
      const ports = new Map<string, SimulatedPort>();
      for (const host of hosts) host.createNetwork('blue', VNI, { subnets: ['10.0.0.0/16', 'fd00::/48'] });
      const hostOf = (at: number): SimulatedHost => hosts[at % 2]!;
      for (const [at, pod] of world.world.pods.entries()) {
        const { addresses } = pod;
        const options = { name: endpointName(pod), network: 'blue', mac: macOf(pod), addresses };
        ports.set(options.name, hostOf(at).attach(options));
      }
      const enforced = hosts.map((host) => {
        const { tables, controller } = host.forwarding;
        const isHere = ({ name, namespace }: { name: string; namespace: string }): boolean =>
          hostOf(world.world.pods.findIndex((pod) => pod.name === name && pod.namespace === namespace)) === host;
        return new EnforcedPolicies(world, tables.policies, () => controller.enforce(), isHere);
      });
      const talks = Array.from({ length: TALKS }, (_, n) => new Talk(random, world.world, 10_000 + n, ports));
      for (let step = 0; step < CHANGES; step++) {
        const what = `${kind}, seed ${one}, change ${step}`;
        for (const talk of talks) {
          const expected = oracle(world.world, talk.packet);
          const wasOpen = talk.isOpen;
          tally[wasOpen ? 'held' : 'new']++;
          if (wasOpen && expected === 'deny') tally.ended++;
          if (expected === 'allow') tally.allowed++;
          const seen = talk.ask();
          if (seen !== expected)
            t.fail(`${what}: ${wasOpen ? 'one from before' : 'a new one'}: ${seen}, not ${expected}`, {
              packet: talk.packet,
              world: JSON.stringify(world.world),
            });
        }
        const change = world.change();
        for (const host of enforced) host.apply(change);
        // The audit looks at flows and connections, and throws if one is not as it would be decided now.
        net.advance(1);
        for (const { received } of ports.values()) received.splice(0);
      }
      for (const { forwarding } of hosts) {
        tally.flows += forwarding.controller.audit.statistics.flows;
        tally.connections += forwarding.controller.audit.statistics.connections;
      }
      net.close();
    }
    t.ok(tally.ended > WORLDS && tally.flows > WORLDS && tally.connections > WORLDS, JSON.stringify(tally));
    t.end();
  });
}

/** All that is said of packets between workloads, and with some others. */
function judgements(policies: Policies, { pods }: World) {
  const addresses = [...pods.flatMap((pod) => pod.addresses), ...STRANGERS];
  return pods.flatMap((pod) =>
    policyDirections.flatMap((direction) => {
      const subject = endpointName(pod);
      const set = policies.setOf(subject, direction);
      return addresses.map((address) => {
        const peer = policies.peerAt(parseIp(address), VNI);
        const said = [
          ...PORTS.map((port) => set?.judge(peer, protocolNumbers.TCP, port)),
          ...[set?.judge(peer, protocolNumbers.UDP, PORTS[0]!), set?.judge(peer, ICMP, 0)],
        ];
        const verdict = said[0]?.verdict ?? 'allow';
        return { subject, direction, address, verdict, said: JSON.stringify(said) };
      });
    }),
  );
}
