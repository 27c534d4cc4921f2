/** What a daemon uses and how it answers, seen from outside: processor, memory, its connection to etcd, and its event loop. */
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import type { Etcd } from '../../support/etcd.ts';
import type { Namespace } from '../../support/lab.ts';
import { monotonicMs } from '../../support/process.ts';
import type { Weft } from '../../support/weft.ts';

/** Linux's USER_HZ. */
const TICKS_PER_SECOND = 100;
const ASKED_EVERY_MS = 5;

export interface Cpu {
  /** In percent of one processor. */
  readonly eventLoop: number;
  /** All other threads: datapath, garbage collection, gRPC. */
  readonly others: number;
  /** How long the event loop had something to do and no processor to do it on, in percent of the time. */
  readonly waiting: number;
}

export interface Traffic {
  readonly receivedBytesPerSecond: number;
  readonly sentBytesPerSecond: number;
}

export interface Delays {
  readonly p99Ms: number;
  readonly worstMs: number;
}

/** Measures a daemon from `start` to `stop`. */
export class Usage {
  readonly #pid: number;
  readonly #meter: EtcdMeter;
  readonly #startedMs = monotonicMs();
  readonly #cpu: ReturnType<typeof ticksOf>;
  readonly #bytes: Bytes;

  private constructor(pid: number, meter: EtcdMeter, bytes: Bytes) {
    this.#pid = pid;
    this.#meter = meter;
    this.#cpu = ticksOf(pid);
    this.#bytes = bytes;
  }

  static async start({ pid }: Weft, meter: EtcdMeter): Promise<Usage> {
    return new Usage(pid, meter, await meter.read());
  }

  async stop(): Promise<Cpu & Traffic> {
    const seconds = (monotonicMs() - this.#startedMs) / 1000;
    const [cpu, bytes] = [ticksOf(this.#pid), await this.#meter.read()];
    const percent = (ticks: number): number => (100 * ticks) / TICKS_PER_SECOND / seconds;
    return {
      eventLoop: percent(cpu.main - this.#cpu.main),
      others: percent(cpu.all - cpu.main - (this.#cpu.all - this.#cpu.main)),
      waiting: (cpu.waitedNs - this.#cpu.waitedNs) / 1e7 / seconds,
      receivedBytesPerSecond: (bytes.received - this.#bytes.received) / seconds,
      sentBytesPerSecond: (bytes.sent - this.#bytes.sent) / seconds,
    };
  }
}

export type TellValue = (name: string, figure: number, unit: string) => void;

export function tellUsage(when: string, tell: TellValue, used: Cpu & Traffic): void {
  tell(`event loop’s processor time ${when}`, used.eventLoop, '%');
  tell(`processor time of other threads ${when}`, used.others, '%');
  tell(`event loop waits for a processor ${when}`, used.waiting, '%');
  tell(`received from etcd ${when}`, used.receivedBytesPerSecond / 1000, 'kB/s');
  tell(`sent to etcd ${when}`, used.sentBytesPerSecond / 1000, 'kB/s');
}

/** The processor time of the first thread, which runs the event loop, and of all; and how long the first one waited. */
export function ticksOf(pid: number): { readonly main: number; readonly all: number; readonly waitedNs: number } {
  const ticks = (path: string): number => {
    const text = readFileSync(path, 'utf8');
    const [user, system] = text
      .slice(text.lastIndexOf(')') + 2)
      .split(' ')
      .slice(11, 13);
    return Number(user) + Number(system);
  };
  const [, waited] = readFileSync(`/proc/${pid}/task/${pid}/schedstat`, 'utf8').split(' ');
  return {
    main: ticks(`/proc/${pid}/task/${pid}/stat`),
    all: ticks(`/proc/${pid}/stat`),
    waitedNs: Number(waited),
  };
}

interface Bytes {
  readonly received: number;
  readonly sent: number;
}

/** Counts what a host exchanges with etcd, with all headers from IP on, and cuts it off. */
export class EtcdMeter {
  readonly #host: Namespace;
  readonly #l4Port: string;

  private constructor(host: Namespace, l4Port: string) {
    this.#host = host;
    this.#l4Port = l4Port;
  }

  /** @param etcd with one member */
  static async open(host: Namespace, etcd: Etcd): Promise<EtcdMeter> {
    const [, l4Port = ''] = /:(\d+)$/.exec(etcd.members[0]!.clientAddress) ?? [];
    const rules = `
      table inet etcd {
        counter received {}
        counter sent {}
        set cut { type inet_service; }
        chain in { type filter hook input priority 0
          tcp sport @cut drop
          tcp sport ${l4Port} counter name received
        }
        chain out { type filter hook output priority 0
          tcp dport @cut drop
          tcp dport ${l4Port} counter name sent
        }
      }`;
    await host.run(['nft', rules]);
    return new EtcdMeter(host, l4Port);
  }

  async read(): Promise<Bytes> {
    const { nftables } = JSON.parse(await this.#host.run(['nft', '-j', 'list', 'counters'])) as {
      nftables: readonly { readonly counter?: { readonly name: string; readonly bytes: number } }[];
    };
    const bytes = (name: string): number => nftables.find(({ counter }) => counter?.name === name)!.counter!.bytes;
    return { received: bytes('received'), sent: bytes('sent') };
  }

  async cut(): Promise<void> {
    await this.#host.run(['nft', `add element inet etcd cut { ${this.#l4Port} }`]);
  }

  async mend(): Promise<void> {
    await this.#host.run(['nft', 'flush set inet etcd cut']);
  }
}

/** The delays of the event loop since this was called last, by the daemon's own metrics. */
export async function ownDelays(weft: Weft): Promise<Delays> {
  const metrics = await weft.client.metrics();
  const ms = (name: string): number =>
    1000 * (metrics.find((metric) => metric.name === `weft_event_loop_delay_${name}_seconds`)!.values[0]?.value ?? 0);
  return { p99Ms: ms('p99'), worstMs: ms('max') };
}

/** Asks the daemon something that costs nothing, again and again: the event loop delays the answer. */
export class Asking {
  readonly #socketPath: string;
  readonly #tookMs: number[] = [];
  readonly #asking: Promise<void>;
  #isOver = false;

  constructor({ socket }: Weft) {
    this.#socketPath = socket;
    this.#asking = this.#ask();
  }

  async stop(): Promise<Delays> {
    this.#isOver = true;
    await this.#asking;
    return { p99Ms: percentile(this.#tookMs, 99), worstMs: Math.max(...this.#tookMs) };
  }

  async #ask(): Promise<void> {
    while (!this.#isOver) {
      const askedMs = monotonicMs();
      await new Promise<void>((resolve, reject) => {
        const asked = request({ socketPath: this.#socketPath, path: '/nothing' }, (answer) => {
          answer.resume().once('end', resolve);
        });
        asked.once('error', reject).end();
      });
      this.#tookMs.push(monotonicMs() - askedMs);
      await delay(ASKED_EVERY_MS);
    }
  }
}

/** Of a value at least: that share of all is not greater. @param values at least one */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil((share / 100) * sorted.length) - 1)]!;
}

/** The memory that is in use after garbage collection. The daemon must be `collectable`. */
export async function usedMemory(weft: Weft): Promise<{ readonly heapBytes: number; readonly residentBytes: number }> {
  const { memory } = await weft.collected();
  return { heapBytes: memory.heapUsedBytes, residentBytes: memory.rssBytes };
}
