/** Which backends a client may be given: Kubernetes' rules, one by one, and against a naive twin. */
import t from 'tap';
import { prefixOf, routing } from '../../src/cluster/routing.ts';
import { OUTSIDE } from '../../src/flow/connection.ts';
import { formatIp, isIp4, parseIp, type Vni } from '../../src/flow/types.ts';
import { candidatesOf, type Asked, type Candidates, type Surroundings } from '../../src/table/candidates.ts';
import type { Fault } from '../../src/table/health.ts';
import type { Backend, Service, ServicePort } from '../../src/table/service.ts';
import type { ClientOrigin } from '../../src/table/service-keys.ts';
import { Random } from '../support/random.ts';
import {
  backend,
  backends,
  BLUE,
  chosenFor,
  service,
  servicePort,
  serviceTable,
  tuple,
  VIP6,
} from '../support/services.ts';

const seed = Date.now() % 2 ** 32;
const RED = 200 as Vni;

/** The last numbers of the candidates' addresses, on host a in zone 1; or why there are none. */
function candidates(value: Service, surroundings: Partial<Surroundings> = {}, asked: Partial<Asked> = {}) {
  const here = { host: 'a', zone: '1', reaches: () => true, faultOf: () => undefined, ...surroundings };
  const found = candidatesOf(value, value.ports[0]!, { isV4: true, policy: 'cluster', ...asked }, here);
  return found.refusal ?? found.chosen.map((at) => at + 1).join(' ');
}

const off = { ready: false, serving: false } as const;
const leaving = { ready: false, serving: true, terminating: true } as const;

t.test('the first set that is not empty: ready and not terminating, serving and terminating', async (t) => {
  const of = (...states: Partial<Backend>[]): string =>
    candidates(service({ backends: backends(states.length, (at) => states[at]!) }));
  t.equal(of({}, leaving, off, {}), '1 4');
  t.equal(of({ ...leaving, ready: true }, {}), '2', 'it terminates, whatever it says');
  t.equal(of(off, leaving, leaving), '2 3');
  t.equal(of({ ready: false, serving: true }), 'no_backend', 'serving alone is not enough');
  t.equal(of({ ...leaving, serving: false }, off), 'no_backend', 'terminating and not serving: never');
  t.equal(of(), 'no_backend');
});

t.test(
  'policy local: only backends of this host, within which that order holds; if there are none, that is told apart',
  async (t) => {
    const of = (...states: Partial<Backend>[]): string =>
      candidates(service({ backends: backends(states.length, (at) => states[at]!) }), {}, { policy: 'local' });
    t.equal(of({ host: 'a' }, { host: 'b' }, { host: undefined }), '1');
    t.equal(of({ host: 'a', ...leaving }, { host: 'b' }), '1', 'no fallback to ready ones of other hosts');
    t.equal(of({ host: 'a', ...off }, { host: 'b' }), 'local');
    t.equal(of({ host: 'a', ...off }, { host: 'b', ...off }), 'no_backend');
  },
);

t.test(
  'near backends are a preference: this host, then its zone, then all; not if it is unknown where some are',
  async (t) => {
    const value = (
      distribution: Service['distribution'],
      ...places: [host: string | undefined, zone: string | undefined][]
    ) =>
      service({
        distribution,
        backends: backends(places.length, (at) => ({ host: places[at]![0], zone: places[at]![1] })),
      });
    const all = [
      ['a', '1'],
      ['b', '1'],
      ['c', '2'],
    ] as const satisfies [string, string][];
    t.equal(candidates(value('none', ...all)), '1 2 3');
    t.equal(candidates(value('same-node', ...all)), '1');
    t.equal(candidates(value('same-zone', ...all)), '1 2');
    t.equal(candidates(value('same-node', ...all.slice(1))), '1', 'nobody here: in the zone');
    t.equal(candidates(value('same-zone', ['c', '2'], ['d', '2'])), '1 2', 'nobody in the zone: all');
    t.equal(candidates(value('same-zone', ...all, ['d', undefined])), '1 2 3 4');
    t.equal(
      candidates(value('same-node', ...all, [undefined, '1'])),
      '1 2 4',
      'but it is known in which zone they are',
    );
    t.equal(candidates(value('same-node', ...all), { host: undefined, zone: undefined }), '1 2 3');
  },
);

t.test('ejected ones are used by clients that reach no others, but never one whose checks fail', async (t) => {
  const value = service({ backends: backends(3, (at) => ({ host: at === 2 ? 'b' : 'a' })) });
  const faults = new Map<number, Fault['kind']>([
    [0, 'ejected'],
    [1, 'check_failed'],
  ]);
  const faultOf = (one: Backend): Fault | undefined => {
    const kind = faults.get(value.backends.indexOf(one));
    return kind && { kind, detail: 'no' };
  };
  const isNear = (one: Backend): boolean => one.host === 'a';
  t.equal(candidates(value, { faultOf }), '3');
  t.equal(candidates(value, { faultOf, reaches: isNear }), '1', 'its network does not reach the third one');
  t.equal(candidates(value, { faultOf }, { policy: 'local' }), '1');
  const asked = { isV4: true, policy: 'cluster' } as const;
  const surroundings: Surroundings = { host: 'a', zone: undefined, reaches: isNear, faultOf };
  t.same(
    candidatesOf(value, value.ports[0]!, asked, surroundings).excluded.map(({ why }) => why),
    ['check_failed', 'unreachable'],
  );
  faults.set(0, 'check_failed');
  t.equal(candidates(value, { faultOf, reaches: isNear }), 'no_backend');
});

