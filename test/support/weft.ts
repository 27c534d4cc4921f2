/**
 * A weft daemon on a host of a lab, used through the command line as an operator would: `weft up`
 * runs inside the host's namespace, with a socket and a state directory of its own.
 *
 * Whatever a test does, the law of conservation must hold at its end: it is checked when the lab
 * closes.
 */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client } from '../../src/api/client.ts';
import type { DropReport, EndpointReport, FlowReport, NetworkReport, StatusReport } from '../../src/model/report.ts';
import type { Lab, Namespace } from './lab.ts';
import { attempt, type Background, describe, monotonicMs, run, until, type Result } from './process.ts';

export type DatapathKind = StatusReport['datapath']['kind'];
/** The datapaths that every namespace test runs on. */
export const datapathKinds: readonly DatapathKind[] = ['native', 'reference'];

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const { bin } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { bin: { weft: string } };
/** The executable, as a command. */
export const weftCommand: readonly string[] = commandOf(root);

const COLLECT_ON_SIGNAL = "data:text/javascript,process.on('SIGUSR2',()=>gc())";

export interface UpOptions {
  readonly datapath: DatapathKind;
  readonly underlay?: string;
  readonly peers?: readonly string[];
  /** Further arguments of `weft up`. */
  readonly arguments?: readonly string[];
  /** Another checkout, already built, whose executable is used. */
  readonly checkout?: string;
  /** The command of another daemon, with the same arguments. */
  readonly daemon?: readonly string[];
  /** SIGUSR2 collects its garbage, so that memory in use can be distinguished from garbage. */
  readonly collectable?: boolean;
  /** A command that runs the daemon's command and becomes it. */
  readonly within?: readonly string[];
}

export interface AttachOptions {
  readonly name?: string;
  readonly network: string;
  /** Further arguments of `weft attach`. */
  readonly arguments?: readonly string[];
}

/** What `-o json` prints, by verb. */
interface Outputs {
  status: StatusReport;
  endpoints: EndpointReport[];
  flows: FlowReport[];
  drops: DropReport[];
}

/** Options that take one value. */
const TAKES_ONE: readonly string[] = ['--state', '--host', '--datapath', '--underlay', '--store', '--config'];

/** Arguments without those options, and their values, that others have as well. */
function without(words: readonly string[], others: readonly string[]): string[] {
  const isReplaced = (word = ''): boolean => TAKES_ONE.includes(word) && others.includes(word);
  return words.filter((word, at) => !isReplaced(word) && !isReplaced(words[at - 1]));
}

export class Weft {
  readonly socket: string;
  readonly state: string;
  readonly host: Namespace;
  /** For frequent requests: the command line takes a fifth of a second. */
  readonly client: Client;
  readonly #lab: Lab;
  readonly #name: string;
  readonly #options: UpOptions;
  readonly #executable: readonly string[];
  #daemon: Background | undefined;
  /** Of daemons that were taken over. */
  #previousLog = '';

  /** Starts a daemon and waits until it forwards. */
  static async up(lab: Lab, host: Namespace, name: string, options: UpOptions): Promise<Weft> {
    const weft = Weft.of(lab, host, name, options);
    await weft.start();
    return weft;
  }

  /** One that does not run yet. */
  static of(lab: Lab, host: Namespace, name: string, options: UpOptions): Weft {
    const weft = new Weft(lab, host, name, options);
    lab.onFailure(() => (weft.log() === '' ? '' : `log of ${name}:\n${weft.log()}`));
    lab.onClose(() => weft.close());
    return weft;
  }

  private constructor(lab: Lab, host: Namespace, name: string, options: UpOptions) {
    this.#lab = lab;
    this.#name = name;
    this.#options = options;
    this.#executable = options.checkout === undefined ? weftCommand : commandOf(options.checkout);
    this.host = host;
    this.socket = join(lab.directory, `${name}.sock`);
    this.state = join(lab.directory, `${name}-state`);
    this.client = new Client(this.socket);
  }

  get pid(): number {
    return this.#running().pid;
  }

