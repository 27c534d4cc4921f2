/**
 *   ┌ client ┐ eth0 ── eth0 ┌ host ──────────────────────────┐
 *   │        │              │ weft0 ── weft ─┬─ web, db: blue│
 *   └────────┘              │   ▲            └─ shop: red    │
 *                           └───┼────────────────────────────┘
 *                       `weft up --takeover`
 *
 * One daemon takes over from another while connections exchange data without a pause. Whatever fails, and
 * whoever is killed at whatever step, one daemon goes on, or the next start finds everything. (How long data
 * stalls: `test/long/takeover.ts`.)
 */
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { startExchanges, type Exchanges } from '../support/exchanges.ts';
import { startEtcd } from '../support/etcd.ts';
import { openLab, type Lab } from '../support/lab.ts';
import { attempt, isAlive, until, type Background, type Result } from '../support/process.ts';
import { linkIdentity, startProbe } from '../support/restart.ts';
import { twoHostsOnEtcd } from '../support/store-outage.ts';
import { attachContainer, oneHost, overlay, type Container } from '../support/topology.ts';
import { ping, python } from '../support/traffic.ts';
import { datapathKinds, Weft, weftCommand } from '../support/weft.ts';

t.setTimeout(600_000);

/** Frames of one flow: `PARKED_PER_FLOW` is 8. */
const WAITING = 40;
/** So many frames of a new flow have arrived when it was decided: on a busy machine, some of the first ones are dropped. */
const DECIDED = 16;
/** Its burst is 128 KB, and for as many bytes it takes two minutes. */
const SLOW_RATE = '8kbit';
/** Datagrams that fit into the burst and the queue behind it. */
const MANY = 200;
const WAYS = ['switched', 'routed', 'translated', 'published'];
/** Those of the programs that a daemon runs, and of what it asks namespaces, come and go. */
const PASSING = /^(\/memfd:weft |anon_inode:\[pidfd\]|net:\[)/;
/** A daemon with this module waits for good when it reads a file of a hook for the third time. */
const NEVER_READ = `
import promises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
const { readFile } = promises;
let reads = 0;
promises.readFile = (path, ...more) =>
  String(path).endsWith('slow.ts') && ++reads === 3 ? new Promise(() => {}) : readFile(path, ...more);
syncBuiltinESMExports();
`;
/** A start with this module fails last of all: nothing but the upkeep of a switch is done each second. */
const FAILS_LATE = `
const every = globalThis.setInterval;
globalThis.setInterval = (work, delayMs, ...more) => {
  if (delayMs === 1000) throw new Error('it fails last of all');
  return every(work, delayMs, ...more);
};
`;
const PLAYER = fileURLToPath(new URL('../handover/player.process.ts', import.meta.url));

for (const datapath of datapathKinds) {
  await t.test(`${datapath}: connections go on`, async (t) => {
    const exchanges = await startExchanges(openLab(t), datapath, 4);
    const { weft, web } = exchanges;
    const linksBefore = await linkIdentity(web.namespace);
    await goOn(t, exchanges, 'before');

    await t.test('from one daemon to the next', async (t) => {
      const descriptors = descriptorsOf(weft.pid);
      for (let time = 1; time <= 3; time++) {
        const { pid } = weft;
        await weft.takeOver();
        t.not(weft.pid, pid);
        t.equal(isAlive(pid), false, 'the old one has ended');
        await goOn(t, exchanges, `takeover ${time}`);
        // Those of requests come and go.
        await until(() => descriptorsOf(weft.pid) <= descriptors, { what: 'no descriptors are left over' });
      }
      t.equal(await linkIdentity(web.namespace), linksBefore, 'the interface is the same');
    });

    await t.test('changes in between are made by one of them', async (t) => {
      const before = (await weft.client.get('Network')).length;
      let isOver = false;
      const made: string[] = [];
      const making = (async () => {
        while (!isOver) {
          const name = `n${made.length}`;
          await weft.client.createNetwork(name, { subnets: [`10.99.${made.length}.0/24`] });
          made.push(name);
        }
      })();
      await weft.takeOver();
      const then = made.length;
      await until(() => made.length > then, { what: 'changes go on' });
      isOver = true;
      await making;
      const after = (await weft.client.get('Network')).map(({ metadata }) => metadata.name);
      t.equal(after.length, before + made.length, `${made.length} networks`);
      for (const name of made) await weft.client.removeNetwork(name);
      await goOn(t, exchanges, 'after changes');
    });

    await t.test('a new daemon that cannot start changes nothing', async (t) => {
      const { pid } = weft;
      for (const [words, why] of [
        [['--config', '/does/not/exist'], /\/does\/not\/exist/],
        [['--host', 'other'], /its host is named "host", not "other": give --host host/],
        [['--state', join(weft.state, 'other')], /its state directory is .*: give --state/],
      ] as const) {
        const { code, stderr } = await weft.attemptTakeOver(words);
        t.not(code, 0);
        t.match(stderr, why);
        t.equal(
          stderr
            .trim()
            .split('\n')
            .filter((line) => !line.startsWith('{')).length,
          1,
          'one line',
        );
        t.equal((await weft.status()).pid, pid);
        await goOn(t, exchanges, words.join(' '));
      }
    });

    if (datapath === 'native') {
      await t.test('from a daemon with other threads', async (t) => {
        const config = (threads: number): string[] => {
          const file = join(weft.state, `../threads-${threads}.yaml`);
          writeFileSync(file, `threads: ${threads}\n`);
          return ['--config', file];
        };
        for (const threads of [3, 2, 1]) {
          await weft.takeOver(config(threads));
          await goOn(t, exchanges, `${threads} threads`);
          // The holder has those of the daemon before for a moment longer.
          const shown = (): Promise<string> => web.namespace.run(['ip', '-d', 'link', 'show', 'eth0']);
          await until(async () => (await shown()).includes(`numqueues ${threads} `), { what: 'as many queues' });
          t.pass(`${threads} queues`);
        }
      });
    }

    await t.test('kill -9: the interfaces keep their carriers until the next daemon is there', async (t) => {
      await weft.kill();
      t.match(await web.namespace.run(['ip', 'link', 'show', 'eth0']), /LOWER_UP/);
      await weft.start();
      await goOn(t, exchanges, 'killed');
      t.equal(await linkIdentity(web.namespace), linksBefore, 'the interface is the same');
      await weft.takeOver();
      await goOn(t, exchanges, 'and taken over');
    });

    await t.test('purged, nothing is left', async (t) => {
      await weft.run('down', '--purge');
      await weft.ended();
      t.same(await web.namespace.links(), []);
      await until(() => holdersOf(weft).length === 0, { what: 'the holder has ended' });
      t.same(readdirSync(weft.state).sort(), ['journal']);
    });
  });
}

await t.test('with a store that hosts share, also while it is away', async (t) => {
  const lab = openLab(t);
  const host = await lab.namespace('host');
  const etcd = await startEtcd(lab, { members: [{ namespace: host, address: '127.0.0.1' }] });
  const weft = await Weft.up(lab, host, 'host', {
    datapath: 'native',
    underlay: '127.0.0.1',
    arguments: ['--store', etcd.url],
  });
  await weft.createNetwork(overlay.create);
  const [web, db] = [await attachContainer(lab, weft, 'web', 11), await attachContainer(lab, weft, 'db', 12)];
  const passes = (): Promise<unknown> => ping(web.namespace, db.ip4);
  for (let time = 1; time <= 2; time++) {
    await weft.takeOver();
    await passes();
    await weft.run('label', 'network', 'blue', `time=${time}`);
    t.match((await weft.status()).store, etcd.url);
  }
  await etcd.stop();
  await weft.takeOver();
  await passes();
  t.match(
    (await weft.client.endpoints()).map(({ state }) => state),
    ['attached', 'attached'],
  );
});

await t.test('a new one that fails when it has the socket: the old one has it again', async (t) => {
  const lab = openLab(t);
  const { etcd, a, b, web, db, dbIp } = await twoHostsOnEtcd(lab);
  const near = await lab.namespace('near');
  await b.attach(near, { network: 'blue' });
  const { pid } = b;
  const { underlay } = await a.status();
  await losesNothing(t, { namespace: near }, { namespace: db, ip4: dbIp }, async () => {
    for (let time = 1; time <= 2; time++) {
      const { code, stderr } = await b.attemptTakeOver(['--underlay', underlay!]);
      t.equal(code, 1);
      t.match(stderr, new RegExp(`^weft: underlay ${underlay} belongs to host "a"`, 'm'));
      t.equal((await b.status()).pid, pid, 'the old one answers');
    }
  });

  await t.test('one that had opened everything: nothing of the host was gone for a moment', async (t) => {
    await b.createNetwork('front --subnet 10.46.0.0/24 --outside');
    const module = join(lab.directory, 'fails-late.mjs');
    writeFileSync(module, FAILS_LATE);
    /** When its daemon was declared to run; anew if it was not for a while. */
    const declared = async (): Promise<number> => {
      const found = JSON.parse(await etcd.ctl(['get', 'weft/state/live/b', '-w', 'json'])) as {
        readonly kvs: readonly { readonly create_revision: number }[];
      };
      return found.kvs[0]!.create_revision;
    };
    const outside = async (): Promise<number> => {
      const links = JSON.parse(await b.host.run(['ip', '-j', 'link', 'show', 'weft0'])) as {
        readonly ifindex: number;
      }[];
      return links[0]!.ifindex;
    };
    const [ifindex, since] = [await outside(), await declared()];
    const { code, stderr } = await b.attemptTakeOver([], { NODE_OPTIONS: `--import=${module}` });
    t.equal(code, 1);
    t.match(stderr, /it fails last of all/);
    t.equal((await b.status()).pid, pid);
    t.equal(await outside(), ifindex, 'the way outside');
    t.equal(await declared(), since, 'its presence in the store');
    await ping(web, dbIp);
  });

  await b.takeOver();
  await ping(web, dbIp);
});

for (const datapath of datapathKinds) {
  await t.test(`${datapath}: no frame is lost`, async (t) => {
    const lab = openLab(t);
    const { weft, web, db } = await oneHost(lab, datapath);
    await losesNothing(t, web, db, () => weft.takeOver());
    await losesNothing(t, web, db, async () => void (await weft.attemptTakeOver(['--config', '/does/not/exist'])));
    // Many more frames of one flow wait than can be parked behind a decision.
    await losesNothing(t, web, db, async () => {
      const player = await play(lab, weft, ['offer', 'go', 'all']);
      const before = await datagramsOf(web);
      await until(async () => (await datagramsOf(web)) > before + WAITING, { what: 'frames that wait' });
      await player.stop('SIGKILL');
      await until(async () => (await weft.status()).forwarding, { what: 'the old one forwards' });
    });
    t.same(await weft.drops(), {});
    await t.test('nor one that waits for a rate', async (t) => {
      const words = ['--rate-limit', `egress=${SLOW_RATE}`];
      await weft.attach(db.namespace, { name: 'db', network: overlay.network, arguments: words });
      // Nobody listens there. The first one is decided alone, since few can wait for that.
      const arrived = (): Promise<number> => datagramsOf(db, 'NoPorts');
      for (const count of [1, MANY]) {
        const before = await arrived();
        await web.namespace.run(python('udp_at_once.py', db.ip4, 7008, count, 1000));
        await until(async () => (await arrived()) > before, { what: 'those that the burst admits' });
      }
      t.ok((await arrived()) < MANY, 'others wait');
      await weft.takeOver();
      await until(async () => (await arrived()) === 1 + MANY, { what: 'all of them' });
    });
  });
}

await t.test('whoever is killed at whatever step, one goes on', async (t) => {
  const lab = openLab(t);
  const { weft, web, db } = await oneHost(lab, 'native');
  const passes = (): Promise<unknown> => ping(web.namespace, db.ip4);
  const steps = ['offer', 'go', 'all'];

  for (const [at, step] of steps.entries()) {
    await t.test(`the new one, after "${step}"`, async (t) => {
      const { pid } = weft;
      await losesNothing(t, web, db, async () => {
        const player = await play(lab, weft, steps.slice(0, at + 1));
        await player.stop('SIGKILL');
        await until(async () => (await weft.status()).forwarding, { what: 'the old one forwards' });
      });
      t.equal((await weft.status()).pid, pid);
      await passes();
      await weft.run('label', 'network', 'blue', `after=${step}`);
    });

    await t.test(`the old one, after "${step}"`, async (t) => {
      const { pid } = weft;
      const player = await play(lab, weft, steps.slice(0, at + 1));
      await weft.kill();
      await player.stop('SIGKILL');
      await weft.start();
      t.not(weft.pid, pid);
      await passes();
    });
  }

  await t.test('the new one, after it forwards: the next start finds all', async () => {
    const { pid } = weft;
    const player = await play(lab, weft, steps);
    player.write('forward\n');
    await player.says('forward: it has ended');
    await until(() => !isAlive(pid), { what: 'the old one has ended' });
    await player.stop('SIGKILL');
    await weft.start();
    await passes();
  });

  await t.test('the old one, at any moment of a real takeover: the new one starts without it', async (t) => {
    for (let time = 1; time <= 3; time++) {
      const { pid } = weft;
      const taking = weft.takeOver();
      await until(() => /about to take over/.test(weft.log().split('\n').at(-2) ?? ''), { what: 'it has begun' });
      process.kill(pid, 'SIGKILL');
      await taking;
      await until(async () => (await weft.status()).forwarding, { what: 'the new one forwards' });
      t.equal((await weft.status()).pid, weft.pid);
      await passes();
    }
  });

  await t.test('a new one that does not get on is killed', async (t) => {
    const { pid } = weft;
    const player = await play(lab, weft, steps);
    await until(() => !player.isRunning, { what: 'it is killed' });
    await until(async () => (await weft.status()).forwarding, { what: 'the old one forwards' });
    t.equal((await weft.status()).pid, pid);
    t.match(weft.log(), /it does not forward after 8 s/);
    await passes();
  });

  await t.test('one that is too slow says so, and ends by itself', async (t) => {
    const { pid } = weft;
    // It is read twice while the other daemon forwards. The third time is before any port opens, and never ends.
    const [hook, slow] = ['slow.ts', 'slow.mjs'].map((name) => join(lab.directory, name)) as [string, string];
    writeFileSync(
      hook,
      `import { defineHook } from 'weft';\nexport default defineHook({ name: 'slow', onFlow() {} });\n`,
    );
    writeFileSync(slow, NEVER_READ);
    const { code, stderr } = await weft.attemptTakeOver(['--hook', hook], { NODE_OPTIONS: `--import=${slow}` });
    t.equal(code, 1);
    t.match(stderr, /^weft: nothing is taken over from the running daemon, which goes on: .* after 8 s/m);
    await until(async () => (await weft.status()).forwarding, { what: 'the old one forwards' });
    t.equal((await weft.status()).pid, pid);
    t.match(weft.log(), /"msg":"the new daemon has failed: this one goes on"/);
    await passes();
  });

  await t.test('one that finds a daemon that hangs says so; a signal ends it before', async (t) => {
    process.kill(weft.pid, 'SIGSTOP');
    // A socket has the name by which it was bound, before it was linked to its path, and so has each connection to it.
    const connected = async (): Promise<number> =>
      (await weft.host.run(['cat', '/proc/net/unix'])).split(`${lab.directory}/.weft-`).length - 1;
    const before = await connected();
    const next = lab.start([...weft.upCommand(), '--takeover']);
    await until(async () => (await connected()) > before, { what: 'that it asks' });
    t.equal(await next.stop('SIGTERM'), 1);
    t.match(next.stderr, /^weft: SIGTERM: nothing is taken over from the running daemon$/m);
    const { code, stderr } = await weft.attemptTakeOver();
    t.equal(code, 1);
    t.match(stderr, new RegExp(`^weft: the daemon with pid ${weft.pid} does not answer on ${weft.socket}: `, 'm'));
    process.kill(weft.pid, 'SIGCONT');
    t.equal((await weft.status()).pid, weft.pid);
    await passes();
  });

  await t.test('a second one during a takeover is refused', async (t) => {
    const player = await play(lab, weft, ['offer']);
    const { code, stderr } = await weft.attemptTakeOver();
    t.equal(code, 1);
    t.match(stderr, new RegExp(`another daemon \\(pid ${player.pid}\\) is taking over just now: try again`));
    await player.stop('SIGKILL');
    await until(() => /the new daemon does not take over/.test(weft.log()), { what: 'it is told' });
    await weft.takeOver();
    await passes();
  });

  await t.test('another format, or another way to store connections, is refused', async () => {
    const place = { host: 'host', state: weft.state, connections: 'ff' };
    for (const [changed, why] of [
      [{ format: 99 }, /asks for a takeover of format 99, it has format 1; restart it/],
      [{ place }, /weft played stores connections in another way, so they would end; restart it/],
    ] as const) {
      const player = startPlayer(lab, weft, changed);
      player.write('offer\n');
      await player.says(why);
      await player.stop('SIGKILL');
    }
    await passes();
  });

  await t.test('a holder that is killed is replaced, and has everything again', async (t) => {
    const [holder] = holdersOf(weft);
    const held = descriptorsOf(Number(holder));
    process.kill(Number(holder), 'SIGKILL');
    const others = (): number[] => holdersOf(weft).flatMap((one) => (one === holder ? [] : Number(one)));
    // On a busy machine, one that was slow to start may be replaced, too, although it has everything by then.
    const hasOne = ([one, ...more]: readonly number[]): boolean =>
      one !== undefined && more.length === 0 && descriptorsOf(one) === held;
    await until(() => hasOne(others()), { what: 'another holder that has as many' });
    await until(() => /the holder of descriptors is started again/.test(weft.log()), { what: 'it is told' });
    await weft.kill();
    t.match(await web.namespace.run(['ip', 'link', 'show', 'eth0']), /LOWER_UP/);
    await weft.start();
    await passes();
  });

  await t.test('one whose state directory was away for a while is replaced once that is there again', async () => {
    const held = descriptorsOf(Number(holdersOf(weft)[0]));
    const away = `${weft.state}.away`;
    const failures = (): number => weft.log().split('the holder cannot be started').length - 1;
    renameSync(weft.state, away);
    await until(() => failures() >= 5, { what: 'five attempts' });
    renameSync(away, weft.state);
    // The sixth one would be 32 s after the fifth. In the end, it would be ten minutes.
    const isKept = (): boolean => holdersOf(weft).some((pid) => descriptorsOf(Number(pid)) === held);
    await until(isKept, { what: 'another holder', timeoutMs: 28_000 });
    await passes();
  });

  await t.test('what belongs to somebody else is left alone', async (t) => {
    const { pid } = weft;
    const other = join(lab.directory, 'other.sock');
    const words = ['ip', 'netns', 'exec', weft.host.name, ...weftCommand, '--socket', other, 'up', '--takeover'];
    const run = (): Promise<Result> => attempt([...words, '--state', weft.state, '--host', 'host']);
    const alone = await run();
    t.equal(alone.code, 1);
    t.match(alone.stderr, new RegExp(`state directory \\S+ is in use by weft with pid ${pid}`));
    const server = createServer((socket) => socket.end('what?\n'));
    server.listen(other);
    await once(server, 'listening');
    const refused = await run();
    t.equal(refused.code, 1);
    t.match(refused.stderr, /other\.sock/);
    server.close();
    t.equal((await weft.status()).pid, pid);
    await passes();
  });

  await t.test('SIGTERM during a takeover is for the new one, too', async () => {
    const player = await play(lab, weft, steps);
    const stopping = weft.signalled('SIGTERM');
    await until(() => /"signal":"SIGTERM"/.test(weft.log()), { what: 'it is told' });
    player.write('forward\n');
    await player.says('forward: stop');
    await stopping;
    await player.stop('SIGKILL');
    await weft.start();
    await passes();
  });

  await t.test('down during a takeover stops whoever runs then', async (t) => {
    const old = weft.pid;
    const taking = weft.takeOver().catch(() => {});
    await until(() => /about to take over/.test(weft.log().split('\n').at(-2) ?? ''), { what: 'it has begun' });
    t.equal((await weft.attempt('down')).code, 0);
    await taking;
    await until(() => !isAlive(old), { what: 'the old one has ended' });
    await weft.ended();
    t.same(holdersOf(weft), []);
    await weft.start();
    await passes();
  });
});

await t.test('purged, nothing is left, even if the holder stands still', async (t) => {
  const { weft, web } = await oneHost(openLab(t), 'native');
  for (const holder of holdersOf(weft)) process.kill(Number(holder), 'SIGSTOP');
  await weft.run('down', '--purge');
  await weft.ended();
  t.same(await web.namespace.links(), []);
  await until(() => holdersOf(weft).length === 0, { what: 'the holder has ended' });
});

/** Every connection carries data, and none has broken. */
async function goOn(t: Test, { report }: Exchanges, when: string): Promise<void> {
  await report();
  const moving = new Set<string>();
  await until(
    async () => {
      for (const [way, { exchanges, broken }] of await report()) {
        if (broken.length > 0) throw new Error(`${way}: ${broken.join(', ')}`);
        if (exchanges > 0) moving.add(way);
      }
      return moving.size === WAYS.length;
    },
    { what: `data on all ways: ${when}` },
  );
  t.pass(`${when}: data on all ways`);
}

/** Every frame that `from` sends to `to` meanwhile arrives, in order. */
async function losesNothing(
  t: Test,
  from: Pick<Container, 'namespace'>,
  to: Pick<Container, 'namespace' | 'ip4'>,
  work: () => Promise<void>,
): Promise<void> {
  const probe = await startProbe(from.namespace, to);
  await until(() => probe.numbers().length > DECIDED, { what: 'probes before' });
  await work();
  const { length } = probe.numbers();
  await until(() => probe.numbers().length > length + 10, { what: 'probes afterwards' });
  await probe.stop();
  const numbers = probe.numbers().slice(DECIDED);
  t.same(
    numbers.filter((number, at) => number !== numbers[0]! + at),
    [],
    `all of ${numbers.length} frames arrive in order`,
  );
}

/** How many UDP datagrams a container has sent so far, or received where nobody listens. */
async function datagramsOf({ namespace }: Container, which = 'OutDatagrams'): Promise<number> {
  const snmp = await namespace.run(['cat', '/proc/net/snmp']);
  const [names = '', values = ''] = snmp.split('\n').filter((line) => line.startsWith('Udp: '));
  return Number(values.split(' ')[names.split(' ').indexOf(which)]);
}

function startPlayer(lab: Lab, weft: Weft, changed: object = {}): Background {
  const words = [process.execPath, '--import=tsx', PLAYER, weft.socket, weft.state, 'host', JSON.stringify(changed)];
  return lab.start(words);
}

/** A played new daemon that has done these steps. */
async function play(lab: Lab, weft: Weft, steps: readonly string[]): Promise<Background> {
  const player = startPlayer(lab, weft);
  for (const step of steps) {
    player.write(`${step}\n`);
    await player.says(`${step}: `);
    if (player.stdout.includes('failed')) throw new Error(player.stdout);
  }
  return player;
}

function descriptorsOf(pid: number): number {
  const directory = `/proc/${pid}/fd`;
  return readdirSync(directory).filter((descriptor) => {
    let what: string;
    try {
      what = readlinkSync(join(directory, descriptor));
    } catch (error) {
      if (/^(ENOENT|ESRCH)$/.test((error as NodeJS.ErrnoException).code ?? '')) return false;
      throw error;
    }
    return !PASSING.test(what);
  }).length;
}

/** Processes that keep the descriptors of this daemon. */
function holdersOf(weft: Weft): string[] {
  return readdirSync('/proc').filter((entry) => {
    try {
      const [program = '', state = ''] = readFileSync(`/proc/${entry}/cmdline`, 'utf8').split('\0');
      return program.endsWith('/weft-holder') && state === weft.state;
    } catch {
      return false;
    }
  });
}