t.test('families never cross', async (t) => {
  const { services } = serviceTable();
  const both = [backend('10.0.1.1'), backend('fd00::1')];
  const vips = service().vips.concat(VIP6);
  services.set(service({ vips, backends: both }), 0);
  t.match(chosenFor(services, tuple(0)), { backend: both[0] });
  const from6 = tuple(0, { source: parseIp('fd00::2'), destination: VIP6 });
  t.match(chosenFor(services, from6), { backend: both[1] });
  services.set(service({ vips, backends: both.slice(0, 1) }), 0);
  t.match(chosenFor(services, from6), { kind: 'none', why: 'no_backend' });
});

t.test('only what the client’s network reaches anyway; a change of routes counts at once', async (t) => {
  const { services, topology } = serviceTable();
  const blue = (routes: Parameters<typeof routing>[2], outside = false): void =>
    topology.setNetwork({ name: 'blue', vni: BLUE, outside, ...routing('blue', ['10.0.0.0/16'], routes) });
  const red = (outside = false): void =>
    topology.setNetwork({ name: 'red', vni: RED, outside, ...routing('red', ['10.2.0.0/16'], []) });
  red();
  const of = (from: ClientOrigin = BLUE): string => {
    const { selection } = chosenFor(services, tuple(0), from);
    return selection.candidates.map(({ backend }) => formatIp(backend.address)).join(' ');
  };
  const all = [
    backend('10.0.0.9'),
    backend('10.2.0.9', { vni: RED }),
    backend('192.0.2.9', { vni: undefined }),
    backend('10.0.0.8', { vni: RED }),
    backend('192.0.2.8', { vni: 300 as Vni }),
  ];
  services.set(service({ backends: all }), 0);
  t.equal(of(), '10.0.0.9', 'its own network, and no address of another one that is the same');
  blue([{ to: '10.2.0.0/16', network: 'red' }]);
  t.equal(of(), '10.0.0.9 10.2.0.9');
  t.equal(of(RED), '10.2.0.9');
  blue([{ to: '10.2.0.0/16', type: 'blackhole' }], true);
  t.equal(of(), '10.0.0.9 192.0.2.9', 'outside');
  blue([{ to: '10.2.0.0/16', network: 'red' }]);
  t.equal(of(), '10.0.0.9 10.2.0.9');
  topology.removeNetwork(RED);
  t.equal(of(), '10.0.0.9', 'a network that has gone');
  red();
  t.equal(of(), '10.0.0.9 10.2.0.9');
  t.equal(of(OUTSIDE), '', 'from outside, none of networks without one');
  red(true);
  t.equal(of(OUTSIDE), '10.2.0.9 10.0.0.8');
  t.equal(of(77 as Vni), '', 'a network that does not exist');
});

t.test('an address of the range of services is no backend: it would be looked for outside', async (t) => {
  const { services, topology, changes } = serviceTable();
  topology.setNetwork({ name: 'blue', vni: BLUE, outside: true, ...routing('blue', ['10.0.0.0/16'], []) });
  services.set(service({ backends: [backend('10.96.0.7', { vni: undefined })] }), 0);
  t.match(chosenFor(services, tuple(0)), { kind: 'backend' });
  changes.drain();
  services.setRanges([prefixOf('10.96.0.0/16')]);
  t.ok(changes.drain().changed.includes('service/default/web'));
  t.match(chosenFor(services, tuple(0)), { kind: 'none', why: 'no_backend' });
});

t.test('a decision consults the service and the routes that it depends on, each once', async (t) => {
  const { services, topology, changes } = serviceTable();
  services.set(service({ backends: [...backends(50), backend('192.0.2.1', { vni: undefined })] }), 0);
  const { consulted } = chosenFor(services, tuple(0)).selection;
  t.same(consulted, [
    'service/default/web',
    'network/100',
    'route/100/10.0.0.0/16',
    'network-name/blue',
    'route/100/0.0.0.0/0',
  ]);
  changes.drain();
  topology.setNetwork({ name: 'blue', vni: BLUE, ...routing('blue', ['10.0.0.0/16'], []), outside: true });
  t.ok(changes.drain().changed.includes('route/100/0.0.0.0/0'));
});

