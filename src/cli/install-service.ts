/** `weft install-service`: the systemd unit. */
import { existsSync, mkdirSync, readFileSync, realpathSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { WeftError } from '../error.ts';
import { packageRoot } from '../package.ts';
import { print } from './print.ts';
import { globals, verb } from './verb.ts';

const NAME = 'weft.service';
const DEFAULT_DIRECTORY = '/etc/systemd/system';
/** There where systemd runs (sd_booted(3)). */
const BOOTED = '/run/systemd/system';

export function installService(program: Command): void {
  verb(program, 'install-service', {
    summary: 'put the systemd unit of the daemon where systemd finds it; it is not started',
    examples: [
      'weft install-service',
      'systemctl enable --now weft',
      'systemctl edit weft      # options: an empty ExecStart=, then one with the full command',
    ],
  })
    .option('--dir <dir>', 'the folder of units', DEFAULT_DIRECTORY)
    .action(async ({ dir }: { readonly dir: string }, command: Command) => {
      const path = place(dir);
      if (dir === DEFAULT_DIRECTORY && existsSync(BOOTED)) await reload();
      const next = 'start it with `systemctl enable --now weft`';
      await print(globals(command).output, { path }, () => `${path} installed: ${next}\n`);
    });
}

/** @returns the path of the unit */
function place(dir: string): string {
  const path = join(dir, NAME);
  const text = readFileSync(join(packageRoot, 'src/setup', NAME), 'utf8');
  try {
    mkdirSync(dir, { recursive: true });
    writeFileSync(
      `${path}.new`,
      text.replace(/^ExecStart=.*$/m, () => `ExecStart=${commandLine()} up`),
    );
    renameSync(`${path}.new`, path);
  } catch (error) {
    const why = (error as Error).message;
    throw new WeftError(
      'system',
      `${path} cannot be written: ${why}; run it as root, or name another folder with --dir`,
      {
        cause: error,
      },
    );
  }
  return path;
}

/** This program by this Node.js, wherever they are: systemd looks only in its own PATH. */
function commandLine(): string {
  const words = [process.execPath, realpathSync(process.argv[1]!)];
  return words
    .map((word) =>
      /[\s"'\\%$]/.test(word) ? JSON.stringify(word).replaceAll('%', '%%').replaceAll('$', '$$$$') : word,
    )
    .join(' ');
}

async function reload(): Promise<void> {
  const { spawnSync } = await import('node:child_process');
  const { status, stderr, error } = spawnSync('systemctl', ['daemon-reload'], { encoding: 'utf8' });
  if (status === 0) return;
  throw new WeftError('system', `systemctl daemon-reload: ${error?.message ?? stderr.trim()}`);
}
