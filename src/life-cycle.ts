/**
 * How a switch starts, and how it ends.
 *
 *   start   the underlay, what is declared, the outside; then frames are forwarded, and after that what was changed is restored
 *   close   the same backwards; the stores and the datapath come last
 */
import { removeConnections } from './addon/connection-memory.ts';
import { WeftError } from './error.ts';
import { endpointKind } from './model/kinds/endpoint.ts';
import type { SharedStoreReport } from './model/report.ts';
import type { Parts, SwitchOptions } from './parts.ts';
import type { Upkeep } from './upkeep.ts';

export interface CloseOptions {
  /** Removes the endpoints of this host, with their interfaces. */
  readonly purge?: boolean;
  /** Leaves everything as it is for another switch. */
  readonly retain?: boolean;
}

/** Of a host whose store is away, nothing can be removed. @throws WeftError, before anything is done */
export function refusePurge(sharedStore: SharedStoreReport | null): void {
  if (!sharedStore || sharedStore.reachable) return;
  throw new WeftError(
    'unreachable',
    `the store cannot be reached (${sharedStore.why}): what it has of this host cannot be removed, so nothing was; \`weft down\` stops weft and keeps it`,
  );
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
   * Stops. TAPs stay in their containers for the next start, unless `purge` removes them and their endpoints. With
   * `retain`, all is left as it is for another switch: what is open becomes spare in `descriptors`, and the way outside
   * stays as it is. Changes that are under way are finished before.
   */
  async close({ purge = false, retain = false }: CloseOptions = {}): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#isForwarding = false;
    this.#environment.upkeep.close();
    const { blocks, classes, cluster, endpoints, forwarding, health, hooks, hosts, internal, membership } = this.#parts;
    const { observer, outside, own, paths, peers, resolvConfs, store, underlay, watcher } = this.#parts;
    if (retain) peers.askForPatience();
    underlay.close();
    observer.close();
    this.#parts.metricsServer.close();
    this.#parts.eventLoop.close();
    health.unhealthy.close();
    this.#parts.questions?.close();
    paths.close();
    await Promise.all([cluster.serial.close(), blocks?.close(), classes.close({ purge })]);
    try {
      if (purge) {
        await membership.leave();
        await cluster.purge(() => hosts.planFarewell());
      }
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
      if (purge && connectionsFile !== undefined) removeConnections(connectionsFile);
      // Last, because frames of a switch that is to be followed by another one wait from here on.
      await Promise.all([store.close(), own.close()]).finally(() => forwarding.close());
    }
  }
}
