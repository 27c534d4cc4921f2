/**
 * Figures to reach: the minimum for weft ("must") and the goal ("aim"), as ratios to a peer in
 * the same run, or as absolute values if there is no peer.
 */
import { doubtOf } from './doubt.ts';
import type { LoadName } from './loads.ts';
import type { FigureResult, MeasurementResult } from './results.ts';
import type { SystemName } from './systems/index.ts';
import type { TopologyName } from './topology.ts';

export interface Target {
  readonly title: string;
  readonly measurement: `${TopologyName}/${LoadName}`;
  readonly system: SystemName;
  /** null if the figure is not a ratio. */
  readonly against: SystemName | null;
  readonly better: 'higher' | 'lower';
  readonly must: number;
  readonly aim: number | null;
}

type Row = readonly [
  title: string,
  measurement: Target['measurement'],
  against: SystemName | null,
  must: number,
  aim: number,
];

const higher: readonly Row[] = [
  ['One host, TCP, 1 stream', 'one-host/tcp-1', 'kernel', 0.7, 0.9],
  ['One host, TCP, 4 streams', 'one-host/tcp-4', 'kernel', 0.7, 0.9],
  ['One host, TCP, 1 stream', 'one-host/tcp-1', 'ovs-tso', 2, 3],
  ['One host, TCP, 4 streams', 'one-host/tcp-4', 'ovs-tso', 2, 3],
  ['One host, TCP, 1 stream', 'one-host/tcp-1', 'ovs-tso-veth', 2, 3],
  ['One host, TCP, 4 streams', 'one-host/tcp-4', 'ovs-tso-veth', 2, 3],
  ['Overlay, wiregro, TCP, 1 stream', 'overlay-wiregro/tcp-1', 'kernel', 0.85, 1],
  ['Overlay, wiregro, TCP, 4 streams', 'overlay-wiregro/tcp-4', 'kernel', 0.65, 1],
  ['Overlay, TCP, 1 stream', 'overlay/tcp-1', 'kernel', 0.4, 0.6],
  ['Overlay, TCP, 4 streams', 'overlay/tcp-4', 'kernel', 0.25, 0.5],
  ['Overlay, TCP, 1 stream', 'overlay/tcp-1', 'ovs', 8, 12],
  ['Overlay, TCP, 4 streams', 'overlay/tcp-4', 'ovs', 8, 12],
  ['Overlay, MTU 9000, TCP, 1 stream', 'overlay-9000/tcp-1', 'kernel', 0.6, 0.9],
  ['One host, 60-byte frames, one flow', 'one-host/frames-1', 'kernel', 1, 1.2],
  ['Overlay, 60-byte frames, one flow', 'overlay/frames-1', 'kernel', 2, 2.5],
  ['Overlay, frames of mixed sizes, 64 flows', 'overlay/frames-64-mixed', 'kernel', 0.8, 1.2],
  ['One host, request/response, pinned', 'one-host/rr-pinned', 'kernel', 0.5, 0.7],
  ['Overlay, request/response, pinned', 'overlay/rr-pinned', 'kernel', 0.45, 0.6],
];

const lower: readonly Row[] = [
  ['One host, loss in % at 100,000 frames a second', 'one-host/loss-100k', null, 0.1, 0],
  ['Overlay, loss in % at 100,000 frames a second', 'overlay/loss-100k', null, 0.1, 0],
  ['Overlay, CPU seconds a gigabyte', 'overlay/cpu', 'ovs', 0.2, 0.1],
];

/** Interoperation has a minimum only. */
const interop: readonly Target[] = (['weft-to-kernel', 'kernel-to-weft'] as const).map((system) => ({
  title: `Overlay, TCP, 1 stream, ${system.replaceAll('-', ' ')}`,
  measurement: 'overlay/interop',
  system,
  against: 'kernel',
  better: 'higher',
  must: 0.5,
  aim: null,
}));

const routedRows: readonly (readonly [title: string, system: SystemName])[] = [
  ['routed', 'weft-routed'],
  ['translated, to the host', 'weft-nat-to-host'],
  ['translated, beyond the host', 'weft-nat-beyond-host'],
];

/** Compared with the same stream when it is only switched. */
const routed: readonly Target[] = routedRows.map(([title, system]) => ({
  title: `One host, TCP, 1 stream, ${title}`,
  measurement: 'one-host/routed',
  system,
  against: 'weft',
  better: 'higher',
  must: 0.9,
  aim: null,
}));

/** Compared with connections to the server itself. */
const byService: readonly Target[] = [
  ['One host, TCP, 1 stream, by a service', 'one-host/tcp-1', 0.95] as const,
  ['One host, new connections, by a service', 'one-host/crr', 0.8] as const,
].map(([title, measurement, must]) => ({
  ...{ title, measurement, system: 'weft-service', against: 'weft' },
  ...{ better: 'higher', must, aim: null },
}));

/** Compared with the same where nothing is asked about connections. */
const judged: readonly Target[] = [
  ['One host, TCP, 1 stream, 1,000 policies', 'one-host/judged', 'weft-policies', 0.95] as const,
  ['One host, new connections, 1,000 policies', 'one-host/judged-crr', 'weft-policies', 0.8] as const,
  ['One host, TCP, 1 stream, a hook', 'one-host/judged', 'weft-hook', 0.98] as const,
  ['One host, new connections, a hook', 'one-host/judged-crr', 'weft-hook', 0.8] as const,
].map(([title, measurement, system, must]) => ({
  ...{ title, measurement, system, against: 'weft' },
  ...{ better: 'higher', must, aim: null },
}));

export const targets: readonly Target[] = [
  ...higher.map((row) => targetOf(row, 'higher')),
  ...lower.map((row) => targetOf(row, 'lower')),
  ...interop,
  ...routed,
  ...byService,
  ...judged,
];

function targetOf([title, measurement, against, must, aim]: Row, better: Target['better']): Target {
  return { title, measurement, system: 'weft', against, better, must, aim };
}

/** Medians of fewer rounds mean little. */
const ENOUGH_ROUNDS = 5;

/** The targets that a run covered, in their order, and what was reached. */
export function figuresOf(measurements: readonly MeasurementResult[]): FigureResult[] {
  return targets.flatMap((target) => {
    const measurement = measurements.find(({ name }) => name === target.measurement);
    const result = measurement?.systems.find(({ system }) => system === target.system);
    const peer = measurement?.systems.find(({ system }) => system === target.against);
    if (!result || (target.against !== null && !peer)) return [];

    const ratio = result.ratios.find(({ against }) => against === target.against);
    const found = target.against === null ? result.summary : (ratio ?? null);
    const rounds = ratio?.rounds.length ?? result.rounds.filter((value) => value !== null).length;
    const note =
      (found === null ? 'not measured' : null) ??
      doubtOf(result.details) ??
      doubtOf(peer?.details ?? {}) ??
      (rounds < ENOUGH_ROUNDS ? `${rounds} of at least ${ENOUGH_ROUNDS} rounds` : null);
    return {
      ...target,
      value: found && { median: found.median, min: found.min, max: found.max },
      reached: found === null || note !== null ? 'undecided' : reached(found.median, target),
      note,
    };
  });
}

function reached(value: number, { better, must, aim }: Target): FigureResult['reached'] {
  const holds = (bound: number): boolean => (better === 'higher' ? value >= bound : value <= bound);
  if (aim !== null && holds(aim)) return 'aim';
  return holds(must) ? 'must' : 'no';
}
