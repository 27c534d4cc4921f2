/**
 * Metrics as text: Prometheus' format, or OpenMetrics. It is loaded with the first scrape, so that forwarding does not wait
 * for it.
 */
import { Counter, Gauge, Registry, type RegistryContentType } from 'prom-client';
import { inTurns } from '../turns.ts';
import { metrics } from './catalogue.ts';
import type { Metric, Sample, Sources } from './metric.ts';

export interface Exposition {
  readonly contentType: string;
  readonly text: string;
}

const END = '# EOF\n';

/** One metric in each turn of the event loop: those of ports have a sample for each endpoint. */
export async function exposition(sources: Sources, format: 'prometheus' | 'openmetrics'): Promise<Exposition> {
  const contentType = format === 'openmetrics' ? Registry.OPENMETRICS_CONTENT_TYPE : Registry.PROMETHEUS_CONTENT_TYPE;
  const parts: string[] = [];
  for await (const metric of inTurns(metrics, 1)) {
    const samples = metric.samples(sources);
    // A metric without labels would begin with 0.
    if (samples.length === 0) continue;
    const registry = new Registry<RegistryContentType>();
    registry.setContentType(contentType);
    fill(registry, metric, samples);
    const text = await registry.metrics();
    parts.push(text.endsWith(END) ? text.slice(0, -END.length) : text);
  }
  if (format === 'openmetrics') parts.push(END);
  return { contentType, text: parts.join('') };
}

/** A registry of its own for each scrape: it has no series of endpoints that are gone, and nobody else's values. */
function fill(
  registry: Registry<RegistryContentType>,
  { name, kind, help, labels }: Metric,
  samples: readonly Sample[],
): void {
  const options = { name, help, labelNames: [...labels], registers: [registry] };
  if (kind === 'counter') {
    const counter = new Counter(options);
    for (const { labels, value } of samples) counter.inc(labels, value);
  } else {
    const gauge = new Gauge(options);
    for (const { labels, value } of samples) gauge.set(labels, value);
  }
}
