/**
 * Many kinds of traffic at once between the containers of two hosts: TCP in both directions,
 * numbered datagrams whose order is checked, short flows of all sizes, and pings.
 */
import type { Background } from './process.ts';
import type { Container } from './topology.ts';
import { checkIperf, iperfClient, iperfServer, python } from './traffic.ts';

const NUMBERED_PORT = 7011;
const SHORT_FLOWS_PORT = 7012;
const SHORT_FLOWS_PER_SECOND = 150;
const LIMITED_MEGABITS = 100;
const SMALL_MSS = 536;

/** Two containers on one host, two on the other. */
export interface Containers {
  readonly a1: Container;
  readonly a2: Container;
  readonly b1: Container;
  readonly b2: Container;
}

/** What the receivers of datagrams have seen, up to a second ago. */
export interface Arrivals {
  /** Numbered datagrams. */
  readonly received: number;
  readonly lost: number;
  /** Datagrams that another one of their flow had overtaken, or that came twice. */
  readonly misordered: number;
  /** Datagrams of short flows. */
  readonly shortFlows: number;
  readonly damaged: number;
}

export class MixedLoad {
  readonly #streams: Background[] = [];
  readonly #senders: Background[] = [];
  readonly #pings: Background[] = [];
  readonly #numberedSinks: Background[] = [];
  readonly #shortFlowSinks: Background[] = [];

  /** Starts everything. TCP runs for `seconds`, everything else until `stop`. */
  static async start({ a1, a2, b1, b2 }: Containers, seconds: number): Promise<MixedLoad> {
    const load = new MixedLoad();
    const limited = ['-b', `${LIMITED_MEGABITS}M`];
    await load.#stream(a1, a2, a2.ip4, seconds);
    await load.#stream(a1, b1, b1.ip6, seconds);
    await load.#stream(b2, a1, a1.ip4, seconds, [...limited, '-P', '2', '-M', String(SMALL_MSS)]);
    await load.#stream(b1, b2, b2.ip6, seconds, limited);

    for (const to of [a1, a2, b1]) load.#numberedSinks.push(await sink(to, 'numbered_sink.py', NUMBERED_PORT));
    load.#send(a1, 'numbered_send.py', a2.ip4, NUMBERED_PORT);
    load.#send(a2, 'numbered_send.py', b1.ip4, NUMBERED_PORT);
    load.#send(b2, 'numbered_send.py', a1.ip6, NUMBERED_PORT);

    for (const to of [a2, b2]) load.#shortFlowSinks.push(await sink(to, 'short_flows_sink.py', SHORT_FLOWS_PORT));
    for (const [seed, [from, ip]] of [[a1, a2.ip6] as const, [a1, b2.ip4] as const, [b1, a2.ip6] as const].entries()) {
      load.#send(from, 'short_flows.py', ip, SHORT_FLOWS_PORT, SHORT_FLOWS_PER_SECOND, seed);
    }

    for (const [from, ip, size] of [[a1, b2.ip4, 56] as const, [b2, a2.ip6, 3000] as const]) {
      load.#pings.push(from.namespace.start(['ping', '-n', '-q', '-i', '0.1', '-s', String(size), ip]));
    }
    return load;
  }

  /** Waits for the end of the streams and ends the rest. @throws if a stream failed or a program ended by itself */
  async stop(): Promise<void> {
    for (const stream of this.#streams) {
      await stream.wait();
      checkIperf(stream.stdout);
    }
    for (const program of [...this.#senders, ...this.#pings, ...this.#numberedSinks, ...this.#shortFlowSinks]) {
      if (!program.isRunning) throw new Error(`a program of the load has ended: ${program.stderr}`);
    }
    for (const sender of this.#senders) await sender.stop();
    for (const ping of this.#pings) {
      await ping.stop('SIGINT');
      if (!/ [1-9]\d* received/.test(ping.stdout)) throw new Error(`no echo was answered: ${ping.stdout}`);
    }
  }

  arrivals(): Arrivals {
    return {
      received: said(this.#numberedSinks, 'received'),
      lost: said(this.#numberedSinks, 'lost'),
      misordered: said(this.#numberedSinks, 'misordered'),
      shortFlows: said(this.#shortFlowSinks, 'received'),
      damaged: said(this.#shortFlowSinks, 'damaged'),
    };
  }

  async #stream(
    from: Container,
    to: Container,
    ip: string,
    seconds: number,
    more: readonly string[] = [],
  ): Promise<void> {
    await iperfServer(to.namespace);
    this.#streams.push(from.namespace.start([...iperfClient(ip, { seconds }), '--bidir', ...more]));
  }

  #send(from: Container, script: string, ...args: readonly (string | number)[]): void {
    this.#senders.push(from.namespace.start(python(script, ...args)));
  }
}

async function sink(at: Container, script: string, port: number): Promise<Background> {
  const started = at.namespace.start(python(script, port));
  await started.says('ready');
  return started;
}

/** The sum of the numbers that each of them printed last behind `word`. */
function said(sinks: readonly Background[], word: string): number {
  return sinks.reduce((sum, { lines }) => {
    const [, number = '0'] = new RegExp(`\\b${word} (\\d+)`).exec(lines.at(-1)?.text ?? '') ?? [];
    return sum + Number(number);
  }, 0);
}
