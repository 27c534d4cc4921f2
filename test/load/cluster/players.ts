/** Many hosts that are played by two processes in a namespace: their control planes (`players.process.ts`), and their VTEPs. */
import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Lab, Namespace } from '../../support/lab.ts';

export type PlayerOrder =
  /** There are so many hosts, registered, and endpoints. */
  | { readonly kind: 'fill'; readonly hosts: number; readonly endpoints: number }
  /** Endpoints come and go; of so many a second it is told. */
  | { readonly kind: 'churn'; readonly perSecond: number; readonly seconds: number; readonly told: number }
  /** One record is written anew. */
  | { readonly kind: 'touch'; readonly times: number };

/** There are VTEPs for so many hosts, and no address has been heard of. */
export interface VtepOrder {
  readonly hosts: number;
  /** Of the probes, hexadecimal. */
  readonly key: string;
}

export interface Added {
  readonly network: number;
  readonly address: string;
  readonly underlay: string;
  /** Before it was written, in milliseconds of CLOCK_MONOTONIC. */
  readonly atMs: number;
}

/** The first frame to an address. */
export interface Arrived {
  readonly address: string;
  readonly underlay: string;
  readonly atMs: number;
}

export interface Churned {
  readonly seconds: number;
  readonly changes: number;
  /** Everything that the hosts have written meanwhile, renewed leases included. */
  readonly writes: number;
}

/** The endpoint that was written anew, and the last value of its label `touched`. */
export interface Touched {
  readonly name: string;
  readonly label: string;
}

export type PlayerAnswer =
  | { readonly kind: 'done' }
  | ({ readonly kind: 'churned' } & Churned)
  | ({ readonly kind: 'touched' } & Touched)
  | { readonly kind: 'failed'; readonly why: string }
  | ({ readonly kind: 'added' } & Added)
  | ({ readonly kind: 'arrived' } & Arrived);

/** Runs a file of this directory in a namespace, with a channel for messages. It ends with the lab. */
export function forkIn(
  lab: Lab,
  at: Namespace,
  name: string,
  args: readonly string[],
  nodeOptions: readonly string[] = [],
): ChildProcess {
  // `nsenter` becomes Node.js, which inherits the channel.
  const child = fork(fileURLToPath(new URL(name, import.meta.url)), args, {
    execPath: '/usr/bin/nsenter',
    execArgv: [`--net=${at.path}`, process.execPath, ...nodeOptions, '--import=tsx'],
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  lab.onClose(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  return child;
}

/** One of the two processes. It ends with the lab. */
export class Player<Order> {
  readonly #child: ChildProcess;
  readonly #name: string;
  #settle: { resolve(answer: PlayerAnswer): void; reject(error: Error): void } | undefined;
  /** Called with what it tells by itself. */
  onTold: (answer: Extract<PlayerAnswer, { kind: 'added' | 'arrived' }>) => void = () => {};

  private constructor(lab: Lab, at: Namespace, name: string, args: readonly string[]) {
    this.#name = name;
    this.#child = forkIn(lab, at, name, args);
    this.#child.on('message', (answer: PlayerAnswer) => this.#take(answer));
    this.#child.once('exit', (code) => this.#settle?.reject(new Error(`${name}: exit ${code}`)));
  }

  static async start<Order>(lab: Lab, at: Namespace, name: string, ...args: readonly string[]): Promise<Player<Order>> {
    const player = new Player<Order>(lab, at, name, args);
    await player.#answer();
    return player;
  }

  async order(order: Order): Promise<PlayerAnswer> {
    this.#child.send(order as object);
    return this.#answer();
  }

  async #answer(): Promise<PlayerAnswer> {
    const answer = await new Promise<PlayerAnswer>((resolve, reject) => (this.#settle = { resolve, reject }));
    if (answer.kind === 'failed') throw new Error(`${this.#name}: ${answer.why}`);
    return answer;
  }

  #take(answer: PlayerAnswer): void {
    if (answer.kind === 'added' || answer.kind === 'arrived') this.onTold(answer);
    else this.#settle?.resolve(answer);
  }
}
