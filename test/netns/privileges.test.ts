/**
 *   web ── weft, without most of root's capabilities ── the outside
 *
 * Every thread keeps what weft needs, and the datapath's threads keep nothing. With that,
 * everything that weft does with the kernel still works: namespaces, TAPs, rules, probes. The thread that tells other hosts
 * that this one lives runs before all other programs, and no other thread does.
 */
import { readdirSync, readFileSync } from 'node:fs';
import t from 'tap';
import { keptCapabilities } from '../../src/link/capabilities.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { ping } from '../support/traffic.ts';
import { datapathKinds, Weft } from '../support/weft.ts';

t.setTimeout(300_000);

const NOBODY = 65_534;
/** Of the signals that a thread blocks, those from SIGRTMIN (34) on, which programs may use. */
const REAL_TIME_SIGNALS = 0xffff_fffe_0000_0000n;

interface Thread {
  readonly name: string;
  readonly permitted: bigint;
  readonly bounding: bigint;
  readonly blocked: bigint;
  /** 0 without one. */
  readonly realTimePriority: number;
}

function threadsOf(pid: number): Thread[] {
  return readdirSync(`/proc/${pid}/task`).map((id) => {
    const status = readFileSync(`/proc/${pid}/task/${id}/status`, 'utf8');
    const field = (name: string): bigint => BigInt(`0x${new RegExp(`^${name}:\\s*(\\w+)$`, 'm').exec(status)![1]}`);
    // Field 40 of proc_pid_stat(5); the second one is in brackets, and may have spaces.
    const stat = readFileSync(`/proc/${pid}/task/${id}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ');
    return {
      realTimePriority: Number(stat[40 - 3]),
      name: /^Name:\s*(.*)$/m.exec(status)![1]!,
      permitted: field('CapPrm') | field('CapEff') | field('CapInh') | field('CapAmb'),
      bounding: field('CapBnd'),
      blocked: field('SigBlk'),
    };
  });
}

for (const datapath of datapathKinds) {
  await t.test(datapath, async (t) => {
    const lab = openLab(t);
    const [host, other] = [await lab.namespace('host'), await lab.namespace('other')];
    await lab.cable(host, 'u0', other, 'u0');
    await host.ip('address add 192.0.2.1/24 dev u0');
    await other.ip('address add 192.0.2.2/24 dev u0');
    const weft = await Weft.up(lab, host, 'a', { datapath, underlay: '192.0.2.1', peers: ['192.0.2.2'] });

    await t.test('threads', (t) => {
      const threads = threadsOf(weft.pid);
      const withMore = threads.filter(({ permitted }) => (permitted & ~keptCapabilities) !== 0n);
      // Node has one thread that only waits for SIGUSR1. Under the systemd unit it never had more.
      t.ok(withMore.length <= 1, `${withMore.length} of ${threads.length} threads have more`);
      for (const { blocked } of withMore) t.equal(blocked & REAL_TIME_SIGNALS, REAL_TIME_SIGNALS, 'it cannot be told');
      t.ok(
        threads.some(({ permitted }) => permitted === 0n),
        'there are some that have none',
      );
      for (const { name, permitted } of threads) if (name === 'weft-datapath') t.equal(permitted, 0n, name);
      const first = threads.filter(({ realTimePriority }) => realTimePriority > 0);
      t.same(
        first.map(({ name, realTimePriority, permitted }) => [name, realTimePriority, permitted]),
        datapath === 'native' ? [['weft-liveness', 1, 0n]] : [],
        'only probes go before other programs',
      );
      t.equal(threads[0]!.bounding & ~keptCapabilities, 0n, 'nor do programs that it runs get more');
      t.end();
    });

    await t.test('all that needs rights goes on', async (t) => {
      await weft.createNetwork('blue --subnet 10.44.0.0/24 --vni 100 --mtu 1400 --outside');
      const web = await lab.namespace('web');
      await weft.attach(web, { network: 'blue', arguments: ['--ip', '10.44.0.11'] });
      // A process of another user, whose namespace can only be examined with CAP_SYS_PTRACE.
      const db = await lab.namespace('db');
      const program = db.start(['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', 'sleep', '600']);
      await until(() => threadsOf(program.pid)[0]!.name === 'sleep', { what: 'a process of nobody' });
      await weft.run(...['attach', 'db', '--network', 'blue', '--ip', '10.44.0.12', '--pid', String(program.pid)]);
      await ping(web, '10.44.0.12');
      await other.ip('route add 10.44.0.0/24 via 192.0.2.1');
      await ping(web, '192.0.2.2');
      t.match((await weft.attempt('doctor')).stdout, /peer 192\.0\.2\.2 +ok +answers ICMP echo/);
      await weft.run('detach', 'db');
      t.same(await db.links(), []);
    });
  });
}
