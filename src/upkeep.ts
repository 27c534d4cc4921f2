/**
 * What a switch does by itself: about once a second, it checks and repairs what it has, and it follows what disappears.
 */
import type { Logger } from 'pino';
import type { Attached } from './cluster/attachments.ts';
import { WeftError } from './error.ts';
import type { PortNo } from './flow/types.ts';
import { INTERNAL_PORT, OUTSIDE_PORT, UNDERLAY_PORT, type Parts } from './parts.ts';

const TICK_MS = 1000;
/** How often the kernel is asked for new path MTUs. Connections stall until then. */
const PATH_TICK_MS = 250;
/** How many ticks pass until rules of the outside that another program removed are restored. */
const RENEW_TICKS = 5;

/** How `weft status` calls those that are not of containers. */
const OWN_PORTS: ReadonlyMap<PortNo, string> = new Map([
  [UNDERLAY_PORT, 'underlay'],
  [OUTSIDE_PORT, 'outside'],
  [INTERNAL_PORT, 'internal'],
]);

export class Upkeep {
  readonly #parts: () => Parts;
  readonly #logger: Logger;
  readonly #every: typeof setInterval;
  /** Checks that are running. */
  readonly #renewing = new Set<string>();
  readonly #tickers: NodeJS.Timeout[] = [];
  #isClosed = false;

  /** @param parts is not called before something happens */
  constructor(parts: () => Parts, logger: Logger, every: typeof setInterval) {
    this.#parts = parts;
    this.#logger = logger;
    this.#every = every;
  }

  start(): void {
    const { blocks, classes, cni, docker, endpoints, forwarding, hooks, hosts, internal, metricsServer } =
      this.#parts();
    const { outside, paths, peers, probeKey, questions, underlay } = this.#parts();
    paths.watch(hosts.vteps());
    peers.follow();
    this.#tickers.push(this.#every(() => paths.look(), PATH_TICK_MS));
    if (outside.isUnfinished) this.#renew('outside', () => outside.mend());
    let ticks = 0;
    const tick = (): void => {
      void underlay.keep();
      metricsServer.keep();
      blocks?.keepSoon();
      void cni.keep();
      paths.watch(hosts.vteps());
      void probeKey?.keep();
      void questions?.keep();
      peers.follow();
      if (++ticks % RENEW_TICKS === 0 && outside.isWanted) this.#renew('outside', () => outside.mend());
      if (ticks % RENEW_TICKS === 0) this.#renew('internal', () => internal.mend());
      this.#renew('endpoints', async () => {
        if (await endpoints.renew()) await outside.keep();
      });
      if (docker.isWanted) {
        this.#renew('docker', async () => {
          if (await docker.keep()) await outside.keep();
        });
      }
      void hooks.files.look();
      void hooks.keeper.tick();
      forwarding.controller.tick();
      forwarding.controller.audit.tick();
      classes.tick();
    };
    this.#tickers.push(this.#every(tick, TICK_MS));
  }

  close(): void {
    this.#isClosed = true;
    for (const ticker of this.#tickers) clearInterval(ticker);
  }

  onPortLost(port: PortNo, why: string): void {
    const { endpoints, internal, outside, underlay } = this.#parts();
    // By the time that it is handled, the number may belong to another endpoint.
    const lost = endpoints.attachedAt(port);
    this.#logger.warn({ port: OWN_PORTS.get(port) ?? port, endpoint: endpoints.portName(port), why }, 'port lost');
    void this.#change(async () => {
      if (port === UNDERLAY_PORT) underlay.lost(why);
      else if (port === OUTSIDE_PORT) await outside.lost();
      else if (port === INTERNAL_PORT) await internal.lost(why);
      else if (lost) await endpoints.detach(lost);
      await outside.keep();
    });
  }

  onNamespaceGone(gone: Attached): void {
    const { endpoints, outside } = this.#parts();
    void this.#change(async () => {
      if (!(await endpoints.removeGone(gone))) return;
      await outside.keep();
      this.#logger.info({ endpoint: gone.endpoint }, 'endpoint released: its namespace is gone');
    });
  }

  /** Starts a check, unless the previous one of this kind is still running. */
  #renew(what: string, work: () => Promise<unknown>): void {
    if (this.#renewing.has(what)) return;
    this.#renewing.add(what);
    void this.#change(work).finally(() => this.#renewing.delete(what));
  }

  /** Makes a change that nobody has asked for, and puts what the watch reports of it into force. */
  async #change(change: () => Promise<unknown>): Promise<void> {
    const { cluster } = this.#parts();
    try {
      await cluster.serial.run(async () => {
        await change();
        await cluster.enforce();
      });
    } catch (error) {
      // Closing the switch refuses everything that was still queued.
      if (this.#isClosed && error instanceof WeftError && error.code === 'conflict') return;
      this.#logger.error({ err: error }, 'unexpected');
    }
  }
}
