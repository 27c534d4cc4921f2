/**
 * Two or three hosts attach and detach, choose addresses of each other, are cut off, crash, start again from what they have
 * kept, and are removed, in random order. A twin that knows every address in force sees to it that none is in force twice,
 * that none is used again too early, and that nothing is left over.
 */
import t from 'tap';
import { Random } from '../support/random.ts';
import { REST_MS, World, type Host } from './block-model.ts';

const SEEDS = Number(process.env.WEFT_SEEDS ?? 30);
const FIRST = Number(process.env.WEFT_SEED ?? 1);
const STEPS = 300;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function run(seed: number): Promise<Record<string, number>> {
  const random = new Random(seed);
  const rng = (): number => random.u32() / 0x100000000;
  const below = (n: number): number => random.int(n);
  const pick = <T>(all: readonly T[]): T | undefined => (all.length === 0 ? undefined : random.pick(all));
  const subnet = pick(['10.0.0.0/24', '10.0.0.0/27', '10.0.0.0/28', 'fd00::/122', '10.0.0.128/26'])!;
  const world = new World(['a', 'b', 'c'].slice(0, 2 + below(2)), subnet);
  const seen: Record<string, number> = {};
  const count = (what: string): void => void (seen[what] = (seen[what] ?? 0) + 1);
  const before = new Map<string, string>();
  let number = 0;

  const watchRest = (): void => {
    for (const { inForce } of world.hosts) {
      for (const [endpoint, address] of inForce) {
        if (before.get(endpoint) === address) continue;
        before.set(endpoint, address);
        const rested = world.rested.get(address);
        if (rested && rested.endpoint !== endpoint && world.now - rested.at < REST_MS) {
          throw new Error(`${address} of ${rested.endpoint} is ${endpoint}'s after ${world.now - rested.at} ms`);
        }
      }
    }
    for (const endpoint of before.keys()) {
      if (!world.hosts.some(({ inForce }) => inForce.has(endpoint))) before.delete(endpoint);
    }
  };
  const arrive = (): void => {
    const at = below(world.requests.length);
    const [request] = world.requests.splice(at, 1);
    if (!request) return;
    const isCutOff = request.host.isCutOff && request.what !== 'own';
    const chance = rng();
    const isLost = isCutOff && chance < 0.5;
    request.arrive(
      request.what === 'own' ? 'done' : isLost ? 'lost' : chance < 0.1 ? 'answer lost' : chance < 0.2 ? 'late' : 'done',
    );
  };
  const settle = async (host: Host): Promise<void> => {
    await host.daemon?.follow();
    await turn();
  };
  const chosenIp = (): string => {
    const used = pick(world.hosts.flatMap(({ inForce }) => [...inForce.values()]));
    if (used !== undefined && rng() < 0.3) return used;
    const [base = '', length] = subnet.split('/');
    const size = subnet.includes(':') ? 2 ** (128 - Number(length)) : 2 ** (32 - Number(length));
    const offset = 2 + below(size - 3);
    if (subnet.includes(':')) return `fd00::${offset.toString(16)}`;
    return [...base.split('.').slice(0, 3), Number(base.split('.')[3]) + offset].join('.');
  };

  for (const host of world.hosts) await host.start();
  const step = async (): Promise<void> => {
    // Between two things that happen, much or little of what is under way arrives.
    for (let n = below(12); n > 0; n--) {
      if (rng() < 0.5) arrive();
      else await settle(pick(world.hosts)!);
    }
    const host = pick(world.hosts)!;
    const chance = rng();
    const { daemon } = host;
    if (chance < 0.35 && daemon) {
      const isChosen = rng() < 0.35;
      // Sometimes a name that was there before.
      const name = `${host.name}-${rng() < 0.3 ? below(number + 1) : ++number}`;
      if (!host.declared.has(name) && !daemon.attaching.has(name)) {
        void daemon.attach(name, isChosen ? chosenIp() : undefined).then((why) => {
          count(
            why === undefined
              ? isChosen
                ? 'chosen'
                : 'attached'
              : (/does not \w+|full|taken|ago|away|gone|crashed/.exec(why)?.[0] ?? why),
          );
        });
      }
    } else if (chance < 0.5 && daemon) {
      const name = pick([...host.declared.keys()]);
      if (name !== undefined) daemon.detach(name);
    } else if (chance < 0.54) {
      if (daemon) {
        host.crash();
        count('crash');
      }
    } else if (chance < 0.66) {
      if (!daemon && !host.isRemoved) await host.start();
    } else if (chance < 0.7) {
      host.isCutOff = !host.isCutOff && rng() < 0.6;
    } else if (chance < 0.8) {
      world.now += pick([100, 1000, 10_000, 61_000, 301_000])!;
      for (const one of world.hosts) one.daemon?.fire();
    } else if (chance < 0.808) {
      const other = world.hosts.find((one) => one !== host && one.daemon && !one.isCutOff);
      if (other && !host.isRemoved) {
        host.vanish();
        count('removed');
        // The operator removes it, on the newest state.
        await other.daemon!.follow();
        while (other.reports.length > 0) await other.daemon!.follow();
        const { expect, put, delete: deleted } = other.daemon!.blocks.without(host.name);
        const key = `hosts/${host.name}`;
        world.shared.transact({ expect: expect!, put: put!, delete: [...deleted!, key] });
        // It is installed anew.
        if (rng() < 0.5) {
          world.shared.transact({ put: [{ key, value: {} }] });
          host.isRemoved = false;
        }
      }
    } else if (daemon && chance < 0.85) {
      await daemon.read();
    } else if (daemon) {
      await daemon.renew();
      void daemon.blocks.keep();
    }
    await turn();
    world.check();
    watchRest();
  };
  for (let n = 0; n < STEPS; n++) await step();

  // Everything heals, and everything is detached: nothing may be left.
  for (const host of world.hosts) {
    host.isCutOff = false;
    if (!host.daemon && !host.isRemoved) await host.start();
  }
  const calm = async (): Promise<void> => {
    for (let n = 0; n < 60; n++) {
      while (world.requests.length > 0) world.requests.shift()!.arrive('done');
      for (const host of world.hosts) {
        while (host.daemon && host.reports.length > 0) await host.daemon.follow();
        await host.daemon?.renew();
        void host.daemon?.blocks.keep();
        await turn();
        world.check();
      }
    }
  };
  world.now += 4000;
  for (const host of world.hosts) host.daemon?.fire();
  await calm();
  // What is declared is in force again, or was lost to a host that was there before.
  for (const host of world.hosts) {
    for (const name of host.declared.keys()) count(host.inForce.has(name) ? 'in force' : 'waits');
  }
  for (let n = 0; n < 16; n++) {
    for (const host of world.hosts) for (const name of [...host.declared.keys()]) host.daemon?.detach(name);
    world.now += 100_000;
    for (const host of world.hosts) host.daemon?.fire();
    await calm();
  }
  const left = [...world.shared.entries.keys()].filter((key) => key.startsWith('blocks/'));
  if (left.length > 0) throw new Error(`left: ${JSON.stringify([...world.shared.entries.values()])}`);
  for (const { name, own } of world.hosts) {
    if (own.list('').entries.length > 0) throw new Error(`left on ${name}: ${JSON.stringify(own.list('').entries)}`);
  }
  return seen;
}

