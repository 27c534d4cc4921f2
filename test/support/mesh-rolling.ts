/** All backends of a service are replaced, one after the other, while clients connect: docs/operations.md says how. */
import type { Test } from 'tap';
import type { Lab } from './lab.ts';
import { Mesh, type MeshOptions } from './mesh.ts';
import { monotonicMs } from './process.ts';

const DRAIN = '10m';
/** For each that comes in by a node port, so many come from within. */
const FROM_OUTSIDE = 4;

export interface RollingOptions extends Omit<MeshOptions, 'drain'> {
  readonly backends: number;
  /** New connections a second, from within; a quarter as many come from outside. */
  readonly rate: number;
  /** How often all of them are replaced. */
  readonly rounds: number;
}

/** @returns what the clients have seen, in words */
export async function rollingReplacement(
  t: Test,
  lab: Lab,
  { backends: count, rate, rounds, ...options }: RollingOptions,
): Promise<void> {
  const mesh = await Mesh.open(lab, { ...options, drain: DRAIN });
  for (let at = 0; at < count; at++) await mesh.addBackend(`web-${at}`);
  const loads = [await mesh.load(rate), ...(await mesh.enter(rate / FROM_OUTSIDE))];
  const from = monotonicMs();
  let served = 0;
  for (let at = 0; at < count * rounds; at++) {
    const old = mesh.backends[at]!;
    await mesh.addBackend(`web-${count + at}`, at % mesh.wefts.length);
    await mesh.label(old, 'weft.dev/drain=true');
    const { resets, accepted } = await old.server.finish();
    await old.weft.run('detach', old.name);
    t.same(resets, [], `${old.name}: no connection broke`);
    served += accepted;
  }
  const seconds = (monotonicMs() - from) / 1000;
  const seen = await Promise.all(loads.map((load) => load.finish()));
  const begun = seen.reduce((sum, one) => sum + one.begun, 0);
  const [failed, late] = [seen.flatMap((one) => one.failed), seen.flatMap((one) => one.late)];
  const names = new Set(seen.flatMap(({ answered }) => Object.keys(answered)));
  t.comment(
    `${count * rounds} backends replaced in ${seconds.toFixed(1)} s, ${begun} connections, ${(begun / seconds).toFixed(0)} a second, ` +
      `${served} of them served by who has gone; ${failed.length} failed, ${late.length} took more than 300 ms`,
  );
  t.same(failed, [], 'no request failed');
  const answers = seen.flatMap(({ answered }) => Object.values(answered));
  t.equal(
    answers.reduce((sum, one) => sum + one, 0),
    begun,
    'each was answered',
  );
  for (const { name } of mesh.backends) t.ok(names.has(name), `${name} has answered`);
}
