/** The program of the executable, with all commands in the order of the help. load-program.ts says how it is loaded. */
import { CommanderError, type Command } from 'commander';
import { version } from '../package.ts';
import { apply, confirm } from './apply.ts';
import { attach } from './attach.ts';
import { capture } from './capture.ts';
import { completion } from './completion.ts';
import { connections } from './connections.ts';
import { deleteVerb } from './delete.ts';
import { demoVerb } from './demo-verb.ts';
import { describe } from './describe.ts';
import { detach } from './detach.ts';
import { diff } from './diff.ts';
import { doctor } from './doctor.ts';
import { down } from './down.ts';
import { drops } from './drops.ts';
import { endpoints } from './endpoints.ts';
import { flows } from './flows.ts';
import { hook } from './hook.ts';
import { hosts } from './hosts.ts';
import { installService } from './install-service.ts';
import { cni } from './cni.ts';
import { key } from './key.ts';
import { get } from './get.ts';
import { loadKinds } from './kind.ts';
import { label } from './label.ts';
import { metrics } from './metrics.ts';
import { network } from './network.ts';
import { policy } from './policy.ts';
import { schema } from './schema.ts';
import { services } from './services.ts';
import { status } from './status.ts';
import { trace } from './trace.ts';
import { up } from './up.ts';
import { createProgram, run } from './verb.ts';
import { why } from './why.ts';

/** What `weft up` runs besides, for the build. */
export { loadDaemon } from './up.ts';

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
  services,
  apply,
  confirm,
  diff,
  deleteVerb,
  get,
  describe,
  label,
  trace,
  flows,
  why,
  drops,
  policy,
  hook,
  connections,
  capture,
  metrics,
  key,
  cni,
  schema,
  installService,
  demoVerb,
  completion,
];

/** Runs a command line as in `process.argv`. Never throws; sets the exit code. */
export async function main(argv: readonly string[]): Promise<void> {
  const program = commandLine();
  const [, , verb, ...words] = argv;
  if (verb === '__complete') {
    const { complete } = await import('./complete.ts');
    await complete(program, words);
    // The daemon may not have answered.
    process.exit();
  }
  // The help names the kinds.
  if (argv.some((word) => word === '--help' || word === '-h')) await loadKinds();
  await run(program, argv);
}

/** The manual pages, by their file names. For the build. */
export async function manual(): Promise<ReadonlyMap<string, string>> {
  const [{ manPages }] = await Promise.all([import('./man.ts'), loadKinds()]);
  return manPages(commandLine());
}

/** Reads a command line as `main` does, and runs nothing. For the build (load-program.ts). */
export async function read(argv: readonly string[]): Promise<void> {
  const program = commandLine();
  program.hook('preAction', () => {
    throw new CommanderError(0, 'weft.read', '');
  });
  await run(program, argv);
}

function commandLine(): Command {
  const program = createProgram(version);
  for (const register of verbs) register(program);
  return program;
}
