/** Frames, where they went, and the flow cache. The sums of frames obey the law of conservation, exactly. */
import { dropReasons } from '../flow/reason.ts';
import { counter, gauge, labelled, type Metric } from './metric.ts';

export const datapathMetrics: readonly Metric[] = [
  counter('weft_rx_frames_total', 'Frames received by all ports', ({ status }) => status.datapath.rx),
  counter('weft_originated_frames_total', 'Frames that weft made itself', ({ status }) => status.datapath.originated),
  counter('weft_copied_frames_total', 'Copies made of flooded frames', ({ status }) => status.datapath.copies),
  counter(
    'weft_segmented_frames_total',
    'Frames gained by cutting superframes',
    ({ status }) => status.datapath.segments,
  ),
  counter('weft_tx_frames_total', 'Frames handed to all ports', ({ status }) => status.datapath.tx),
  counter('weft_consumed_frames_total', 'Frames that were for weft itself', ({ status }) => status.datapath.consumed),
  counter(
    'weft_coalesced_frames_total',
    'Frames that were joined to the one before them',
    ({ status }) => status.datapath.coalesced,
  ),
  labelled(
    'counter',
    'weft_dropped_frames_total',
    'Dropped frames by reason; docs/cli.md (drops) says how to see why',
    ['reason'],
    ({ status: { datapath } }) =>
      dropReasons.map(([reason]) => ({ labels: { reason }, value: datapath.drops[reason] ?? 0 })),
  ),
  gauge(
    'weft_held_frames',
    'Frames inside the switch: undecided, or waiting for a rate or to be flooded, each copy counted',
    ({ status }) => status.datapath.held,
  ),
  counter(
    'weft_unanswered_frames_total',
    'Refused frames that were not answered because their port had used up its rate of answers',
    ({ status }) => status.datapath.unanswered,
  ),
  counter('weft_upcalls_total', 'Frames that a decision was asked for', ({ status }) => status.datapath.upcalls),
  gauge('weft_flows', 'Cached flows', ({ status }) => status.datapath.flows),
  gauge('weft_flows_limit', 'The most flows that are cached', ({ status }) => status.datapath.flowLimit),
  gauge('weft_masks', 'Different masks of cached flows', ({ status }) => status.datapath.masks),
  gauge('weft_masks_limit', 'The most masks that there can be', ({ status }) => status.datapath.maskLimit),
  counter(
    'weft_flows_evicted_total',
    'Flows that gave way to others at the limit',
    ({ status }) => status.datapath.evicted.flows,
  ),
  counter(
    'weft_masks_evicted_total',
    'Masks that gave way to others at the limit',
    ({ status }) => status.datapath.evicted.masks,
  ),
  labelled(
    'counter',
    'weft_flows_refused_total',
    'Flows that were not cached, by the limit that was reached: flows, masks, or masks of flows that drop',
    ['limit'],
    ({ status: { datapath } }) => [
      { labels: { limit: 'flows' }, value: datapath.refused.flows },
      { labels: { limit: 'masks' }, value: datapath.refused.masks },
      { labels: { limit: 'drop_masks' }, value: datapath.refused.dropMasks },
    ],
  ),
  counter(
    'weft_flows_redecided_total',
    'Decisions of cached flows that were made again because something had changed',
    ({ status }) => status.decisions.redecided,
  ),
  counter(
    'weft_flows_withdrawn_total',
    'Cached flows that were withdrawn until they were decided again',
    ({ status }) => status.decisions.withdrawn,
  ),
  labelled(
    'counter',
    'weft_audited_total',
    'How often a cached flow or an open connection was compared with what would be decided now',
    ['of'],
    ({ status: { audit } }) => [
      { labels: { of: 'flows' }, value: audit.flows },
      { labels: { of: 'connections' }, value: audit.connections },
    ],
  ),
  counter(
    'weft_audit_mismatches_total',
    'How often these differed, which is a defect of weft; weft doctor says what the latest one was',
    ({ status }) => status.audit.mismatches,
  ),
];
