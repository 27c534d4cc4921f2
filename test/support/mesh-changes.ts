/** Backends come and go, and a host loses its power, under connections that exchange data and clients that connect. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { Lab } from './lab.ts';
import { goesOn, Mesh, type MeshOptions } from './mesh.ts';
import { monotonicMs, until } from './process.ts';

const PAUSE_MS = 20;
const IDLE_MS = 3_600_000;
/** For each that comes in by a node port of a host, so many come from within. */
const FROM_OUTSIDE = 4;
/** Connections of a load that go on after something has failed. */
const ENOUGH = 100;

export interface ChangesOptions extends Omit<MeshOptions, 'drain'> {
  /** At first, at least three. */
  readonly backends?: number;
  /** From within; by each host, a quarter as many come from outside. */
  readonly connections: number;
  /** Between an answer on a connection and the next question. */
  readonly pauseMs?: number;
  /** New connections a second. */
  readonly rate: number;
  readonly rounds: number;
}

/** Only connections to a backend that leaves, or whose program ends, may break. */
export async function changesUnderLoad(t: Test, lab: Lab, options: ChangesOptions): Promise<void> {
  const { backends = 3, connections, pauseMs = PAUSE_MS, rate, rounds } = options;
  const mesh = await Mesh.open(lab, { ...options, drain: '10m' });
  for (const name of ['one', 'two', 'three']) await mesh.addBackend(name);
  for (let n = 4; n <= backends; n++) await mesh.addBackend(`backend-${n}`);
  const within = await mesh.hold(connections, pauseMs);
  const held = [within, ...(await mesh.holdEntered(Math.ceil(connections / FROM_OUTSIDE), pauseMs))];
  const load = await mesh.load(rate);
  const gone = new Set<string>();
  const othersGoOn = async (when: string): Promise<void> => {
    const all = await Promise.all(held.map((each) => goesOn(each)));
    const broken = all.flatMap((seen) => Object.keys(seen).filter((name) => seen[name]!.broken.length > 0));
    t.same(
      broken.filter((name) => !gone.has(name)),
      [],
      `${when}: none to the others breaks`,
    );
  };
  t.equal(Object.keys(await within.report()).length, backends, 'each backend has connections');
  for (let round = 1; round <= rounds; round++) {
    const extra = await mesh.addBackend(`extra-${round}`);
    await othersGoOn('one comes');
    await mesh.label(extra, 'weft.dev/drain=true');
    await othersGoOn('one is drained');
    await mesh.label(extra, 'weft.dev/drain-');
    await othersGoOn('and is not any more');
    await mesh.label(extra, 'app=spare');
    await othersGoOn('one leaves');
    await extra.weft.run('detach', extra.name);
    await othersGoOn('and is detached');
  }
  const [, two, three] = mesh.backends as [unknown, (typeof mesh.backends)[0], (typeof mesh.backends)[0]];
  gone.add('two');
  const idle = await mesh.holdEntered(connections, IDLE_MS);
  await two.weft.run('detach', two.name);
  await othersGoOn('one with connections is detached');
  const areTold = async (): Promise<boolean> =>
    (await Promise.all(idle.map((each) => each.report()))).every((seen) => (seen['two']?.open ?? 0) === 0);
  await until(areTold, { what: 'who is outside and waits is told, by whatever host he came in' });
  gone.add('three');
  await three.server.kill();
  await othersGoOn('the program of one is killed');
  const reports = await Promise.all(held.map((each) => each.report()));
  const all = reports.flatMap((report) => Object.entries(report));
  const stayed = all.flatMap(([name, seen]) => (gone.has(name) ? [] : [seen]));
  const { begun } = await load.finish();
  const [exchanges, open] = [sum(stayed.map((one) => one.exchanges)), sum(stayed.map((one) => one.open))];
  t.comment(`${exchanges} exchanges on ${open} connections that stayed, beside ${begun} new ones`);
  t.same(
    stayed.flatMap(({ broken }) => broken),
    [],
  );
}

const sum = (numbers: readonly number[]): number => numbers.reduce((all, one) => all + one, 0);

