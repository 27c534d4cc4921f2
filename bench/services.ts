/**
 * Services in the tables: what it takes to load very many, and to choose a backend for a new connection.
 *
 * A choice is measured with 10 services and with 30,000, by clients that ask for the same 10 of them, in rounds that take
 * turns. With clients that ask for all of them in turn, each choice also finds nothing in the caches of the processor. The
 * times are CPU times.
 */
import { manyServices, tupleTo } from '../test/support/many-services.ts';
import { bytesInUse } from '../test/support/heap.ts';
import { chosenFor, serviceTable } from '../test/support/services.ts';
import type { Services } from '../src/table/services.ts';

const [FEW, MANY] = [10, 30_000];
const ROUNDS = 25;
const CHOICES = 30_000;
const MIB = 1024 * 1024;

export interface ServiceFigures {
  readonly loadedMs: number;
  readonly loadedMib: number;
  /** Once a client has asked for each of them. */
  readonly usedMib: number;
  /** To make what is needed for the first client of a service. */
  readonly firstUseMicroseconds: number;
  /** Of a choice, the medians of all rounds. */
  readonly fewMicroseconds: number;
  readonly manyMicroseconds: number;
  readonly allMicroseconds: number;
}

export function serviceFigures(): ServiceFigures {
  const before = bytesInUse();
  const few = loaded(FEW);
  const begin = cpuMicroseconds();
  const many = loaded(MANY);
  const loadedMs = (cpuMicroseconds() - begin) / 1000;
  const loadedMib = (bytesInUse() - before) / MIB;
  for (let n = 0; n < FEW; n++) chosenFor(few, tupleTo(n, 0));
  const firstUse = cpuMicroseconds();
  for (let n = 0; n < MANY; n++) chosenFor(many, tupleTo(n, 0));
  const firstUseMicroseconds = (cpuMicroseconds() - firstUse) / MANY;
  const usedMib = (bytesInUse() - before) / MIB;

  const rounds = Array.from({ length: ROUNDS }, () => [round(few, FEW), round(many, FEW), round(many, MANY)] as const);
  return {
    loadedMs,
    loadedMib,
    usedMib,
    firstUseMicroseconds,
    fewMicroseconds: median(rounds.map(([few]) => few)),
    manyMicroseconds: median(rounds.map(([, many]) => many)),
    allMicroseconds: median(rounds.map(([, , all]) => all)),
  };
}

function loaded(count: number): Services {
  const { services, changes } = serviceTable();
  for (const service of manyServices(count)) {
    services.set(service, 0);
    changes.drain();
  }
  return services;
}

/** One round of choices for clients that ask for the first `asked` services in turn. */
function round(services: Services, asked: number): number {
  const tuples = Array.from({ length: CHOICES }, (_, nth) => tupleTo((nth * 7919) % asked, nth));
  const begin = cpuMicroseconds();
  for (const tuple of tuples) chosenFor(services, tuple);
  return (cpuMicroseconds() - begin) / CHOICES;
}

function cpuMicroseconds(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}
