/** Executes CNI plugins one after the other, as a runtime does, in the namespace that it was started in: calls on stdin, times on stdout. */
import { spawnSync } from 'node:child_process';
import { text } from 'node:stream/consumers';

const outcomes = JSON.parse(await text(process.stdin)).map(({ plugin, env, config }) => {
  const began = performance.now();
  const { status, stdout } = spawnSync(plugin, [], { env, input: config, encoding: 'utf8' });
  return { ms: performance.now() - began, status, stdout };
});
process.stdout.write(JSON.stringify(outcomes));
