/**
 * What happened when, in a run of `chaos.ts`: so that a datagram that was lost between hosts that were not cut off from each
 * other can be explained. It knows when each disturbance began and ended, and which frames each daemon had dropped by then.
 */
import type { LabHost } from './many-hosts.ts';
import { monotonicMs } from './process.ts';
import type { Lost } from './tagged.ts';

/** What is told of the time around a loss. */
const AROUND_MS = 3000;

interface Sample {
  readonly atMs: number;
  readonly host: string;
  readonly drops: Readonly<Record<string, number>>;
}

export class ChaosLog {
  readonly #hosts: readonly LabHost[];
  readonly #events: { readonly atMs: number; readonly what: string }[] = [];
  readonly #samples: Sample[] = [];

  constructor(hosts: readonly LabHost[]) {
    this.#hosts = hosts;
  }

  note(what: string): void {
    this.#events.push({ atMs: monotonicMs(), what });
  }

  /** Asks all daemons that run what they have dropped. */
  async sample(): Promise<void> {
    for (const { name, weft } of this.#hosts) {
      const drops = await weft.status().then(
        ({ datapath }) => datapath.drops,
        () => undefined,
      );
      if (drops) this.#samples.push({ atMs: monotonicMs(), host: name, drops });
    }
  }

  /** What may have to do with a loss, one line each. */
  around({ from, to, number, atMs }: Lost): string[] {
    const lines = this.#events
      .filter((event) => Math.abs(event.atMs - atMs) < AROUND_MS)
      .map((event) => `  ${offset(event.atMs - atMs)}: ${event.what}`);
    const drops = this.#hosts.map(({ name }) => `  ${name} dropped ${this.#dropsAround(name, atMs)}`);
    return [`${from} → ${to} #${number} was lost, and at`, ...lines, ...drops];
  }

  /** The reasons whose counters differ between the last sample before and the first one after. */
  #dropsAround(host: string, atMs: number): string {
    const own = this.#samples.filter((sample) => sample.host === host);
    const before = own.findLast((sample) => sample.atMs <= atMs);
    const later = own.find((sample) => sample.atMs > atMs);
    if (!before || !later) return 'what nobody has asked for';
    const grown = Object.entries(later.drops)
      .map(([reason, count]) => [reason, count - (before.drops[reason] ?? 0)] as const)
      .filter(([, count]) => count !== 0)
      // A daemon that was killed begins with nothing.
      .map(([reason, count]) => (count < 0 ? `${reason} (it has begun anew)` : `${count} ${reason}`));
    const between = `between ${offset(before.atMs - atMs)} and ${offset(later.atMs - atMs)}`;
    return `${grown.length === 0 ? 'nothing' : grown.join(', ')} ${between}`;
  }
}

function offset(ms: number): string {
  return `${ms < 0 ? '−' : '+'}${Math.abs(Math.round(ms))} ms`;
}
