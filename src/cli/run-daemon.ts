/**
 * The life of the daemon.
 *
 *   1. configuration; capabilities that are not needed are dropped; hooks in files begin to be loaded
 *   2. with --takeover: all hooks are loaded, and then everything that the running daemon has open is taken over
 *      from it; otherwise what a killed one has left is found
 *   3. claim the socket: a second daemon is refused before it touches anything
 *   4. the switch: from here on frames are forwarded
 *   5. the API; descriptors are kept in another process, so that they survive a crash
 *   6. until SIGINT, SIGTERM, `weft down`, or another daemon takes over: close the switch (ports stay unless
 *      purged), then release the socket
 */
import { spawn } from 'node:child_process';
import { existsSync, realpathSync, rmSync } from 'node:fs';
import type { Logger } from 'pino';
import { removeConnections } from '../addon/connection-memory.ts';
import { HeapTrimmer, limitHeap } from '../addon/heap.ts';
import { duplicate } from '../addon/passing.ts';
import { keepCapabilities } from '../addon/privileges.ts';
import { Client } from '../api/client.ts';
import { openApi, API_DESCRIPTOR, type ApiServer } from '../api/server.ts';
import { textOf } from '../cluster/hooks.ts';
import { refuseOtherStore } from '../cluster/store-of-attachments.ts';
import { loadConfig, type DaemonConfig } from '../config.ts';
import { DOCKER_SOCKET } from '../drivers/docker/docker.ts';
import { WeftError } from '../error.ts';
import { connectionFileHeader } from '../flow/connection.ts';
import { closeAll, Descriptors, DOCKER_DESCRIPTOR } from '../handover/descriptors.ts';
import { Holder } from '../handover/holder.ts';
import { Predecessor } from '../handover/predecessor.ts';
import { FORWARD_MS } from '../handover/request.ts';
import { Successor } from '../handover/successor.ts';
import { Systemd } from '../handover/systemd.ts';
import { loadFiles } from '../hooks/files.ts';
import { ReadyHooks } from '../hooks/ready.ts';
import { isSilent } from '../http/socket.ts';
import { connectionCap } from '../http/connection-cap.ts';
import { openUnixServer, type UnixServer } from '../http/unix-server.ts';
import { keptCapabilities, missingCapabilities } from '../link/capabilities.ts';
import { heapBytesOf, memoryBytes } from '../memory.ts';
import type { HookResource } from '../model/kinds/hook.ts';
import { idOf } from '../model/resource.ts';
import { placeName } from '../model/store-config.ts';
import { version } from '../package.ts';
import { claimDirectory, LOCK_DESCRIPTOR, lockHolder } from '../store/lock.ts';
import { createSwitch, type Switch } from '../switch.ts';
import { openLogger } from './logger.ts';

/** How often the daemon checks whether the heap can give memory back. */
const TRIM_MS = 3000;
/** How long responses in progress may take when the daemon stops. */
const CLOSE_MS = 1000;
/** How long connections may take to end when everything has stopped. To a store that is silent, they do not. */
const LEAVE_MS = 2000;
/** How long who connects as Docker may take to send its request while others wait. */
const DOCKER_SENDING_MS = 1000;
/** How long answers to Docker may take when the daemon stops, or hands over. */
const DOCKER_ANSWER_MS = 4000;
/** A running daemon that has not answered for so long hangs. */
const SILENT_MS = 5000;
/** How often a takeover looks at most whether there are other hooks, since they have changed while those before were loaded. */
const HOOK_LOOKS = 5;
/** The pause before a holder that has ended is started again, which doubles each time until one stays. */
const HOLDER_PAUSE_MS = { first: 1000, longest: 600_000 };
/** How often the daemon checks whether the next one would find the holder. */
const HOLDER_LOOK_MS = 2000;

const WAITING = 'waiting for the state of the cluster';

type Shutdown = { readonly purge: boolean };

export interface RunOptions {
  /** What `loadConfig` takes. */
  readonly config: Parameters<typeof loadConfig>[0];
  readonly socket: string;
  readonly takeover: boolean;
  /** The first signal to stop. */
  readonly signal: Promise<NodeJS.Signals>;
}

