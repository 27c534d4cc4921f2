#!/usr/bin/env node
/** The executable, with all commands in the order of the help. */
import { version } from '../package.ts';
import { apply } from './apply.ts';
import { attach } from './attach.ts';
import { capture } from './capture.ts';
import { completion } from './completion.ts';
import { connections } from './connections.ts';
import { deleteVerb } from './delete.ts';
import { demoVerb } from './demo-verb.ts';
import { describe } from './describe.ts';
import { detach } from './detach.ts';
import { doctor } from './doctor.ts';
import { down } from './down.ts';
import { drops } from './drops.ts';
import { endpoints } from './endpoints.ts';
import { flows } from './flows.ts';
import { hosts } from './hosts.ts';
import { key } from './key.ts';
import { get } from './get.ts';
import { loadKinds } from './kind.ts';
import { label } from './label.ts';
import { metrics } from './metrics.ts';
import { network } from './network.ts';
import { status } from './status.ts';
import { trace } from './trace.ts';
import { up } from './up.ts';
import { createProgram, run } from './verb.ts';
import { why } from './why.ts';

const program = createProgram(version);
const verbs = [
  up,
  down,
  status,
  doctor,
  hosts,
  network,
  attach,
  detach,
  endpoints,
  apply,
  deleteVerb,
  get,
  describe,
  label,
  trace,
  flows,
  why,
  drops,
  connections,
  capture,
  metrics,
  key,
  demoVerb,
  completion,
];
for (const register of verbs) register(program);
const [, , verb, ...words] = process.argv;
if (verb === '__complete') {
  const { complete } = await import('./complete.ts');
  await complete(program, words);
  // The daemon may not have answered.
  process.exit();
}
// The help names the kinds.
if (process.argv.some((word) => word === '--help' || word === '-h')) await loadKinds();
await run(program, process.argv);
