/** The daemon itself. */
import { counter, gauge, labelled, type Metric } from './metric.ts';

export const processMetrics: readonly Metric[] = [
  labelled(
    'gauge',
    'weft_build_info',
    'Always 1; the labels say what runs',
    ['version', 'node', 'datapath', 'store', 'host'],
    ({ status: { version, datapath, store, host } }) => [
      { labels: { version, node: process.version, datapath: datapath.kind, store, host }, value: 1 },
    ],
  ),
  gauge('weft_forwarding', '1 if the switch forwards', ({ status }) => status.forwarding),
  gauge(
    'weft_event_loop_delay_median_seconds',
    'Half of the times, work waited less than this for the event loop, since the scrape before',
    ({ eventLoop }) => eventLoop?.medianSeconds,
  ),
  gauge(
    'weft_event_loop_delay_p99_seconds',
    'In 99 of 100 times, work waited less than this for the event loop, since the scrape before',
    ({ eventLoop }) => eventLoop?.p99Seconds,
  ),
  gauge(
    'weft_event_loop_delay_max_seconds',
    'The longest time that work waited for the event loop, since the scrape before',
    ({ eventLoop }) => eventLoop?.longestSeconds,
  ),
  gauge('weft_heap_size_bytes', 'Memory of the JavaScript heap', ({ status }) => status.memory.heapTotalBytes),
  gauge(
    'weft_heap_used_bytes',
    'What of the JavaScript heap is used, garbage included',
    ({ status }) => status.memory.heapUsedBytes,
  ),
  gauge('process_resident_memory_bytes', 'Resident memory', ({ status }) => status.memory.rssBytes),
  counter('process_cpu_seconds_total', 'Processor time of all threads', ({ process }) => process.cpuSeconds),
  gauge(
    'process_start_time_seconds',
    'When the daemon was started, since the epoch',
    ({ status }) => Date.parse(status.startedAt) / 1000,
  ),
  gauge('process_open_fds', 'Open file descriptors', ({ process }) => process.openDescriptors),
  gauge('process_max_fds', 'The most file descriptors that can be open', ({ process }) => process.mostDescriptors),
];
