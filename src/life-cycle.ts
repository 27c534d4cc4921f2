/**
 * How a switch starts, and how it ends.
 *
 *   start   the underlay, what is declared, the outside; then frames are forwarded, and after that what was changed is restored
 *   close   the same backwards; the stores and the datapath come last
 */
import { removeConnections } from './addon/connection-memory.ts';
import { WeftError } from './error.ts';
import { endpointKind } from './model/kinds/endpoint.ts';
import type { Parts, SwitchOptions } from './parts.ts';
import type { Upkeep } from './upkeep.ts';

export interface CloseOptions {
  /** Removes the endpoints of this host, with their interfaces. */
  readonly purge?: boolean;
  /** Leaves everything as it is for another switch. */
  readonly retain?: boolean;
}

export interface LifeCycleEnvironment {
  readonly upkeep: Upkeep;
  /** Lets the datapath forward. */
  readonly begin: () => void;
  readonly after: (delayMs: number, work: () => void) => () => void;
}

/** How often, and how long after each other, a start looks whether frames that have waited are decided. */
const BACKLOG_LOOKS = 10;
const BACKLOG_LOOK_MS = 20;

export class LifeCycle {
  readonly #options: SwitchOptions;
  readonly #parts: Parts;
  readonly #environment: LifeCycleEnvironment;
  #isForwarding = false;
  /** The start is over, and it does not forward yet: a shared store is away. */
  #isLate = false;
  #isClosed = false;

  constructor(options: SwitchOptions, parts: Parts, environment: LifeCycleEnvironment) {
    this.#options = options;
    this.#parts = parts;
    this.#environment = environment;
  }

  get isForwarding(): boolean {
    return this.#isForwarding;
  }

  /** Puts the configuration and the store into force, before whatever happens meanwhile. Called once. */
  async start(): Promise<void> {
    const { cluster, hooks, membership, metricsServer, outside, underlay } = this.#parts;
    metricsServer.keep();
    hooks.keeper.start();
    const hasBacklog = (this.#options.descriptors?.spareTaps().length ?? 0) > 0;
    await cluster.serial.run(async () => {
      // They are loaded beside all that follows.
      await hooks.files.look();
      await outside.prepare();
      await underlay.keep();
      await cluster.start(
        () => this.#started(hasBacklog),
        () => membership.start(),
      );
    });
    this.#isLate = !this.#isForwarding;
  }

  /** Called when everything that is declared is in force: it forwards by now. What follows restores what was changed. */
  async #started(hasBacklog: boolean): Promise<void> {
    const { blocks, classes, cluster, endpoints, forwarding, hooks, internal, outside } = this.#parts;
    await Promise.all([outside.start(), hooks.keeper.inForce()]);
    forwarding.endConnections(endpoints.isGone());
    // And those to backends that have gone, of which both ends are told: also who came in from outside, now that the way is open.
    forwarding.servicesLoaded();
    // What policies do not allow any more must not go on, not even for a moment.
    forwarding.controller.sweep.startAll();
    await forwarding.controller.sweep.done();
    // Everything is in force and open: from here on frames are forwarded.
    this.#environment.begin();
    if (hasBacklog) await this.#passBacklog();
    if (await endpoints.started((name) => cluster.isDeclared(endpointKind, name))) await outside.keep();
    await Promise.all([endpoints.mend(), internal.mend()]);
    this.#options.descriptors?.closeSpare();
    void classes.start();
    this.#environment.upkeep.start();
    blocks?.start();
    this.#isForwarding = true;
    if (this.#isLate) this.#options.logger.info({ host: this.#options.host }, 'forwarding');
  }

  /**
   * Lets what another daemon has left waiting in the kernel be decided. What follows at a start occupies the event loop for
   * tens of milliseconds, which connections would wait for.
   */
  async #passBacklog(): Promise<void> {
    const { datapath } = this.#parts.forwarding;
    for (let look = 0, before = -1; look < BACKLOG_LOOKS && datapath.counters().upcalls > before; look++) {
      before = datapath.counters().upcalls;
      await new Promise<void>((resolve) => this.#environment.after(BACKLOG_LOOK_MS, resolve));
    }
  }

  /**
   * To be called before anything is stopped for a `purge`: asks the shared store, which may have fallen silent just now.
   * @throws WeftError if what it has of this host cannot be removed
   */
  async refusePurge(): Promise<void> {
    try {
      await this.#parts.feed.ask();
    } catch (error) {
      const { code, message } = error as WeftError;
      const what = 'what it has of this host cannot be removed, so nothing was';
      throw new WeftError(code, `${message}: ${what}; \`weft down\` stops weft and keeps it`, { cause: error });
    }
  }

  /**
   * Stops. TAPs stay in their containers for the next start, unless `purge` removes them and their endpoints. With
   * `retain`, all is left as it is for another switch: what is open becomes spare in `descriptors`, and the way outside
   * stays as it is. Changes that are under way are finished before.
   * @throws WeftError if nothing could be purged: all the same it has stopped, as without `purge`
   */
  async close({ purge = false, retain = false }: CloseOptions = {}): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#isForwarding = false;
    this.#environment.upkeep.close();
    const { blocks, classes, cluster, endpoints, forwarding, health, hooks, internal, membership } = this.#parts;
    const { observer, outside, own, paths, peers, resolvConfs, store, underlay, watcher } = this.#parts;
    if (retain) peers.askForPatience();
    underlay.close();
    observer.close();
    this.#parts.metricsServer.close();
    this.#parts.eventLoop.close();
    health.unhealthy.close();
    this.#parts.questions?.close();
    paths.close();
    await Promise.all([cluster.serial.close(), blocks?.close()]);
    const failure = purge ? await this.#purge() : undefined;
    const isPurged = purge && !failure;
    try {
      await classes.close({ purge: isPurged });
      if (retain) this.#options.descriptors?.retain();
      else {
        resolvConfs.close();
        await endpoints.close();
      }
      await Promise.all([...(retain ? [] : [outside.close()]), internal.close()]);
    } finally {
      await membership.close({ retain });
      await cluster.close();
      await hooks.keeper.close();
      watcher.close();
      const { connectionsFile } = this.#options;
      if (isPurged && connectionsFile !== undefined) removeConnections(connectionsFile);
      // Last, because frames of a switch that is to be followed by another one wait from here on.
      await Promise.all([store.close(), own.close()]).finally(() => forwarding.close());
    }
    if (failure) throw failure;
  }

  /** @returns why nothing was removed; undefined if all was */
  async #purge(): Promise<WeftError | undefined> {
    const { cluster, hosts, membership } = this.#parts;
    try {
      await membership.leave();
      await cluster.purge(() => hosts.planFarewell());
      return undefined;
    } catch (error) {
      const { code, message } = error as WeftError;
      const then = '`weft up`, and then `weft down --purge`, removes it';
      return new WeftError(code, `weft has stopped, and has removed nothing: ${message}; ${then}`, { cause: error });
    }
  }
}
