/**
 * Ports. Those of containers have the labels of their endpoint; the underlay, the outside and weft's own sockets have
 * empty ones. Drops are by port here and by reason in `datapath-metrics.ts`: both together could be a hundred series for
 * each port. `weft drops` has them.
 */
import { nameOf } from '../model/name.ts';
import type { StatusReport } from '../model/report.ts';
import { labelled, type Metric } from './metric.ts';

type PortReport = StatusReport['ports'][number];

const portCounter = (name: string, help: string, value: (port: PortReport) => number): Metric =>
  labelled('counter', name, help, ['kind', 'network', 'namespace', 'endpoint'], ({ status }) =>
    status.ports.flatMap((port) => {
      const labels = labelsOf(port);
      return labels ? [{ labels, value: value(port) }] : [];
    }),
  );

export const portMetrics: readonly Metric[] = [
  portCounter('weft_port_rx_frames_total', 'Frames received from the port', ({ rxFrames }) => rxFrames),
  portCounter('weft_port_rx_bytes_total', 'Bytes received from the port', ({ rxBytes }) => rxBytes),
  portCounter('weft_port_tx_frames_total', 'Frames handed to the port', ({ txFrames }) => txFrames),
  portCounter('weft_port_tx_bytes_total', 'Bytes handed to the port', ({ txBytes }) => txBytes),
  portCounter(
    'weft_port_dropped_frames_total',
    'Frames that came in by the port and were dropped anywhere',
    ({ drops }) => Object.values(drops).reduce((sum, frames) => sum + frames, 0),
  ),
  portCounter(
    'weft_port_unanswered_frames_total',
    'Refused frames from the port that were not answered because its rate was used up',
    ({ unanswered }) => unanswered,
  ),
];

/** Undefined for a port whose endpoint is just being removed. */
function labelsOf({ kind, name, network }: PortReport): Record<string, string> | undefined {
  if (kind !== 'tap') return { kind, network: '', namespace: '', endpoint: '' };
  if (network === null)
    return name === 'outside' ? { kind: name, network: '', namespace: '', endpoint: '' } : undefined;
  const { name: endpoint, namespace } = nameOf(name);
  return { kind: 'endpoint', network, namespace, endpoint };
}
