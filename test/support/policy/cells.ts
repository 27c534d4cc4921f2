/** The cells of a truth table: who asks whom, by which protocol, family and port, by its address or through a service. */
import { judge, oracle, podAt, type Verdict } from './oracle.ts';
import { endpointName } from './tables.ts';
import { protocolNumbers, type Pod, type World } from './world.ts';

export interface Cell {
  readonly from: Pod;
  readonly to: Pod;
  readonly protocol: 'TCP' | 'UDP';
  readonly family: 0 | 1;
  /** Which of the two ports. */
  readonly port: 0 | 1;
  readonly through: 'address' | 'service';
}

export interface Tally {
  policies: number;
  cells: number;
  allowed: number;
  /** Connections that were open when policies changed. */
  held: number;
  cut: number;
  /** Connections through services with several backends, and those of them that the datapath has opened by itself. */
  shared: number;
  byDatapath: number;
  /** Packets to an address of which only the MAC is known, and those of whom policies have left somebody out. */
  floods: number;
  leftOut: number;
  readonly wrong: { readonly what: string; readonly world: World }[];
}

/** Every pair, of both protocols and families, to both ports: by address, and through a service, to oneself as well. */
export function cellsOf(pods: readonly Pod[]): Cell[] {
  const cells: Cell[] = [];
  for (const from of pods) {
    for (const to of pods) {
      for (const protocol of ['TCP', 'UDP'] as const) {
        for (const family of [0, 1] as const) {
          for (const port of [0, 1] as const) {
            if (from !== to) cells.push({ from, to, protocol, family, port, through: 'address' });
            cells.push({ from, to, protocol, family, port, through: 'service' });
          }
        }
      }
    }
  }
  return cells;
}

/** What the specifications say of a cell. */
export function truth(world: World, { from, to, protocol, family, through }: Cell, l4Port: number): Verdict {
  const packet = {
    from: from.addresses[family]!,
    to: to.addresses[family]!,
    protocol: protocolNumbers[protocol],
    port: l4Port,
  };
  // Its own address is always allowed, but not through a service.
  if (endpointName(from) !== endpointName(to) || through === 'address') return oracle(world, packet);
  const itself = podAt(world, packet.to)!;
  const isAllowed = (['egress', 'ingress'] as const).every((way) => judge(world, itself, way, packet) === 'allow');
  return isAllowed ? 'allow' : 'deny';
}

export function cellText({ from, to, protocol, family, through }: Cell, l4Port: number): string {
  return `${endpointName(from)} > ${endpointName(to)} ${protocol} ${l4Port} IPv${family === 0 ? 4 : 6} by ${through}`;
}