  /** The command that starts the daemon. @param instead further arguments; an option among them takes the place of its own */
  upCommand(instead: readonly string[] = []): string[] {
    const { datapath, underlay, peers = [], arguments: more = [], collectable = false, within = [] } = this.#options;
    const [node = '', ...executable] = this.#options.daemon ?? this.#executable;
    const own = [
      ...['--state', this.state, '--host', this.#name, '--datapath', datapath],
      ...(underlay === undefined ? [] : ['--underlay', underlay]),
      ...peers.flatMap((peer) => ['--peer', peer]),
    ];
    return [
      ...within,
      ...['ip', 'netns', 'exec', this.host.name, node],
      ...(collectable ? ['--expose-gc', '--import', COLLECT_ON_SIGNAL] : []),
      ...executable,
      ...['--socket', this.socket, 'up'],
      ...without(without(own, more), instead),
      ...without(more, instead),
      ...instead,
    ];
  }

  /** Its status after garbage collection. The daemon must be `collectable`. */
  async collected(): Promise<StatusReport> {
    process.kill(this.pid, 'SIGUSR2');
    // The signal is handled before requests that come after it; the collection itself delays the answer.
    await this.client.status();
    return this.client.status();
  }

  /** Starts the daemon (again) and returns when it forwards. */
  async start(): Promise<void> {
    const started = this.launch();
    await until(
      async () => {
        if (!started.isRunning) return true;
        return (await this.client.status()).forwarding;
      },
      { what: `${this.#name} forwards` },
    );
    if (!started.isRunning) throw new Error(`${describe(this.upCommand())}: ${started.endText}\n${started.stderr}`);
  }

  /** Starts the daemon and returns at once. */
  launch(): Background {
    this.#daemon = this.#lab.start(this.upCommand());
    return this.#daemon;
  }

  /** Starts another daemon that takes over from this one; returns when the old one has ended. */
  async takeOver(more: readonly string[] = []): Promise<void> {
    const before = this.#running();
    const next = this.#lab.start(this.upCommand(['--takeover', ...more]));
    await until(() => !before.isRunning || !next.isRunning, { what: `${this.#name} is taken over` });
    if (before.isRunning) {
      await next.exited;
      // A daemon that did not forward in time is killed by the running one, and cannot say so itself.
      throw new Error(`no takeover: ${next.endText}\n${next.stderr}\nThe log of the running daemon:\n${before.stderr}`);
    }
    this.#daemon = next;
    this.#previousLog += before.stderr;
  }

  /** Starts a daemon that is to take over, and waits until it has ended; this one stays the one in use. */
  async attemptTakeOver(
    more: readonly string[] = [],
    env: Readonly<Record<string, string>> = {},
  ): Promise<{ code: number | null; stderr: string }> {
    const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    const next = this.#lab.start(['env', ...variables, ...this.upCommand(['--takeover', ...more])]);
    const code = await next.exited;
    return { code, stderr: next.stderr };
  }

  /** Sends a signal, and waits until the daemon has ended, with whatever exit code. */
  async signalled(signal: NodeJS.Signals): Promise<void> {
    const daemon = this.#running();
    await daemon.stop(signal);
    this.#daemon = undefined;
  }

  /** Waits until the daemon has ended by itself. */
  async ended(): Promise<void> {
    await this.#daemon?.exited;
    this.#daemon = undefined;
  }

  /** Kills the daemon without a chance to clean up; returns the time, in milliseconds of CLOCK_MONOTONIC. */
  async kill(): Promise<number> {
    const daemon = this.#running();
    const atMs = monotonicMs();
    daemon.signal('SIGKILL');
    await daemon.wait();
    this.#daemon = undefined;
    return atMs;
  }

  /** Stops the daemon as systemd would. */
  async stop(): Promise<void> {
    const daemon = this.#running();
    const code = await daemon.stop('SIGTERM');
    this.#daemon = undefined;
    if (code !== 0) throw new Error(`${this.#name}: ${daemon.endText} after SIGTERM\n${daemon.stderr}`);
  }

  /** Checks the law of conservation, and that everything is cached as it would be decided, and stops. */
  async close(): Promise<void> {
    if (!this.#daemon?.isRunning) return;
    const status = await this.status();
    const error = conservationError(status) ?? auditError(status);
    await this.stop();
    if (error) throw new Error(`${this.#name}: ${error}`);
  }

  log(): string {
    return this.#previousLog + (this.#daemon?.stderr ?? '');
  }

  /** Runs a command that must succeed; returns its standard output. */
  run(...words: readonly string[]): Promise<string> {
    return run(this.command(words));
  }

  /** Runs a command, whatever its exit code. */
  attempt(...words: readonly string[]): Promise<Result> {
    return attempt(this.command(words));
  }

  async json<V extends keyof Outputs>(verb: V): Promise<Outputs[V]>;
  async json(...words: readonly string[]): Promise<unknown>;
  async json(...words: readonly string[]): Promise<unknown> {
    return JSON.parse(await this.run(...words, '-o', 'json'));
  }

  status(): Promise<StatusReport> {
    return this.client.status();
  }

  /** `weft network create` with the arguments as words. */
  async createNetwork(words: string): Promise<NetworkReport> {
    return (await this.json('network', 'create', ...words.split(' '))) as NetworkReport;
  }

  /** Attaches a namespace; the endpoint has the name of its role. */
  async attach(container: Namespace, options: AttachOptions): Promise<EndpointReport> {
    const { name = roleOf(container), network, arguments: more = [] } = options;
    return (await this.json(
      'attach',
      name,
      '--network',
      network,
      '--netns',
      container.name,
      ...more,
    )) as EndpointReport;
  }

  /** How many frames of a port were dropped, by reason; of all ports if no name is given. */
  async drops(port?: string): Promise<Readonly<Record<string, number>>> {
    const { datapath, ports } = await this.status();
    return port === undefined ? datapath.drops : (ports.find(({ name }) => name === port)?.drops ?? {});
  }

  command(words: readonly string[]): string[] {
    return [...this.#executable, '--socket', this.socket, ...words];
  }

  #running(): Background {
    if (!this.#daemon?.isRunning) throw new Error(`${this.#name} does not run: ${describe(this.upCommand())}`);
    return this.#daemon;
  }
}

/** What is wrong with the counters; undefined if every frame is accounted for. */
export function conservationError({ datapath }: StatusReport): string | undefined {
  const { rx, originated, copies, segments, tx, consumed, coalesced, held } = datapath;
  const dropped = Object.values(datapath.drops).reduce((sum, drops) => sum + drops, 0);
  const came = rx + originated + copies + segments;
  const went = tx + consumed + coalesced + dropped + held;
  if (came === went) return undefined;
  return `frames are not conserved: ${came} came, ${went} went: ${JSON.stringify(datapath)}`;
}

/** `web` of `weft-t4711-1-web`. */
export function roleOf(namespace: Namespace): string {
  return namespace.name.replace(/^weft-t\d+-\d+-/, '');
}

function commandOf(checkout: string): string[] {
  return [process.execPath, join(checkout, bin.weft)];
}

/** A daemon of an older version has none. */
function auditError({ audit }: Partial<StatusReport>): string | undefined {
  return audit?.last && `${audit.mismatches} mismatches, the last one: ${audit.last.what}: ${audit.last.why}`;
}
