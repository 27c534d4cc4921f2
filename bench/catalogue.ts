/** All measurements: which load on which topology, and which systems take turns in it. */
import type { LoadName } from './loads.ts';
import type { SystemName } from './systems/index.ts';
import type { TopologyName } from './topology.ts';

export interface Measurement {
  /** topology/load */
  readonly name: string;
  readonly topology: TopologyName;
  readonly load: LoadName;
  readonly systems: readonly SystemName[];
  /** Is it part of the quick run? */
  readonly quick: boolean;
}

const everyLoad: readonly LoadName[] = [
  ...(['tcp-1', 'tcp-4', 'frames-1', 'frames-64-mixed', 'frames-10k'] as const),
  ...(['loss-100k', 'rr-pinned', 'rr-apart', 'rr', 'crr', 'cpu'] as const),
];

const loadsOf: Readonly<Record<TopologyName, readonly LoadName[]>> = {
  'one-host': [...everyLoad, 'routed', 'judged', 'judged-crr'],
  overlay: [...everyLoad, 'interop'],
  'overlay-wiregro': [...everyLoad, 'interop'],
  'overlay-9000': ['tcp-1', 'tcp-4'],
  'overlay-9000-wiregro': ['tcp-1', 'tcp-4'],
};

const quick: ReadonlySet<string> = new Set([
  ...['one-host/tcp-1', 'one-host/frames-1', 'one-host/rr-pinned', 'one-host/rr-apart', 'one-host/crr'],
  ...['overlay/frames-1', 'overlay/rr-pinned', 'overlay/rr-apart', 'overlay/crr', 'overlay-wiregro/tcp-1'],
]);
/** Systems that the quick run leaves out: each is slower than another one of the same make. */
const notQuick: ReadonlySet<SystemName> = new Set(['weft-service', 'weft-reference', 'ovs-tso-veth']);

/** Systems that take part only on request. */
export interface Guests {
  /** The variants of Open vSwitch. */
  readonly ovs?: boolean;
  /** weft from another checkout. */
  readonly before?: boolean;
}

export function catalogue(guests: Guests): Measurement[] {
  return (Object.keys(loadsOf) as TopologyName[]).flatMap((topology) =>
    loadsOf[topology].map((load) => {
      const name = `${topology}/${load}`;
      return { name, topology, load, systems: systemsIn(topology, load, guests), quick: quick.has(name) };
    }),
  );
}

/** The loads that are also measured by way of a service. */
const byService: ReadonlySet<LoadName> = new Set(['tcp-1', 'crr']);

function systemsIn(topology: TopologyName, load: LoadName, { ovs = false, before = false }: Guests): SystemName[] {
  if (load === 'interop') return ['kernel', 'weft-to-kernel', 'kernel-to-weft'];
  if (load === 'routed') return ['weft', 'weft-routed', 'weft-nat-to-host', 'weft-nat-beyond-host'];
  if (load === 'judged' || load === 'judged-crr') return ['weft', 'weft-policies', 'weft-hook', 'weft-treated'];
  const own: SystemName[] = [
    'weft',
    ...(before ? (['weft-before'] as const) : []),
    ...(byService.has(load) && topology === 'one-host' ? (['weft-service'] as const) : []),
    ...(['weft-reference', 'kernel'] as const),
  ];
  if (!ovs) return own;
  return topology === 'one-host' ? [...own, 'ovs', 'ovs-tso', 'ovs-tso-veth'] : [...own, 'ovs'];
}

/**
 * Does the pattern of `--only` choose the measurement? It is the name of a measurement, its
 * topology or its load; `*` stands for anything.
 */
export function matches({ name, topology, load }: Measurement, pattern: string): boolean {
  const text = pattern.split('*').map((part) => part.replaceAll(/[^\w-]/g, '\\$&'));
  const whole = new RegExp(`^${text.join('.*')}$`);
  return [name, topology, load].some((word) => whole.test(word));
}

/** The measurement as the quick run does it. */
export function quickened(measurement: Measurement): Measurement {
  const systems = measurement.systems.filter((name) => !notQuick.has(name));
  const hasTso = systems.includes('ovs-tso');
  return { ...measurement, systems: systems.filter((name) => !(hasTso && name === 'ovs')) };
}
