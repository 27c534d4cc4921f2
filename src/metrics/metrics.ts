/**
 * The metrics of a daemon: what its status says, and what the process takes, for programs that watch it.
 *
 * A scrape reads everything once, and is written, in several turns of the event loop: there may be a thousand peers. Scrapes
 * that come meanwhile get the same answer, so that no number of them costs more than one at a time.
 */
import type { HostReport, MetricReport, StatusReport } from '../model/report.ts';
import { metrics } from './catalogue.ts';
import type { Delays } from './event-loop.ts';
import type { Exposition } from './exposition.ts';
import type { Sources } from './metric.ts';
import { processFacts } from './process-facts.ts';
import { eachInTurns, nextTurn } from '../turns.ts';

/** How many metrics are written in one turn: some have a sample for each peer. */
const METRICS_PER_TURN = 4;

export type MetricsFormat = 'prometheus' | 'openmetrics';

export interface MetricsOptions {
  readonly status: () => StatusReport;
  readonly peers: () => readonly HostReport[];
  /** The delays since it was called last. */
  readonly delays: () => Delays | undefined;
}

/** For one kind of reader: what is measured since the scrape before is not taken away by other readers. */
export class Metrics {
  readonly #options: MetricsOptions;
  readonly #running = new Map<MetricsFormat, Promise<Exposition>>();

  constructor(options: MetricsOptions) {
    this.#options = options;
  }

  text(format: MetricsFormat): Promise<Exposition> {
    const running = this.#running.get(format);
    if (running) return running;
    const made = this.#text(format).finally(() => this.#running.delete(format));
    this.#running.set(format, made);
    return made;
  }

  async report(): Promise<MetricReport[]> {
    const sources = await this.#sources();
    const reports: MetricReport[] = [];
    await eachInTurns(metrics, METRICS_PER_TURN, ({ name, kind, help, samples }) => {
      reports.push({ name, type: kind, help, values: [...samples(sources)] });
    });
    return reports;
  }

  async #text(format: MetricsFormat): Promise<Exposition> {
    const [sources, { exposition }] = await Promise.all([this.#sources(), import('./exposition.ts')]);
    return exposition(sources, format);
  }

  async #sources(): Promise<Sources> {
    const { status, peers, delays } = this.#options;
    const process = await processFacts();
    const statusNow = status();
    await nextTurn();
    const peersNow = peers();
    await nextTurn();
    return { status: statusNow, peers: peersNow, process, eventLoop: delays() };
  }
}

/** What an Accept header asks for; Prometheus' text unless it names OpenMetrics. */
export function formatOf(accept: string | undefined): MetricsFormat {
  return accept?.includes('application/openmetrics-text') ? 'openmetrics' : 'prometheus';
}
