/**
 * A metric: its name, what it means, and how it is read. One scrape reads all metrics from the same sources, so that its
 * values belong together.
 *
 * Names follow Prometheus' conventions: `weft_` in front, base units (seconds, bytes), and `_total` behind counters.
 * What every process has is called as it is everywhere (`process_…`). Labels are bounded: by what is declared on this
 * host, or by a list in the code, never by what a container or another host sends.
 */
import type { HostReport, StatusReport } from '../model/report.ts';
import type { Delays } from './event-loop.ts';
import type { ProcessFacts } from './process-facts.ts';

/** What a scrape reads. */
export interface Sources {
  readonly status: StatusReport;
  readonly peers: readonly HostReport[];
  readonly process: ProcessFacts;
  /** Undefined if nothing was measured since the scrape before. */
  readonly eventLoop: Delays | undefined;
}

export interface Sample {
  /** A value for each of the metric's labels. No two samples of a metric have the same. */
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Metric {
  readonly name: string;
  readonly kind: 'counter' | 'gauge';
  /** One sentence, without a full stop. */
  readonly help: string;
  readonly labels: readonly string[];
  readonly samples: (sources: Sources) => readonly Sample[];
}

/** Reads one value; undefined if there is none at present. */
type Value = (sources: Sources) => number | boolean | undefined;

export const counter = (name: string, help: string, value: Value): Metric => single('counter', name, help, value);
export const gauge = (name: string, help: string, value: Value): Metric => single('gauge', name, help, value);

/** A metric with labels. */
export function labelled(
  kind: Metric['kind'],
  name: string,
  help: string,
  labels: readonly string[],
  samples: Metric['samples'],
): Metric {
  return { name, kind, help, labels, samples };
}

function single(kind: Metric['kind'], name: string, help: string, read: Value): Metric {
  const samples: Metric['samples'] = (sources) => {
    const value = read(sources);
    return value === undefined ? [] : [{ labels: {}, value: Number(value) }];
  };
  return { name, kind, help, labels: [], samples };
}
