/**
 *   clients ─┐
 *   m0 ──────┼── net (a bridge)
 *   m1 ──────┤
 *   m2 ──────┘
 *
 * Three members of etcd and their clients, while members are killed, stopped, cut off from the others or from the clients,
 * while etcd is compacted and while all of it is away. A fault lasts until the clients have got on in spite of it, or have
 * noticed that they cannot. In the end nobody has missed a change, or seen one twice (etcd-chaos.process.ts).
 */
import { fileURLToPath } from 'node:url';
import { startEtcd, type Etcd, type EtcdMember } from '../support/etcd.ts';
import type { Lab, Namespace } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { Random } from '../support/random.ts';
import type { Outcome, Told } from './etcd-chaos.process.ts';

const CLIENTS = fileURLToPath(new URL('etcd-chaos.process.ts', import.meta.url));
/** How much the clients get done during a fault, and after it. */
const TRANSACTIONS = 20;

export interface Report extends Outcome {
  readonly compactions: number;
  readonly faultsMade: readonly string[];
}

/** @param isOver asked before each fault: how many there were */
export async function chaos(lab: Lab, seed: number, isOver: (faults: number) => boolean): Promise<Report> {
  const { etcd, clients } = await network(lab);
  const random = new Random(seed);
  const background = clients.start([
    process.execPath,
    '--import=tsx',
    CLIENTS,
    String(seed),
    ...etcd.members.map(({ clientAddress }) => clientAddress),
  ]);
  lab.onFailure(() => background.stderr);
  const told = (): Told => {
    const { text } = background.lines.at(-1) ?? { text: '{"made":0,"refused":0,"lists":0}' };
    return JSON.parse(text) as Told;
  };
  const progress = async (what: string): Promise<void> => {
    const { made } = told();
    await until(() => told().made >= made + TRANSACTIONS, { what: `${TRANSACTIONS} transactions ${what}` });
  };
  const refusal = async (what: string): Promise<void> => {
    const { refused } = told();
    await until(() => told().refused > refused, { what: `a refusal ${what}` });
  };
  await progress('at first');
  let compactions = 0;
  const compact = async (): Promise<void> => {
    await etcd.compact();
    compactions++;
  };
  const one = (): EtcdMember => etcd.members[random.int(etcd.members.length)]!;
  const kinds: Readonly<Record<string, () => Promise<void>>> = {
    'a member is killed': async () => {
      const member = one();
      await member.kill();
      await progress('without a member');
      if (random.chance(0.5)) await compact();
      await member.start();
    },
    'the leader is killed': async () => {
      const leader = await etcd.leader();
      await leader.kill();
      await progress('without the leader');
      await leader.start();
    },
    'a member is stopped': async () => {
      const member = one();
      member.pause();
      await progress('with a silent member');
      member.resume();
    },
    'a member is cut off from the clients': async () => {
      const member = one();
      await cut(member, 2379);
      await progress('with a black hole');
      if (random.chance(0.5)) await compact();
      await heal(member);
    },
    'a member is cut off from the others': async () => {
      const member = one();
      await cut(member, 2380);
      await progress('with a member alone');
      await heal(member);
    },
    'all are away': async () => {
      await etcd.kill();
      await refusal('without etcd');
      await etcd.start();
    },
    'all are away, and compacted when they are back': async () => {
      await etcd.kill();
      await refusal('without etcd');
      await etcd.start();
      await compact();
    },
  };
  const faultsMade: string[] = [];
  while (!isOver(faultsMade.length)) {
    const names = Object.keys(kinds).filter((name) => faultsMade.at(-1) !== name);
    const name = names[random.int(names.length)]!;
    faultsMade.push(name);
    await kinds[name]!();
    await progress(`after: ${name}`);
  }
  background.end();
  await background.says('"outcome"');
  const { outcome } = JSON.parse(background.lines.at(-1)!.text) as { outcome: Outcome };
  return { ...outcome, compactions, faultsMade };
}

async function network(lab: Lab): Promise<{ etcd: Etcd; clients: Namespace }> {
  const net = await lab.namespace('net');
  await net.ip('link add br0 type bridge');
  await net.ip('link set br0 up');
  const join = async (role: string, at: number): Promise<Namespace> => {
    const namespace = await lab.namespace(role);
    await lab.cable(namespace, 'eth0', net, role);
    await net.ip(`link set ${role} master br0`);
    await namespace.ip(`address add 10.77.0.${at}/24 dev eth0`);
    return namespace;
  };
  const clients = await join('clients', 10);
  const members = [];
  for (let n = 0; n < 3; n++) members.push({ namespace: await join(`m${n}`, 1 + n), address: `10.77.0.${1 + n}` });
  const etcd = await startEtcd(lab, { members, from: clients });
  return { etcd, clients };
}

/** Drops everything of a port of this member, without a word. */
async function cut({ namespace, clientAddress }: EtcdMember, port: 2379 | 2380): Promise<void> {
  // The ports of a second cluster are others.
  const own = Number(clientAddress.split(':')[1]) + (port - 2379);
  const chain = (hook: string): string =>
    `chain ${hook} { type filter hook ${hook} priority 0; tcp dport ${own} drop; tcp sport ${own} drop; }\n`;
  await namespace!.run(['nft', '-f', '-'], { input: `table inet cut {\n${chain('input')}${chain('output')}}\n` });
}

async function heal({ namespace }: EtcdMember): Promise<void> {
  await namespace!.run(['nft', 'delete', 'table', 'inet', 'cut']);
}