t.test(`in ${SEEDS} random histories`, { timeout: 1_200_000 }, async (t) => {
  const all: Record<string, number> = {};
  for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
    try {
      for (const [what, times] of Object.entries(await run(seed))) all[what] = (all[what] ?? 0) + times;
    } catch (error) {
      t.fail(`seed ${seed}: ${(error as Error).message}`);
      return;
    }
  }
  t.comment(JSON.stringify(all));
  for (const what of ['attached', 'chosen', 'full', 'taken', 'crash', 'removed', 'does not answer', 'does not give']) {
    t.ok((all[what] ?? 0) > 0, `${what}: ${all[what]}`);
  }
});

for (const isRestarted of [true, false]) {
  const who = isRestarted ? 'an earlier daemon' : 'a daemon that got no answer';
  t.test(`what ${who} has sent to give a block back does not take it away later`, async (t) => {
    const world = new World(['a', 'b'], '10.0.0.0/27');
    const [a, b] = world.hosts as [Host, Host];
    for (const host of world.hosts) await host.start();
    /** Everything arrives, except for one request. */
    const calm = async (except?: unknown): Promise<void> => {
      for (let n = 0; n < 40; n++) {
        for (const request of world.requests.filter((one) => one !== except)) {
          world.requests.splice(world.requests.indexOf(request), 1);
          request.arrive('done');
        }
        for (const { daemon } of world.hosts) await daemon?.follow();
        await turn();
      }
    };
    void a.daemon!.attach('a-1');
    await calm();
    t.same([...a.inForce], [['a-1', '10.0.0.2']]);
    a.daemon!.detach('a-1');
    void a.daemon!.blocks.keep();
    await calm();
    for (const ms of [61_000, 1, 301_000]) {
      world.now += ms;
      void a.daemon!.blocks.keep();
      for (let n = 0; n < 20; n++) {
        const at = world.requests.findIndex(({ what }) => what === 'own');
        if (at >= 0) world.requests.splice(at, 1)[0]!.arrive('done');
        await turn();
      }
    }
    const leaving = world.requests.find(({ what }) => what === 'blocks')!;
    t.ok(leaving, 'the block is given back');
    world.requests.length = 0;
    if (isRestarted) {
      a.crash();
      await a.start();
    } else {
      leaving.arrive('late');
      await a.daemon!.read();
    }
    const late = isRestarted ? leaving : world.requests.pop();
    void a.daemon!.attach('a-2', '10.0.0.2');
    await calm(late);
    t.same([...a.inForce], [['a-2', '10.0.0.2']]);
    a.isCutOff = true;
    late!.arrive('done');
    await calm();
    void b.daemon!.attach('b-1');
    await calm();
    world.check();
    t.same([...b.inForce], [['b-1', '10.0.0.16']]);
  });
}
