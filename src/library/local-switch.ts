/** A switch in the process of the program that opens it. */
import { pino, type Logger } from 'pino';
import { Client } from '../api/client.ts';
import { LocalTransport } from '../api/local.ts';
import { configFrom, type SwitchConfig } from '../config.ts';
import { WeftError } from '../error.ts';
import type { CloseOptions } from '../life-cycle.ts';
import { missingCapabilities } from '../link/capabilities.ts';
import { createSwitch as openSwitch, type Switch } from '../switch.ts';
import { SwitchHandle } from './switch-handle.ts';

/** All have defaults: those of `weft up`. */
export interface LocalSwitchOptions extends SwitchConfig {
  /** By default warnings and errors go to stderr, as lines of JSON. */
  readonly logger?: Logger;
  /** The file that lets connections survive a crash, best on a tmpfs. Without it, they do not. */
  readonly connectionsFile?: string;
}

/**
 * Opens a switch in this process, which needs the rights of `weft up`. It forwards when this returns, or, with a shared store that
 * was never reached, as soon as that is.
 * @throws WeftError, one line that says what is wrong and how to mend it; nothing is left open then
 */
export async function createSwitch(options: LocalSwitchOptions = {}): Promise<LocalSwitch> {
  const { logger = warningLogger(), connectionsFile, ...config } = options;
  const missing = missingCapabilities();
  if (missing.length > 0) {
    throw new WeftError('system', `a switch needs root: ${missing.join(' and ')} missing, run this program as root`);
  }
  const complete = configFrom(config);
  return new LocalSwitch(
    await openSwitch({ ...complete, logger, ...(connectionsFile !== undefined && { connectionsFile }) }),
    logger,
  );
}

export class LocalSwitch extends SwitchHandle {
  readonly #sw: Switch;
  readonly #life: { isClosing: boolean };

  /** Use `createSwitch`. */
  constructor(sw: Switch, logger: Logger) {
    const life = { isClosing: false };
    const target = { sw, isStopping: () => life.isClosing, shutdown: (how: CloseOptions) => sw.close(how) };
    super(new Client(new LocalTransport(target, (error) => logger.error({ err: error }, 'internal error'))));
    this.#sw = sw;
    this.#life = life;
  }

  /**
   * Stops it, as `weft down`: interfaces stay in their containers for the next switch with the same `state`, unless `purge` removes
   * them with their endpoints. Changes that are under way are finished before.
   * @throws WeftError with `purge` if the store does not answer: nothing is done then, and the switch goes on; or if it fell silent after
   * that: then the switch is closed as without `purge`, and the message says so
   */
  async close({ purge = false }: Pick<CloseOptions, 'purge'> = {}): Promise<void> {
    if (purge) await this.#sw.life.refusePurge();
    this.#life.isClosing = true;
    this.endFollowing();
    await this.#sw.close({ purge });
  }

  /** Closes it, at the end of `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function warningLogger(): Logger {
  const form = {
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (level: string) => ({ level }) },
  };
  return pino({ ...form, level: 'warn' }, process.stderr);
}
