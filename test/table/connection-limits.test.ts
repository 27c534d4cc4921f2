/** The largest number of connections of a backend: who is full, what happens then, and what does not count. */
import t from 'tap';
import { parseIp } from '../../src/flow/types.ts';
import { IP_UDP } from '../../src/wire/ipv4.ts';
import { withoutFull } from '../../src/table/balancer.ts';
import type { BalancingMethod } from '../../src/table/service.ts';
import type { Services } from '../../src/table/services.ts';
import { Random } from '../support/random.ts';
import { BLUE, backends, chosenFor, connect, service, servicePort, serviceTable, tuple } from '../support/services.ts';

const seed = Date.now() % 2 ** 32;
const methods: readonly BalancingMethod[] = ['maglev', 'round-robin', 'least-connections', 'random', 'source-hash'];

/** Connections as the records would have them: by slot, to which backend each is, and whether it is over. */
function records(services: Services) {
  const open = new Map<number, { readonly pin: number; isOver: boolean }>();
  let scans = 0;
  let looks = 0;
  services.watch({
    pinned: (pins) => {
      scans++;
      return [...open].flatMap(([slot, { pin }]) => (pins.has(pin) ? [{ slot, pin }] : []));
    },
    isOverWithChoice: (slot) => {
      looks++;
      return open.get(slot)!.isOver;
    },
  });
  return {
    open,
    scans: () => scans,
    looks: () => looks,
    /** @returns the last number of its backend’s address, or why there is none */
    connect: (slot: number, of = tuple(slot)): string => {
      const choice = chosenFor(services, of);
      if (choice.kind === 'none') return choice.why;
      services.opened(slot, choice, BLUE, of, 0);
      open.set(slot, { pin: choice.pin, isOver: false });
      return String(choice.backend.address.at(-1));
    },
    close: (slot: number): void => {
      services.closed(slot, open.get(slot)!.pin);
      open.delete(slot);
    },
  };
}

for (const balancing of methods) {
  t.test(`${balancing}: who is full is no candidate, and when all are, none is chosen`, async (t) => {
    const { services } = serviceTable();
    services.set(service({ backends: backends(3), balancing, maxConnections: 4 }), 0);
    const { connect, close } = records(services);
    const got = Array.from({ length: 13 }, (_, n) => connect(n));
    t.same(
      ['1', '2', '3', 'full'].map((who) => got.filter((one) => one === who).length),
      [4, 4, 4, 1],
    );
    t.match(chosenFor(services, tuple(99)), { kind: 'none', why: 'full' });
    const freed = got.indexOf('2');
    close(freed);
    t.equal(connect(50), '2', 'whoever has room again');
    t.equal(connect(51), 'full');
  });
}

t.test('the choice says who was full', async (t) => {
  const { services } = serviceTable();
  services.set(service({ backends: backends(3), balancing: 'round-robin', maxConnections: 1 }), 0);
  const { connect } = records(services);
  t.same([connect(0), connect(1)], ['1', '2']);
  services.set(service({ backends: backends(3), balancing: 'source-hash', maxConnections: 1 }), 0);
  const { selection } = chosenFor(services, tuple(2));
  const full = selection.excluded.map(({ backend, why, detail }) => [backend.address.at(-1), why, detail]);
  const isOpen = selection.candidates.length === 3;
  t.ok(isOpen || full.length === 2, 'either its hash leads to the third one, or the others are named');
  if (!isOpen)
    t.same(full, [
      [1, 'full', '1 at most'],
      [2, 'full', '1 at most'],
    ]);
  t.equal(connect(3), '3');
});

t.test('what is over does not count, whatever was known when it was opened', async (t) => {
  const { services } = serviceTable();
  const value = service({ backends: backends(1) });
  services.set(value, 0);
  const { open, connect, close, scans } = records(services);
  for (let slot = 0; slot < 10; slot++) connect(slot);
  services.set({ ...value, maxConnections: 5 }, 0);
  t.equal(connect(10), 'full', 'those from before the limit count');
  for (let slot = 0; slot < 6; slot++) open.get(slot)!.isOver = true;
  t.equal(connect(11), '1');
  t.equal(connect(12), 'full');
  for (let slot = 0; slot < 10; slot++) close(slot);
  t.same(
    [13, 14, 15, 16, 17].map((slot) => connect(slot)),
    ['1', '1', '1', '1', 'full'],
  );
  t.equal(scans(), 1, 'all records are looked at once');
});