/** Runs until the daemon is stopped, or another one has taken over. @throws WeftError */
export async function runDaemon(options: RunOptions): Promise<void> {
  const config = asUsage(() => loadConfig(options.config));
  requireCapabilities();
  limitHeap(heapBytesOf(memoryBytes(), config.flowLimit));
  const logger = openLogger();
  keepCapabilities(keptCapabilities);
  await new Daemon(options, config, logger).run();
}

class Daemon {
  readonly #options: RunOptions;
  readonly #config: DaemonConfig;
  readonly #logger: Logger;
  readonly #systemd: Systemd | undefined;
  readonly #descriptors: Descriptors;
  readonly #predecessor: Predecessor;
  readonly #hooks: ReadyHooks;
  #holder: Holder | undefined;
  #holderPauseMs = HOLDER_PAUSE_MS.first;
  #holderTimer: NodeJS.Timeout | undefined;
  /** The state directory was there at the last look. */
  #hasState = true;
  #api!: ApiServer;
  /** Undefined if Docker is not to find weft. */
  #docker: UnixServer | undefined;
  #sw!: Switch;
  #stopping: Promise<void> | undefined;
  #end!: () => void;
  /** It has something that another daemon could take over. */
  #isReady = false;
  #isReplaced = false;
  /** The next daemon was started, and has not given up. */
  #hasNext = false;

