/** All metrics, in the order in which they are shown. A new group is a file beside this one and a line here. */
import { datapathMetrics } from './datapath-metrics.ts';
import { hostMetrics } from './host-metrics.ts';
import type { Metric } from './metric.ts';
import { peerMetrics } from './peer-metrics.ts';
import { portMetrics } from './port-metrics.ts';
import { processMetrics } from './process-metrics.ts';
import { storeMetrics } from './store-metrics.ts';
import { tableMetrics } from './table-metrics.ts';

export const metrics: readonly Metric[] = [
  ...processMetrics, //
  ...datapathMetrics,
  ...portMetrics,
  ...tableMetrics,
  ...peerMetrics,
  ...hostMetrics,
  ...storeMetrics,
];