t.test('each service has the policy for clients of networks, and for those from outside', async (t) => {
  const { services, topology } = serviceTable();
  topology.setNetwork({ name: 'blue', vni: BLUE, outside: true, ...routing('blue', ['10.0.0.0/16'], []) });
  services.setHost('a', undefined);
  const two = backends(2, (at) => ({ host: at === 0 ? 'a' : 'b' }));
  const count = (from: ClientOrigin): number => chosenFor(services, tuple(0), from).selection.candidates.length;
  services.set(service({ backends: two, internalPolicy: 'local' }), 0);
  t.same([count(BLUE), count(OUTSIDE)], [1, 2]);
  services.set(service({ backends: two, externalPolicy: 'local' }), 0);
  t.same([count(BLUE), count(OUTSIDE)], [2, 1]);
  services.setHost('c', undefined);
  t.match(chosenFor(services, tuple(0), OUTSIDE), { kind: 'none', why: 'local' });
});

t.test(`the same as a naive twin (seed ${seed})`, async (t) => {
  const random = new Random(seed);
  const reached = { local: 0, no_backend: 0, some: 0 };
  for (let round = 0; round < 5000; round++) {
    const all = Array.from({ length: random.int(8) }, (_, at) =>
      backend(random.chance(0.8) ? `10.0.1.${at + 1}` : `fd00::${at + 1}`, {
        host: random.pick(['a', 'b', 'b', undefined]),
        zone: random.pick(['1', '2', undefined]),
        ready: random.chance(0.5),
        serving: random.chance(0.5),
        terminating: random.chance(0.4),
        weight: random.pick([0, 1, 1, 5]),
        subsets: random.pick([[], ['v1'], ['v1', 'v2']]),
      }),
    );
    const distribution = (): Service['distribution'] => random.pick(['none', 'same-node', 'same-zone']);
    const subsets = ['v1', 'v2'].map((name) => ({ ...service({ distribution: distribution() }), name }));
    const value = service({ backends: all, distribution: distribution(), subsets });
    const port = servicePort(all.length, { targets: all.map(() => random.pick([0, 80, 80, 80])) });
    const asked: Asked = {
      isV4: random.chance(0.8),
      policy: random.pick(['cluster', 'local']),
      subset: random.pick([undefined, 'v1', 'v2', 'v3']),
    };
    const reachable = new Set(all.filter(() => random.chance(0.8)));
    const faults = new Map(
      all.flatMap((one): [Backend, Fault][] =>
        random.chance(0.4) ? [[one, { kind: random.pick(['ejected', 'check_failed']), detail: 'by chance' }]] : [],
      ),
    );
    const here: Surroundings = {
      host: random.pick(['a', 'b', undefined]),
      zone: random.pick(['1', '2', undefined]),
      reaches: (one) => reachable.has(one),
      faultOf: (one) => faults.get(one),
    };
    const found = candidatesOf(value, port, asked, here);
    const naive = twin(value, port, asked, here);
    const [is, wanted] = [found, naive].map(({ chosen, refusal }) => `${chosen.join(' ')} ${refusal}`);
    if (is !== wanted) t.fail(`round ${round}: ${is} instead of ${wanted}`);
    const named = [...found.chosen.map((at) => all[at]!), ...found.excluded.map(({ backend }) => backend)];
    if (named.length !== all.length || new Set(named).size !== all.length) t.fail('each is either chosen or excluded');
    reached[found.refusal ?? 'some']++;
  }
  t.ok(Math.min(...Object.values(reached)) > 100, JSON.stringify(reached));
});

function twin(
  { backends: all, distribution, subsets }: Service,
  { targets }: ServicePort,
  { isV4, policy, subset }: Asked,
  { host, zone, reaches, faultOf }: Surroundings,
): Pick<Candidates, 'chosen' | 'refusal'> {
  const usable = all.filter(
    (one, at) =>
      isIp4(one.address) === isV4 &&
      targets[at] !== 0 &&
      one.weight > 0 &&
      reaches(one) &&
      faultOf(one)?.kind !== 'check_failed' &&
      (subset === undefined || one.subsets.includes(subset)),
  );
  const first = (among: Backend[]): Backend[] => {
    const ready = among.filter((one) => one.ready && !one.terminating);
    return ready.length > 0 ? ready : among.filter((one) => one.serving && one.terminating);
  };
  const admitted = policy === 'local' ? usable.filter((one) => host !== undefined && one.host === host) : usable;
  const sound = (among: Backend[]): Backend[] => among.filter((one) => !faultOf(one));
  const healthy = first(sound(admitted));
  const eligible = healthy.length > 0 ? healthy : first(admitted);
  if (eligible.length === 0) return { chosen: [], refusal: first(sound(usable)).length > 0 ? 'local' : 'no_backend' };
  let chosen = eligible;
  const nearness = subsets.find(({ name }) => name === subset)?.distribution ?? distribution;
  const inZone = eligible.every((one) => one.zone !== undefined) ? eligible.filter((one) => one.zone === zone) : [];
  if (nearness !== 'none' && inZone.length > 0) chosen = inZone;
  const onHost = eligible.every((one) => one.host !== undefined) ? eligible.filter((one) => one.host === host) : [];
  if (nearness === 'same-node' && onHost.length > 0) chosen = onHost;
  return { chosen: chosen.map((one) => all.indexOf(one)), refusal: undefined };
}
