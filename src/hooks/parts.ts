/** The parts that put hooks into force, and how they are connected. */
import { DeclaredHooks } from '../cluster/hooks.ts';
import type { Forwarding } from '../forwarding.ts';
import { HookFiles } from './files.ts';
import { HookKeeper, type HookKeeperEnvironment } from './keeper.ts';

export interface HookParts {
  /** Those that are declared. */
  readonly declared: DeclaredHooks;
  /** Those in files of this host. */
  readonly files: HookFiles;
  readonly keeper: HookKeeper;
}

export interface HookPartsEnvironment extends Omit<HookKeeperEnvironment, 'tables' | 'enforce'> {
  readonly forwarding: Pick<Forwarding, 'tables' | 'controller'>;
  /** Absolute paths. */
  readonly files: readonly string[];
}

export function hookParts({ forwarding, files, ...environment }: HookPartsEnvironment): HookParts {
  const { tables, controller } = forwarding;
  const keeper = new HookKeeper({ ...environment, tables: tables.hooks, enforce: () => controller.enforce() });
  return { keeper, declared: new DeclaredHooks({ keeper }), files: new HookFiles(files, keeper) };
}
