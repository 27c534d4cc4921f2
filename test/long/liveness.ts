/**
 * How soon a host without power is known to be down, and whether busy processors make one seem so.
 *
 *   node --import=tsx test/long/liveness.ts [--times 20] [--seconds 600]
 *
 * Two hosts with static peers and a key. First all packets of one are dropped, so that nothing is said about it, again and
 * again: the other must know within 1 s, and within 400 ms if probes come every 100 ms. Then both processors are kept busy
 * by four programs, and nobody may be down. Exits with 1 if one of these does not hold.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Lab, type Namespace } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { datapathKinds, Weft, type DatapathKind } from '../support/weft.ts';

const { values } = parseArgs({
  options: { times: { type: 'string', default: '20' }, seconds: { type: 'string', default: '600' } },
});
const [times, seconds] = [Number(values.times), Number(values.seconds)];
const KEY = 'c0'.repeat(32);
const BUSY_PROGRAMS = 4;

interface Wire {
  readonly left: Namespace;
  readonly right: Namespace;
  readonly leftIp: string;
  readonly rightIp: string;
}

interface Pair {
  readonly under: Wire;
  readonly left: Weft;
  readonly right: Weft;
}

async function wire(lab: Lab, name: string): Promise<Wire> {
  const [left, right] = await lab.namespaces([`left${name}`, `right${name}`]);
  await lab.cable(left!, 'under', right!, 'under');
  await left!.ip('addr add 192.0.2.1/24 dev under');
  await right!.ip('addr add 192.0.2.2/24 dev under');
  return { left: left!, right: right!, leftIp: '192.0.2.1', rightIp: '192.0.2.2' };
}

/** @param name distinguishes it from others of the lab */
async function pair(lab: Lab, datapath: DatapathKind, intervalMs: number, name = ''): Promise<Pair> {
  const under = await wire(lab, name);
  const config = join(lab.directory, `liveness${name}.yaml`);
  writeFileSync(config, `liveness: { intervalMs: ${intervalMs}, multiplier: 3 }\n`);
  const up = (side: 'left' | 'right', peer: string): Promise<Weft> =>
    Weft.up(lab, under[side], `${side}${name}`, {
      datapath,
      peers: [`${peer},${KEY}`],
      arguments: ['--config', config],
    });
  const made = { under, left: await up('left', under.rightIp), right: await up('right', under.leftIp) };
  for (const weft of [made.left, made.right]) await isUp(weft);
  return made;
}

const stateOf = async (weft: Weft) => (await weft.client.hosts())[0]!;
const isUp = (weft: Weft): Promise<unknown> =>
  until(async () => (await stateOf(weft)).state === 'up', { what: 'the peer is up' });

/** What the daemon has said of peers that are down, in its log: then it is in force, too. */
const saidDown = (weft: Weft): string[] =>
  weft
    .log()
    .split('\n')
    .filter((line) => line.includes('"msg":"peer is down"'));

/** @returns how long it took, in milliseconds: at most, since the rule is in force at some time after `from` */
async function outage({ under, left, right }: Pair): Promise<number> {
  const before = saidDown(left).length;
  const from = Date.now();
  await under.right.run(['nft', '-f', '-'], {
    input: ['input', 'output']
      .map(
        (hook) =>
          `add table inet dead\nadd chain inet dead ${hook} { type filter hook ${hook} priority -300; policy drop; }`,
      )
      .join('\n'),
  });
  const said = await until(async () => saidDown(left)[before], { what: 'the peer is down' });
  const tookMs = Date.parse((JSON.parse(said) as { time: string }).time) - from;
  await under.right.run(['nft', 'delete', 'table', 'inet', 'dead']);
  for (const weft of [left, right]) await isUp(weft);
  return tookMs;
}

let failed = false;
const say = (holds: boolean, text: string): void => {
  failed ||= !holds;
  console.log(`${holds ? 'ok    ' : 'FAILED'} ${text}`);
};

for (const datapath of datapathKinds) {
  for (const [intervalMs, mostMs] of [
    [300, 1000],
    [100, 400],
  ] as const) {
    const lab = new Lab();
    try {
      const hosts = await pair(lab, datapath, intervalMs);
      const took: number[] = [];
      for (let i = 0; i < times; i++) took.push(await outage(hosts));
      took.sort((a, b) => a - b);
      const [least, median, most] = [took[0]!, took[Math.floor(times / 2)]!, took.at(-1)!];
      say(
        most <= mostMs,
        `${datapath}, 3 × ${intervalMs} ms: ${times} outages known in ${least} to ${most} ms, median ${median}`,
      );
    } finally {
      await lab.close();
    }
  }
}

const lab = new Lab();
try {
  const pairs: { readonly name: string; readonly hosts: Pair }[] = [];
  for (const datapath of datapathKinds) {
    for (const intervalMs of [300, 100]) {
      const hosts = await pair(lab, datapath, intervalMs, `${datapath}-${intervalMs}`);
      pairs.push({ name: `${datapath}, 3 × ${intervalMs} ms`, hosts });
    }
  }
  for (let i = 0; i < BUSY_PROGRAMS; i++) lab.start(['sh', '-c', 'while :; do :; done']);
  const endMs = Date.now() + seconds * 1000;
  await until(async () => Date.now() >= endMs, { what: 'the time is over', timeoutMs: seconds * 1000 + 60_000 });
  for (const { name, hosts } of pairs) {
    const lines = [hosts.left, hosts.right].flatMap((weft) => weft.log().split('\n'));
    const alarms = lines.filter((line) => /peer is (down|suspect)/.test(line));
    say(
      alarms.length === 0,
      `${name}: ${alarms.length} false alarms in ${seconds} s with ${BUSY_PROGRAMS} busy programs`,
    );
    for (const line of alarms.slice(0, 5)) console.log(`       ${line}`);
  }
} finally {
  await lab.close();
}
process.exitCode = failed ? 1 : 0;
