/**
 * Random policies against the oracle, which is written from the specifications alone: each packet has the verdict that they
 * give it, on the side of its sender and on that of its receiver, whatever was in force before; ports that do not matter make
 * no difference; and staged policies are told exactly if they would change the verdict.
 */
import t from 'tap';
import { parseIp, type Vni } from '../../src/flow/types.ts';
import { Changes } from '../../src/table/changes.ts';
import { Policies, policyObject } from '../../src/table/policies.ts';
import { judge, podAt, type Direction } from '../support/policy/oracle.ts';
import { randomPacket, randomPlaces, randomPolicies } from '../support/policy/generate.ts';
import { endpointName, putWorld } from '../support/policy/tables.ts';
import type { Manifest, Packet, World } from '../support/policy/world.ts';
import { Random } from '../support/random.ts';

/** No link-local addresses here, so the network makes no difference. */
const ANY = 1 as Vni;
const SETS = Number(process.env.COUNT ?? 1000);
const PACKETS = 20;
/** How often the labels and addresses of the workloads stay. */
const SETS_OF_PLACES = 10;
const seed = Number(process.env.SEED ?? Date.now() % 2 ** 32);

t.test(`${SETS} sets of policies with ${PACKETS} packets each, as the oracle has it (seed ${seed})`, (t) => {
  const random = new Random(seed);
  const seen = new Map<string, number>();
  let wrong = 0;
  let places = randomPlaces(random);
  let policies = new Policies(new Changes());
  for (let set = 0; set < SETS && wrong < 5; set++) {
    if (set % SETS_OF_PLACES === 0) {
      places = randomPlaces(random);
      policies = new Policies(new Changes());
    }
    const world = { ...places, policies: randomPolicies(random) };
    putWorld(policies, world);
    for (let n = 0; n < PACKETS; n++) {
      const packet = randomPacket(random, world);
      for (const direction of ['egress', 'ingress'] as const) {
        const pod = podAt(world, direction === 'egress' ? packet.from : packet.to);
        if (!pod) continue;
        const expected = judge(world, pod, direction, packet);
        const found = judgedBy(policies, endpointName(pod), direction, packet, random);
        const what = `${direction} ${JSON.stringify(packet)}`;
        seen.set(`${found.because} ${found.verdict}`, (seen.get(`${found.because} ${found.verdict}`) ?? 0) + 1);
        const staged = judge({ ...world, policies: world.policies.map(unstaged) }, pod, direction, packet);
        const isRight = found.verdict === expected && (found.staged ?? expected) === staged;
        if (isRight) continue;
        wrong++;
        t.comment(JSON.stringify(world));
        t.same({ what, ...found }, { what, verdict: expected, staged });
      }
    }
  }
  t.equal(wrong, 0, 'no verdict is wrong');
  t.comment(JSON.stringify(Object.fromEntries(seen)));
  for (const kind of ['rule allow', 'rule deny', 'isolated deny', 'no_rule allow']) {
    t.ok((seen.get(kind) ?? 0) > SETS / 100, `${kind} happens`);
  }
  t.end();
});

t.test(`what is replaced, bit by bit, is as what is put anew, and only what changes is noted (seed ${seed})`, (t) => {
  const random = new Random(seed, 1);
  let unchanged = 0;
  for (let turn = 0; turn < 20; turn++) {
    const places = randomPlaces(random);
    let manifests = randomPolicies(random);
    const changes = new Changes();
    const kept = new Policies(changes);
    putWorld(kept, { ...places, policies: manifests });
    for (let step = 0; step < 10; step++) {
      const before = judgements(kept, { ...places, policies: manifests });
      manifests = [...manifests.slice(1), ...randomPolicies(random).slice(0, 1)];
      const world = { ...places, policies: manifests };
      changes.drain();
      putWorld(kept, world);
      const changed = new Set(changes.drain().changed);
      const fresh = new Policies(new Changes());
      putWorld(fresh, world);
      const [after, anew] = [judgements(kept, world), judgements(fresh, world)];
      t.same(after, anew);
      const differing = after.filter(({ said }, at) => JSON.stringify(said) !== JSON.stringify(before[at]!.said));
      const untold = differing.map(({ object }) => object).filter((object) => !changed.has(object));
      t.same(untold, [], 'what has changed is noted');
      unchanged += after.length - changed.size;
    }
  }
  t.ok(unchanged > 1000, `${unchanged} sets stayed as they were, and were not noted`);
  t.end();
});

function unstaged(manifest: Manifest): Manifest {
  const metadata = { ...manifest.metadata, annotations: {} };
  return { ...manifest, metadata } as Manifest;
}

interface Found {
  readonly verdict: 'allow' | 'deny';
  readonly because: string;
  readonly staged?: 'allow' | 'deny' | undefined;
}

function judgedBy(policies: Policies, endpoint: string, direction: Direction, packet: Packet, random: Random): Found {
  const set = policies.setOf(endpoint, direction);
  if (!set) return { verdict: 'allow', because: 'no_rule' };
  const address = parseIp(direction === 'egress' ? packet.to : packet.from);
  const peer = set.asksIdentity ? policies.peerAt(address, ANY) : { address, identity: undefined, endpoint: undefined };
  const judgement = set.judge(peer, packet.protocol, packet.port);
  const { singles, hasRanges } = set.portsFor(peer, packet.protocol);
  if (!hasRanges && !singles.includes(packet.port)) {
    const other = random.int(65_536);
    if (!singles.includes(other) && set.judge(peer, packet.protocol, other) !== judgement)
      return { verdict: 'deny', because: `port ${other} makes a difference`, staged: 'deny' };
  }
  return { verdict: judgement.verdict, because: judgement.because.kind, staged: judgement.staged?.verdict };
}

/** All that is said of packets from and to some addresses. */
function judgements(policies: Policies, world: World): readonly { readonly object: string; readonly said: unknown }[] {
  return world.pods.flatMap((pod) =>
    (['ingress', 'egress'] as const).map((direction) => {
      const set = policies.setOf(endpointName(pod), direction);
      const said = world.pods.flatMap(({ addresses }) =>
        addresses.map((address) => [set?.judge(policies.peerAt(parseIp(address), ANY), 6, 80)]),
      );
      return { object: policyObject(endpointName(pod), direction), said };
    }),
  );
}
