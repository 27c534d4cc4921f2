/**
 * `weft up`: the daemon, in the foreground, logging to stderr as JSON lines.
 *
 *   1. configuration; capabilities that are not needed are dropped
 *   2. claim the socket: a second daemon is refused before it touches anything
 *   3. the switch: from here on frames are forwarded
 *   4. the API
 *   5. until SIGINT, SIGTERM or `weft down`: close the switch (ports stay
 *      unless purged), then release the socket
 */
import type { Command } from 'commander';
import { WeftError } from '../error.ts';
import { keptCapabilities, missingCapabilities } from '../link/capabilities.ts';
import { loadDaemon } from './load-daemon.ts';
import { collect, globals, verb } from './verb.ts';

/** How often the daemon checks whether the heap can give memory back. */
const TRIM_MS = 3000;
/** How long responses in progress may take when the daemon stops. */
const CLOSE_MS = 1000;

interface Options {
  readonly config?: string;
  readonly host?: string;
  readonly underlay?: string;
  readonly peer?: string[];
  readonly store?: string;
  readonly state?: string;
  readonly datapath?: string;
  readonly copyDscp?: boolean;
}

export function up(program: Command): void {
  verb(program, 'up', {
    summary: 'run the switch on this host, in the foreground',
    examples: [
      'weft up',
      'weft up --underlay 192.0.2.1 --peer 192.0.2.2',
      'weft --socket /run/weft/a.sock up --host a --state /var/lib/weft-a --config a.yaml',
    ],
  })
    .option(
      '--config <file>',
      'configuration in YAML; it also takes allowHost (what containers reach of this host), threads, vxlanPort, stormLimit, tunnelStormLimit, flowLimit, connections, flowIdleMs, fdbQuota, fdbAgeingMs and metrics (address and port for Prometheus); options given here win',
    )
    .option('--host <name>', 'name of this host (default: its host name)')
    .option('--underlay <address>', 'own address on the underlay (default: the one that reaches the peers)')
    .option('--peer <address>', 'underlay address of another host; may be given several times', collect)
    .option('--store <where>', 'where the state is kept (default: embedded)')
    .option('--state <dir>', 'directory of the embedded store (default: /var/lib/weft)')
    .option('--datapath <kind>', 'native or reference (default: native)')
    .option('--copy-dscp', 'encapsulated packets have the DSCP of the packet inside (default: their DSCP is 0)')
    .action((options: Options, command: Command) => daemon(options, globals(command).socket));
}

async function daemon(options: Options, socket: string): Promise<void> {
  const signal = stopSignal();
  const {
    loadConfig,
    heapBytesOf,
    memoryBytes,
    limitHeap,
    HeapTrimmer,
    openLogger,
    openApi,
    createSwitch,
    keepCapabilities,
  } = loadDaemon();
  const config = asUsage(() => loadConfig(options));
  requireCapabilities();
  limitHeap(heapBytesOf(memoryBytes(), config.flowLimit));
  const logger = openLogger();
  keepCapabilities(keptCapabilities);

  const api = await openApi(socket, {
    onRefused: (error) => logger.warn({ err: error }, 'a connection to the API could not be accepted'),
  });
  try {
    const sw = await createSwitch({ ...config, logger, connectionsFile: connectionsBeside(socket) });
    logger.info({ pid: process.pid, socket, host: config.host, startMs: Math.round(performance.now()) }, 'forwarding');

    const heap = new HeapTrimmer();
    const trimming = setInterval(() => heap.look(sw.cachedFlows), TRIM_MS);
    let closing: Promise<void> | undefined;
    let stopped: () => void;
    const requested = new Promise<void>((resolve) => {
      stopped = resolve;
    });
    const shutdown = (how: { purge: boolean }): Promise<void> => {
      closing ??= sw.close(how);
      stopped();
      return closing;
    };
    void signal.then((name) => {
      logger.info({ signal: name }, 'stopping');
      return shutdown({ purge: false }).catch(() => {});
    });
    try {
      const target = { sw, isStopping: () => closing !== undefined, shutdown };
      await api.serve(target, (error) => logger.error({ err: error }, 'internal error'));
      await requested;
    } finally {
      clearInterval(trimming);
      await shutdown({ purge: false });
    }
    logger.info('stopped');
  } finally {
    await api.close(AbortSignal.timeout(CLOSE_MS));
  }
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

/** Resolves with the first SIGINT or SIGTERM. A second one ends the process at once. */
function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let signals = 0;
    for (const name of ['SIGINT', 'SIGTERM'] as const) {
      process.on(name, () => {
        if (++signals === 1) resolve(name);
        else process.exit(1);
      });
    }
  });
}

function requireCapabilities(): void {
  const missing = missingCapabilities();
  if (missing.length === 0) return;
  throw new WeftError('system', `weft up needs root: ${missing.join(' and ')} missing, run it as root or with sudo`);
}
