/**
 * Large changes go in turns of the event loop, so that upcalls and other requests are answered in between. What is
 * done from one turn to the next is counted.
 */
import t from 'tap';
import { manifest, openControlPlane } from './control-plane.ts';

const MANY = 300;
/** The most of one thing that may be done in one turn. */
const MOST = 16;

/** Counts calls by turn. */
class Turns {
  readonly #most = new Map<string, number>();
  #counts = new Map<string, number>();
  #isOver = false;

  constructor() {
    const turn = (): void => {
      this.#counts = new Map();
      if (!this.#isOver) setImmediate(turn);
    };
    turn();
  }

  /** Counts the calls of a method of `object` from now on. */
  watch<K extends string>(object: Record<K, (...parameters: never[]) => unknown>, method: K): void {
    const original = object[method].bind(object) as (...parameters: unknown[]) => unknown;
    Object.assign(object, {
      [method]: (...parameters: unknown[]): unknown => {
        const count = (this.#counts.get(method) ?? 0) + 1;
        this.#counts.set(method, count);
        this.#most.set(method, Math.max(count, this.#most.get(method) ?? 0));
        return original(...parameters);
      },
    });
  }

  /** The most calls in one turn. */
  most(method: string): number {
    return this.#most.get(method) ?? 0;
  }

  end(): void {
    this.#isOver = true;
  }
}

t.test('a large file is planned, put into force and removed in turns', async (t) => {
  const { cluster, endpoints, forwarding, networks, store } = await openControlPlane(t);
  const turns = new Turns();
  t.teardown(() => turns.end());
  turns.watch(networks, 'plan');
  turns.watch(forwarding, 'setNetwork');
  turns.watch(forwarding, 'removeNetwork');
  turns.watch(forwarding, 'removeRemote');

  await cluster.apply([
    manifest('Host', 'there', { underlay: '192.0.2.2' }),
    ...Array.from({ length: MANY }, (_, n) =>
      manifest('Network', `n${n}`, { subnets: [`10.${n >> 8}.${n & 255}.0/24`] }),
    ),
  ]);
  t.equal(networks.size, MANY);
  for (const method of ['plan', 'setNetwork']) {
    t.ok(turns.most(method) > 0 && turns.most(method) <= MOST, `${method}: ${turns.most(method)} in a turn at most`);
  }

  const remotes = Array.from({ length: 200 }, (_, n) => {
    const mac = `02:00:00:00:00:${n.toString(16).padStart(2, '0')}`;
    return manifest('Endpoint', `e${n}`, { network: 'n0', host: 'there', addresses: [`10.0.0.${n + 10}`], mac });
  });
  await cluster.apply(remotes);
  t.equal(endpoints.size, remotes.length);
  const { entries } = await store.list('');
  const keys = entries.map(({ key }) => key).filter((key) => /^(?:networks|endpoints)\//.test(key));
  await store.transact({ delete: keys });
  await cluster.serial.run(() => cluster.enforce());
  t.same([endpoints.size, networks.size], [0, 0]);
  for (const method of ['removeRemote', 'removeNetwork']) {
    t.ok(turns.most(method) > 0 && turns.most(method) <= MOST, `${method}: ${turns.most(method)} in a turn at most`);
  }
});