t.test('all records are gone through once when many backends are full, not once for each', async (t) => {
  const { services } = serviceTable();
  services.set(service({ backends: backends(300), balancing: 'round-robin', maxConnections: 2 }), 0);
  const { connect, scans } = records(services);
  for (let slot = 0; slot < 600; slot++) connect(slot);
  t.equal(connect(600), 'full');
  t.ok(scans() <= 2, `${scans()} times`);
});

t.test('whoever asks for a full backend costs little, however many connections it has', async (t) => {
  const { services } = serviceTable();
  const most = 5000;
  services.set(service({ backends: backends(2), maxConnections: most }), 0);
  const { open, connect, looks } = records(services);
  for (let slot = 0; slot < 2 * most; slot++) connect(slot);
  const before = looks();
  const refused = 20;
  for (let n = 0; n < refused; n++) t.equal(connect(2 * most), 'full');
  t.ok(looks() - before <= refused * 2 * 1024, `${looks() - before} records`);
  open.get(most)!.isOver = true;
  let tries = 1;
  while (connect(2 * most) === 'full' && tries < 20) tries++;
  t.ok(tries <= 1 + most / 512, `one that is over is found by connection ${tries}`);
});

t.test('the limit is for each port, and for TCP alone; affinity does not overrule it', async (t) => {
  const { services } = serviceTable();
  const ports = [servicePort(1), servicePort(1, { l4Port: 81 }), servicePort(1, { protocol: IP_UDP })];
  services.set(service({ backends: backends(1), ports, maxConnections: 1 }), 0);
  t.equal(connect(services, 0), '10.0.1.1');
  t.equal(connect(services, 1), 'full');
  t.equal(connect(services, 2, { of: tuple(2, { destinationPort: 81 }) }), '10.0.1.1');
  for (const slot of [3, 4]) t.equal(connect(services, slot, { of: tuple(slot, { protocol: IP_UDP }) }), '10.0.1.1');

  const client = { source: parseIp('10.0.0.7') };
  services.set(service({ id: 'default/two', backends: backends(2), maxConnections: 1, affinityMs: 1e6 }), 0);
  services.remove('default/web');
  const first = connect(services, 10, { of: tuple(10, client) });
  const second = connect(services, 11, { of: tuple(11, client) });
  t.same([first, second].sort(), ['10.0.1.1', '10.0.1.2']);
});

t.test(`never more than the limit, and never refused while one has room (seed ${seed})`, async (t) => {
  const random = new Random(seed);
  let refused = 0;
  for (let round = 0; round < 60; round++) {
    const { services } = serviceTable();
    const most = 1 + random.int(4);
    const count = 1 + random.int(4);
    services.set(service({ backends: backends(count), balancing: random.pick(methods), maxConnections: most }), 0);
    const { open, connect, close } = records(services);
    const inUse = (): number[] => {
      const counts = new Map<number, number>();
      for (const { pin, isOver } of open.values()) if (!isOver) counts.set(pin, (counts.get(pin) ?? 0) + 1);
      return [...counts.values()];
    };
    for (let slot = 0; slot < 80; slot++) {
      const slots = [...open.keys()];
      if (slots.length > 0 && random.chance(0.3)) open.get(random.pick(slots))!.isOver = true;
      if (slots.length > 0 && random.chance(0.2)) close(random.pick(slots));
      const before = inUse();
      const isFull = before.filter((used) => used >= most).length === count;
      const got = connect(slot);
      if (got === 'full') refused++;
      if ((got === 'full') !== isFull) t.fail(`round ${round}: ${got} with ${before.join()} of ${most}`);
      if (inUse().some((used) => used > most)) t.fail(`round ${round}: ${inUse().join()} of ${most}`);
    }
  }
  t.ok(refused > 100, String(refused));
});

t.test('who is full is found out in one look at each, however many backends there are', async (t) => {
  const { services } = serviceTable();
  services.set(service({ backends: backends(1000) }), 0);
  const { selection } = chosenFor(services, tuple(0));
  let reads = 0;
  const open = new Proxy(selection.candidates.slice(500), {
    get: (all, key) => {
      if (typeof key === 'string' && /^\d+$/.test(key)) reads++;
      return Reflect.get(all, key) as unknown;
    },
  });
  t.equal(withoutFull(selection, open, 1).excluded.length, 500);
  t.equal(reads, 500);
});
