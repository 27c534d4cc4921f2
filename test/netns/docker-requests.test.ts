/**
 *   docker run … ─► dockerd ─► weft.sock ─► weft, the next weft, or weft's holder
 *
 * What Docker asks while weft is taken over from, restarted or killed: it repeats no request as it was, and waits for as long as
 * nobody answers. So each is answered by the one that was asked or by the next one, or refused soon, with the reason.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Dockerd } from '../support/dockerd.ts';
import { upForDocker } from '../support/docker.ts';
import { openLab } from '../support/lab.ts';
import { monotonicMs, until, type Result } from '../support/process.ts';

t.setTimeout(600_000);

const LOOPS = 3;
/** No call of Docker may take longer. */
const LONGEST_MS = 5000;

await t.test('requests of Docker while weft is not there', async (t) => {
  const lab = openLab(t);
  const host = await lab.namespace('host');
  const { weft, plugins } = await upForDocker(lab, host, { datapath: 'native' });
  await weft.createNetwork('blue --subnet 10.44.0.0/24');
  const docker = await Dockerd.up(lab, host, plugins);
  await docker.run(
    ...['network', 'create', '-d', 'weft', '--ipam-driver', 'weft', '--ipam-opt', 'network=blue', '-o', 'network=blue'],
    ...['--subnet', '10.44.0.0/24', 'blue'],
  );
  const timed = async (...words: readonly string[]): Promise<Result & { readonly tookMs: number }> => {
    const began = monotonicMs();
    const result = await docker.attempt(...words);
    return { ...result, tookMs: monotonicMs() - began };
  };
  const runOnce = () =>
    timed('run', '--rm', '--init=false', '--network', 'blue', 'busybox', '/bin/ip', '-o', 'address', 'show', 'eth0');
  const isEmpty = async (): Promise<boolean> => (await weft.client.endpoints()).length === 0;

  await t.test('containers are run as if nothing were', async (t) => {
    const results: Awaited<ReturnType<typeof runOnce>>[] = [];
    let isOver = false;
    const loops = Array.from({ length: LOOPS }, async () => {
      while (!isOver) results.push(await runOnce());
    });
    const goesOn = async (what: string): Promise<void> => {
      const then = results.length + LOOPS;
      await until(() => results.length > then, { what: `containers are run ${what}`, timeoutMs: 60_000 });
    };
    await goesOn('at first');
    for (let time = 1; time <= 3; time++) {
      await weft.takeOver();
      await goesOn(`after takeover ${time}`);
    }
    await weft.stop();
    await weft.start();
    await goesOn('after a restart');
    isOver = true;
    await Promise.all(loops);
    t.same(
      results.filter(({ code }) => code !== 0).map(({ stderr }) => stderr),
      [],
      `${results.length} containers`,
    );
    t.ok(results.every(({ stdout }) => stdout.includes('10.44.0.')));
    t.ok(await isEmpty(), 'what Docker has given back is free at once');
    t.notMatch(weft.log(), /Docker asked for what cannot be done/);
    t.comment(`the longest took ${Math.round(Math.max(...results.map(({ tookMs }) => tookMs)))} ms`);
  });

  await t.test('weft is killed, and another one starts', async (t) => {
    await weft.kill();
    const waiting = runOnce();
    await weft.start();
    t.match(await waiting, { code: 0, stdout: /10\.44\.0\./ }, 'the next one answers');
    await until(isEmpty, { what: 'its address is free' });
  });

  await t.test('weft is killed, and none starts', async (t) => {
    await docker.run(
      'run',
      '--detach',
      '--init=false',
      '--name',
      'web',
      '--network',
      'blue',
      'busybox',
      '/bin/sleep',
      '999',
    );
    await weft.kill();
    const first = await runOnce();
    t.match(first, { code: 125, stderr: /weft was killed, and has not started again: start it, and try again/ });
    for (const words of [
      ['run', '--rm', '--network', 'blue', 'busybox', '/bin/true'],
      ['network', 'connect', 'blue', 'web'],
      ['network', 'disconnect', '--force', 'blue', 'web'],
      ['rm', '--force', 'web'],
      [
        'network',
        'create',
        '-d',
        'weft',
        '--ipam-driver',
        'weft',
        '--ipam-opt',
        'network=blue',
        '-o',
        'network=blue',
        'green',
      ],
      ['run', '--rm', '--network', 'none', 'busybox', '/bin/true'],
    ]) {
      const { tookMs, code, stderr } = await timed(...words);
      t.comment(`${words.slice(0, 2).join(' ')}: ${code}, ${Math.round(tookMs)} ms ${stderr.trim()}`);
      t.ok(tookMs < LONGEST_MS, `docker ${words.slice(0, 2).join(' ')} does not hang`);
    }
    await weft.start();
    t.match(await runOnce(), { code: 0 });
    await until(isEmpty, { what: 'what Docker has said in vain is found', timeoutMs: 180_000 });
  });

  await t.test('another dockerd starts while weft is killed', async (t) => {
    await weft.kill();
    await docker.kill();
    const began = monotonicMs();
    await docker.start();
    t.comment(`dockerd has started after ${Math.round(monotonicMs() - began)} ms`);
    const refused = await runOnce();
    t.match(refused, { code: 125, stderr: /weft was killed/ });
    t.ok(refused.tookMs < LONGEST_MS);
    await weft.start();
    t.match(await runOnce(), { code: 0 }, 'it asks again');
  });

  await docker.run('network', 'rm', 'blue');
  await weft.stop();
  t.equal(existsSync(join(plugins, 'weft.sock')), false);
  await weft.start();
  await weft.kill();
  t.equal(existsSync(join(plugins, 'weft.sock')), true);
  await until(() => !existsSync(join(plugins, 'weft.sock')), {
    what: 'no socket is left where nobody listens',
    timeoutMs: 120_000,
  });
});