  constructor(options: RunOptions, config: DaemonConfig, logger: Logger) {
    this.#options = options;
    this.#config = config;
    this.#logger = logger;
    this.#systemd = Systemd.of(process.env, (error) => logger.warn({ err: error }, 'systemd cannot be notified'));
    this.#descriptors = new Descriptors(this.#systemd?.take(process.env));
    this.#hooks = new ReadyHooks(config.host);
    this.#predecessor = new Predecessor({
      place: {
        host: config.host,
        get state() {
          return realpathSync(config.state);
        },
        connections: Buffer.from(connectionFileHeader()).toString('hex'),
      },
      version,
      descriptors: this.#descriptors,
      after,
      letGo: () => this.#letGo(),
      resume: () => this.#resume(),
      onDone: (pid) => this.#replacedBy(pid),
      log: (message, details) => logger.info(details, message),
      warn: (message, details) => logger.warn(details, message),
    });
  }

  async run(): Promise<void> {
    const { socket, signal } = this.#options;
    const ended = new Promise<void>((resolve) => (this.#end = resolve));
    if (this.#systemd) process.on('SIGHUP', () => this.#startNext());
    const { takeover } = this.#options;
    if (!takeover) void loadFiles(this.#config.hooks, this.#hooks);
    const successor = takeover ? await this.#orStopped(this.#succeed()) : undefined;
    const late = successor && setTimeout(() => this.#giveUp(successor), FORWARD_MS).unref();
    for (const one of this.#descriptors.allSpare()) this.#systemd?.assume(one);
    this.#api = await openApi(socket, {
      onRefused: (error) => this.#logger.warn({ err: error }, 'a connection to the API could not be accepted'),
      descriptors: this.#descriptors,
    });
    let [hasFollowed, hadDocker] = [false, false];
    try {
      if (!successor && !this.#systemd) this.#findHeld();
      hadDocker = this.#descriptors.spare(DOCKER_DESCRIPTOR).length > 0;
      if (this.#config.docker) this.#docker = await this.#openDocker();
      this.#sw = await this.#openSwitch();
      clearTimeout(late);
      if (successor) await this.#follow(successor);
      hasFollowed = true;
      // The configuration is another one: Docker must not wait where nobody listens any more.
      if (hadDocker && !this.#docker) rmSync(DOCKER_SOCKET, { force: true });
      const startMs = Math.round(performance.now());
      const what = this.#sw.status().forwarding ? 'forwarding' : WAITING;
      this.#logger.info({ pid: process.pid, socket, host: this.#config.host, startMs }, what);

      const heap = new HeapTrimmer();
      const tickers = [
        setInterval(() => heap.look(this.#sw.cachedFlows), TRIM_MS),
        setInterval(() => this.#lookAtHolder(), HOLDER_LOOK_MS),
        ...this.#watchdog(),
      ];
      void signal.then((name) => {
        this.#logger.info({ signal: name }, 'stopping');
        return this.#shutdown({ purge: false }).catch(() => {});
      });
      try {
        this.#keepDescriptors();
        await this.#serve();
        this.#tellReady();
        await ended;
      } finally {
        for (const ticker of tickers) clearInterval(ticker);
        if (!this.#isReplaced) await this.#shutdown({ purge: false });
        await this.#stopping;
        this.#predecessor.close();
        this.#holder?.close();
      }
      this.#logger.info('stopped');
    } finally {
      if (successor && !hasFollowed) this.#giveBack(successor);
      // What Docker asks is for the next daemon, which finds the holder, too.
      if (hadDocker && !this.#sw) this.#docker?.leave();
      const deadline = AbortSignal.timeout(CLOSE_MS);
      await Promise.all([this.#api.close(deadline), this.#docker?.close(deadline)]);
      setTimeout(() => this.#leave(), LEAVE_MS).unref();
    }
  }

  /** Ends the process, although something is open whose other end does not answer. */
  #leave(): never {
    this.#logger.warn({ open: process.getActiveResourcesInfo() }, 'the process ends, and leaves what is still open');
    process.exit();
  }

  // 2. What other daemons have left

  /** A signal while this daemon has nothing yet ends it at once: the running one goes on. */
  #orStopped<T>(waiting: Promise<T>): Promise<T> {
    let isWaiting = true;
    void this.#options.signal.then((name) => {
      if (!isWaiting) return;
      process.stderr.write(`weft: ${name}: nothing is taken over from the running daemon\n`);
      process.exit(1);
    });
    return waiting.finally(() => (isWaiting = false));
  }

  async #succeed(): Promise<Successor | undefined> {
    const { socket } = this.#options;
    if (await isSilent(socket, SILENT_MS)) {
      const pid = lockHolder(this.#config.state);
      const who = pid === undefined ? 'the running daemon' : `the daemon with pid ${pid}`;
      throw new WeftError(
        'unreachable',
        `${who} does not answer on ${socket}: nothing is taken over; see its log, and end it if it does not go on`,
      );
    }
    const client = new Client(socket);
    await this.#refuseOtherStore(client);
    for (let look = 0; look < HOOK_LOOKS; look++) if (!(await this.#loadHooks(client))) break;
    await this.#refuseBrokenHooks(client);
    const taken = await Successor.take({
      socket,
      state: this.#config.state,
      host: this.#config.host,
      version,
      descriptors: this.#descriptors,
      after,
      ask: async (request) => {
        try {
          return await client.takeover(request);
        } catch (error) {
          if (!(error instanceof WeftError)) throw error;
          if (error.code === 'unreachable' && client.daemonBuild === undefined) return 'none';
          // It has answered something before.
          if (hasEnded(error)) return 'killed';
          if (error.code !== 'not_found') throw error;
          const why = 'the running daemon is of a version that cannot hand over';
          throw new WeftError('conflict', `${why}: stop it, and start this one without --takeover`, { cause: error });
        }
      },
    });
    if (taken instanceof Successor) return taken;
    const killed = 'the running daemon was killed before it had handed over';
    if (taken === 'killed' && this.#systemd) {
      throw new WeftError('unreachable', `${killed}: systemd starts another one, with what it has kept`);
    }
    const why = taken === 'killed' ? killed : 'no daemon runs here';
    this.#logger.info({ socket }, `${why}: this one starts without taking over`);
    return undefined;
  }

  /** A start would refuse it, too (`store-of-attachments.ts`), but when the running daemon has let go of everything. */
  async #refuseOtherStore(client: Client): Promise<void> {
    const running = await Promise.all([client.status(), client.endpoints()]).catch((error: unknown) => {
      // None runs, or it waits for its store: what follows says so.
      if (error instanceof WeftError) return undefined;
      throw error;
    });
    if (!running) return;
    const [{ store, sharedStore }, endpoints] = running;
    const before = sharedStore ? `${store}, prefix ${sharedStore.prefix}` : store;
    const attached = endpoints.filter(({ state }) => state === 'attached');
    refuseOtherStore(before, placeName(this.#config.store), attached.map(idOf));
  }

  /**
   * Loads the hooks that this daemon will probably need, while the running one still forwards. What is in force is what is
   * declared when it has let go: a hook that is another one by then is loaded anew.
   * @returns false if all of them were loaded before
   */
  async #loadHooks(client: Client): Promise<boolean> {
    const declared = await client.get('Hook').catch((error: unknown) => {
      // None runs, or it is of a version without hooks. If it is something else, the request to take over says so.
      if (error instanceof WeftError) return [];
      throw error;
    });
    const isNew = declared.map((hook) => this.#hooks.load(textOf(hook as HookResource)));
    isNew.push(await loadFiles(this.#config.hooks, this.#hooks));
    await this.#hooks.loaded();
    return isNew.includes(true);
  }

  /**
   * A hook that cannot be loaded leaves in force what was there, and only the running daemon has that: it goes on. If that one could
   * not load the hook either, nothing gets worse.
   */
  async #refuseBrokenHooks(client: Client): Promise<void> {
    const broken = await this.#hooks.failures();
    if (broken.length === 0) return;
    const running = await client.status().catch((error: unknown) => {
      // None runs, so there is nothing that could go on.
      if (error instanceof WeftError) return undefined;
      throw error;
    });
    const worse = broken.find(
      ({ file }) => !running?.hooks.some((hook) => hook.file === file && hook.state === 'failed'),
    );
    if (!running || !worse) return;
    throw new WeftError(
      'conflict',
      `nothing is taken over from the running daemon, which goes on with the hooks that it has: ${worse.why}; \`weft hook check\` helps to mend it`,
    );
  }

  /** Everything is in force: the old daemon has nothing left to do. @throws WeftError if it is not */
  async #follow(successor: Successor): Promise<void> {
    const { forwarding, endpoints } = this.#sw.status();
    if (!forwarding) {
      await this.#sw.close({ retain: true });
      const why = 'the state of the cluster is not known here, so nothing would be forwarded';
      throw new WeftError('unreachable', `nothing is taken over from the running daemon: ${why}`);
    }
    successor.forwarding((how) => void this.#shutdown(how));
    this.#logger.info({ endpoints }, 'taken over from the daemon that was running');
  }

  /** The switch is closed: the daemon that has let go waits no longer, and the socket is its own again. */
  #giveBack(successor: Successor): void {
    if (successor.isAlone) return;
    for (const server of this.#servers()) {
      server.leave();
      server.refuse();
    }
    this.#descriptors.closeSpare();
    successor.close();
  }

  /** The daemon that has let go waits no longer. This one must not use anything any more, so it closes nothing either. */
  #giveUp(successor: Successor): void {
    if (successor.isAlone) return;
    const why = `this daemon does not forward after ${FORWARD_MS / 1000} s, and the machine may be too busy`;
    process.stderr.write(`weft: nothing is taken over from the running daemon, which goes on: ${why}\n`);
    process.exit(1);
  }

  /** @throws WeftError if another daemon has the state directory: then the holder is that one's */
  #findHeld(): void {
    const { state } = this.#config;
    try {
      this.#descriptors.addSpare(LOCK_DESCRIPTOR, [claimDirectory(state)]);
    } catch (error) {
      if (error instanceof WeftError) throw error;
      // It is not there, or cannot be used: the switch says why.
      return;
    }
    const found = Holder.find(state);
    if (!found) return;
    this.#holder = found.holder;
    for (const { name, descriptors } of found.held) this.#descriptors.addSpare(name, descriptors);
  }

  // 4. The switch

  async #openSwitch(): Promise<Switch> {
    const connectionsFile = connectionsBeside(this.#options.socket);
    const isNew = !existsSync(connectionsFile);
    const options = { ...this.#config, connectionsFile, descriptors: this.#descriptors };
    try {
      return await createSwitch({ ...options, readyHooks: this.#hooks, logger: this.#logger });
    } catch (error) {
      // Nothing is in it, and nobody may ever start here again.
      if (isNew) removeConnections(connectionsFile);
      throw error;
    } finally {
      this.#hooks.endOthers();
    }
  }

  // 5. The API, and what is kept elsewhere

  async #serve(): Promise<void> {
    const target = {
      sw: this.#sw,
      isStopping: () => this.#stopping !== undefined || this.#isReplaced,
      shutdown: async (how: Shutdown) => {
        if (how.purge) await this.#sw.life.refusePurge();
        await this.#shutdown(how);
      },
      takeover: (request: Parameters<Predecessor['offer']>[0]) => this.#predecessor.offer(request),
    };
    await this.#api.serve(target, (error) => this.#logger.error({ err: error }, 'internal error'));
    await this.#docker?.serve(async () => {
      const { dockerRoutes } = await import('../drivers/docker/routes.ts');
      return dockerRoutes(this.#sw.drivers.docker).fetch;
    });
  }

  #openDocker(): Promise<UnixServer> {
    return openUnixServer(DOCKER_SOCKET, {
      name: DOCKER_DESCRIPTOR,
      headers: {},
      queue: { duplicate, later: (work) => void setTimeout(work, DOCKER_SENDING_MS).unref(), turn },
      failure: ({ message }) => ({ Err: message, Error: message }),
      // A part of what clients of weft may have, which ports leave for them.
      cap: Math.max(2, Math.floor(connectionCap() / 4)),
      onRefused: (error) => this.#logger.warn({ err: error }, 'a connection of Docker could not be accepted'),
      descriptors: this.#descriptors,
    });
  }

  #servers(): Omit<UnixServer, 'serve'>[] {
    return this.#docker ? [this.#api, this.#docker] : [this.#api];
  }

  #keepDescriptors(): void {
    if (this.#systemd) return this.#descriptors.keepWith(this.#systemd);
    const { state } = this.#config;
    try {
      this.#holder ??= this.#findHolder() ?? Holder.start(state);
      this.#holder.watch((why) => this.#holderLost(why));
      this.#descriptors.keepWith(this.#holder);
    } catch (error) {
      this.#logger.warn({ err: error }, 'descriptors would not survive a crash: the holder cannot be started');
      this.#keepLater();
    }
  }

  /** Of the daemon that this one has followed. It has the same descriptors. */
  #findHolder(): Holder | undefined {
    const found = Holder.find(this.#config.state);
    for (const { descriptors } of found?.held ?? []) closeAll(descriptors);
    return found?.holder;
  }

  #holderLost(why: string): void {
    this.#holder = undefined;
    if (this.#stopping) return;
    this.#logger.warn({ why, inMs: this.#holderPauseMs }, 'the holder of descriptors is started again');
    this.#keepLater();
  }

  /** The pause is for a holder that does not stay. That there was no directory for it is over once there is one. */
  #lookAtHolder(): void {
    if (this.#systemd || this.#stopping) return;
    this.#holder?.look();
    const hadState = this.#hasState;
    this.#hasState = existsSync(this.#config.state);
    if (this.#holder) this.#holderPauseMs = HOLDER_PAUSE_MS.first;
    else if (this.#hasState && !hadState) this.#keepDescriptors();
  }

  #keepLater(): void {
    clearTimeout(this.#holderTimer);
    this.#holderTimer = setTimeout(() => {
      if (!this.#stopping && !this.#holder) this.#keepDescriptors();
    }, this.#holderPauseMs).unref();
    this.#holderPauseMs = Math.min(2 * this.#holderPauseMs, HOLDER_PAUSE_MS.longest);
  }

  #tellReady(): void {
    this.#isReady = true;
    this.#systemd?.ready(statusText(this.#sw));
  }

  /** systemd restarts a daemon whose event loop stands still. */
  #watchdog(): NodeJS.Timeout[] {
    const { watchdogMs } = this.#systemd ?? {};
    if (watchdogMs === undefined) return [];
    return [
      setInterval(() => {
        this.#systemd!.alive();
        this.#systemd!.status(statusText(this.#sw));
      }, watchdogMs / 2),
    ];
  }

  /** `systemctl reload`: the program as it is installed now is started, and takes over. */
  #startNext(): void {
    if (!this.#isReady || this.#stopping || this.#isReplaced || this.#hasNext) return;
    this.#hasNext = true;
    this.#systemd?.reloading(process.hrtime.bigint() / 1000n);
    const [program = '', ...words] = process.argv.slice(1);
    const { WATCHDOG_PID: _, LISTEN_PID: __, LISTEN_FDS: ___, LISTEN_FDNAMES: ____, ...env } = process.env;
    const takeover = words.includes('--takeover') ? [] : ['--takeover'];
    const next = spawn(process.execPath, [...process.execArgv, program, ...words, ...takeover], {
      stdio: 'inherit',
      env,
    });
    const failed = (why: object): void => {
      if (this.#isReplaced) return;
      this.#hasNext = false;
      this.#logger.error(why, 'the next daemon has not taken over: this one goes on');
      this.#tellReady();
    };
    next.once('error', (error) => failed({ err: error }));
    next.once('exit', (exitCode, signal) => failed({ exitCode, signal }));
    next.unref();
  }

  // 6. The end, or another daemon

  #shutdown(how: Shutdown): Promise<void> {
    this.#stopping ??= this.#stop(how).finally(() => this.#end());
    return this.#stopping;
  }

  async #stop(how: Shutdown): Promise<void> {
    this.#systemd?.stopping();
    if (await this.#predecessor.stop(how)) return;
    await this.#docker?.finish(AbortSignal.timeout(DOCKER_ANSWER_MS));
    this.#descriptors.endKeeping(how);
    await this.#sw.close(how);
  }

  async #letGo(): Promise<void> {
    // What Docker has asked it does not repeat as it was.
    this.#docker?.hold();
    await this.#docker?.answered(AbortSignal.timeout(DOCKER_ANSWER_MS));
    this.#api.hold();
    await this.#sw.close({ retain: true });
    for (const server of this.#servers()) server.leave();
  }

  async #resume(): Promise<void> {
    try {
      const descriptor = this.#descriptors.take(API_DESCRIPTOR);
      if (descriptor !== undefined) await this.#api.listenAgain(descriptor);
      const ofDocker = this.#descriptors.take(DOCKER_DESCRIPTOR);
      if (ofDocker !== undefined) await this.#docker?.listenAgain(ofDocker);
      this.#sw = await this.#openSwitch();
      await this.#serve();
    } catch (error) {
      // Whoever supervises this process starts it again; the holder has everything.
      this.#logger.error({ err: error }, 'this daemon could not go on');
      process.exit(1);
    }
  }

  #replacedBy(pid: number): void {
    this.#logger.info({ pid }, 'another daemon has taken over');
    this.#systemd?.isNow(pid);
    for (const server of this.#servers()) server.refuse();
    this.#isReplaced = true;
    // A signal that has come before is for the new daemon, too.
    setImmediate(() => this.#end());
  }
}

/** Everything that was there to be read when this was called has been read then, as far as one reads it. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
}

function after(delayMs: number, work: () => void): () => void {
  const timeout = setTimeout(work, delayMs);
  return () => clearTimeout(timeout);
}

/** True if the daemon ended when it was asked, and not if it hangs. */
function hasEnded({ code, cause }: WeftError): boolean {
  const ending: unknown = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  return code === 'unreachable' && ['ECONNRESET', 'EPIPE', 'ECONNREFUSED', 'ENOENT'].includes(String(ending));
}

/** For `systemctl status`. */
function statusText(sw: Switch): string {
  const { forwarding, endpoints, tunnel, outside } = sw.status();
  const waits = [tunnel, outside].flatMap((part) => (part && !part.open && part.why !== undefined ? [part.why] : []));
  const what = forwarding ? `forwarding between ${endpoints} endpoints` : WAITING;
  return [what, ...waits.map((why) => `waiting: ${why}`)].join('; ');
}

/**
 * A configuration that is not accepted is wrong usage: only its author can correct it, so a supervisor must not try
 * again.
 */
function asUsage<T>(load: () => T): T {
  try {
    return load();
  } catch (error) {
    if (!(error instanceof WeftError) || error.code !== 'invalid') throw error;
    throw new WeftError('usage', error.message, { cause: error });
  }
}

/** The file that holds the daemon's connections, and keeps them over a crash. */
function connectionsBeside(socket: string): string {
  return `${socket.replace(/\.sock$/, '')}.connections`;
}

function requireCapabilities(): void {
  const missing = missingCapabilities();
  if (missing.length === 0) return;
  throw new WeftError('system', `weft up needs root: ${missing.join(' and ')} missing, run it as root or with sudo`);
}