/** @returns how many connections failed after the program of one of three backends was killed, which is then ejected */
export async function crashUnderLoad(
  t: Test,
  lab: Lab,
  { rate, ...options }: Omit<MeshOptions, 'drain'> & Pick<ChangesOptions, 'rate'>,
): Promise<number> {
  const mesh = await Mesh.open(lab, options);
  for (const name of ['one', 'two', 'three']) await mesh.addBackend(name);
  const file = join(lab.directory, 'rule.yaml');
  writeFileSync(file, ejecting);
  await mesh.wefts[0].run('apply', '-f', file, '--wait=60s');
  const load = await mesh.load(rate);
  await until(async () => Object.keys((await load.report()).answered).length === 3, { what: 'each backend answers' });
  const killedMs = monotonicMs();
  await mesh.backends.at(-1)!.server.kill();
  const before = (await load.report()).begun;
  await until(async () => (await load.report()).begun > before + 10 * ENOUGH, { what: 'clients go on' });
  const { begun, failed } = await load.finish();
  const lastMs = Math.max(0, ...failed.map(([begunMs]) => begunMs - killedMs));
  t.comment(`${failed.length} of ${begun} connections failed, the last of them ${lastMs.toFixed(0)} ms after the kill`);
  t.ok(failed.length > 0, 'it was noticed');
  t.same(
    failed.filter(([begunMs, tookMs]) => begunMs + tookMs < killedMs),
    [],
    'none before',
  );
  return failed.length;
}

const ejecting = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: web }
spec:
  host: web
  trafficPolicy:
    outlierDetection: { consecutiveLocalOriginFailures: 3, baseEjectionTime: 10m, maxEjectionPercent: 50 }
`;

export interface PowerLossOptions extends Pick<MeshOptions, 'datapath'> {
  readonly connections: number;
  readonly rate: number;
}

/**
 * A host with a third of the backends loses its power.
 * @returns after how many milliseconds the last connection began that failed, or that took more than 300 ms
 */
export async function powerLoss(t: Test, lab: Lab, { datapath, connections, rate }: PowerLossOptions): Promise<number> {
  const mesh = await Mesh.open(lab, { datapath, hosts: 3 });
  for (const name of ['one', 'two', 'three']) await mesh.addBackend(name);
  const held = await mesh.hold(connections, PAUSE_MS);
  const load = await mesh.load(rate);
  await until(async () => Object.keys((await load.report()).answered).length === 3, { what: 'each backend answers' });
  const [a, , c] = mesh.wefts as [Mesh['wefts'][0], ...Mesh['wefts']];
  const lostMs = monotonicMs();
  await c!.host.run(['nft', '-f', '-'], { input: noPower });
  await until(async () => (await a.client.hosts()).some(({ state }) => state === 'down'), { what: 'it is down' });
  const knownMs = monotonicMs();
  const { begun: before } = await load.report();
  await until(async () => (await load.report()).begun > before + ENOUGH, { what: 'clients go on' });
  const { begun, failed, late } = await load.finish();
  const troubles = [...failed, ...late].map(([begunMs]) => begunMs - lostMs);
  const lastMs = Math.max(0, ...troubles);
  t.comment(
    `${failed.length} of ${begun} connections failed, ${late.length} took more than 300 ms; the last of them began ${lastMs.toFixed(0)} ms ` +
      `after the loss, which was known after ${(knownMs - lostMs).toFixed(0)} ms at most`,
  );
  t.same(
    failed.filter(([begunMs]) => begunMs > knownMs),
    [],
    'no connection fails that begins when it is known',
  );
  // The host may come back, so connections to its backends stay, as those to a backend that is not ready do.
  const on = await goesOn(held, ['one', 'two']);
  for (const name of ['one', 'two']) t.same(on[name]?.broken ?? [], [], `none to ${name} breaks`);
  t.ok(on['three'], 'there were some to the lost one');
  await c!.host.run(['nft', 'delete', 'table', 'inet', 'dead']);
  return lastMs;
}

const noPower = ['input', 'output']
  .map(
    (hook) =>
      `add table inet dead\nadd chain inet dead ${hook} { type filter hook ${hook} priority -300; policy drop; }\n`,
  )
  .join('');
