/** What a switch does by itself: it looks after what it has, about once a second, and follows what goes away. */
import type { Logger } from 'pino';
import { WeftError } from './error.ts';
import type { PortNo } from './flow/types.ts';
import { OUTSIDE_PORT, UNDERLAY_PORT, type Parts } from './parts.ts';

const TICK_MS = 1000;
/** How often the kernel is asked what it was told of the paths: connections stand still meanwhile. */
const PATH_TICK_MS = 250;
/** How long another program may have taken the rules of the outside away. */
const RENEW_TICKS = 5;

export class Upkeep {
  readonly #parts: () => Parts;
  readonly #logger: Logger;
  readonly #every: typeof setInterval;
  /** What is being looked at. */
  readonly #renewing = new Set<string>();
  readonly #tickers: NodeJS.Timeout[] = [];
  #isClosed = false;

  /** @param parts not asked for before something happens */
  constructor(parts: () => Parts, logger: Logger, every: typeof setInterval) {
    this.#parts = parts;
    this.#logger = logger;
    this.#every = every;
  }

  start(): void {
    const { endpoints, forwarding, hosts, outside, paths, underlay } = this.#parts();
    paths.watch(hosts.vteps());
    this.#tickers.push(this.#every(() => paths.look(), PATH_TICK_MS));
    let ticks = 0;
    const tick = (): void => {
      void underlay.keep();
      paths.watch(hosts.vteps());
      if (++ticks % RENEW_TICKS === 0 && outside.isWanted) this.#renew('outside', () => outside.mend());
      this.#renew('endpoints', async () => {
        if (await endpoints.renew()) await outside.keep();
      });
      forwarding.controller.tick();
    };
    this.#tickers.push(this.#every(tick, TICK_MS));
  }

  close(): void {
    this.#isClosed = true;
    for (const ticker of this.#tickers) clearInterval(ticker);
  }

  onPortLost(port: PortNo, why: string): void {
    const { endpoints, outside, underlay } = this.#parts();
    this.#logger.warn({ port, endpoint: endpoints.portName(port), why }, 'port lost');
    void this.#change(async () => {
      if (port === UNDERLAY_PORT) underlay.lost(why);
      else if (port === OUTSIDE_PORT) await outside.lost();
      else await endpoints.detach(port);
      await outside.keep();
    });
  }

  onNamespaceGone(name: string): void {
    const { endpoints, outside } = this.#parts();
    void this.#change(async () => {
      await endpoints.removeGone(name);
      await outside.keep();
      this.#logger.info({ endpoint: name }, 'endpoint released: its namespace is gone');
    });
  }

  /** Looks after something, unless that is still being done. */
  #renew(what: string, work: () => Promise<unknown>): void {
    if (this.#renewing.has(what)) return;
    this.#renewing.add(what);
    void this.#change(work).finally(() => this.#renewing.delete(what));
  }

  /** A change that nobody has asked for, and what the watch tells of it. */
  async #change(change: () => Promise<unknown>): Promise<void> {
    const { cluster } = this.#parts();
    try {
      await cluster.serial.run(async () => {
        await change();
        await cluster.enforce();
      });
    } catch (error) {
      // What was still to be done when the switch was closed was refused.
      if (this.#isClosed && error instanceof WeftError && error.code === 'conflict') return;
      if (error instanceof WeftError && error.code === 'not_found') return;
      this.#logger.error({ err: error }, 'unexpected');
    }
  }
}
