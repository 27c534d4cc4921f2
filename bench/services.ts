/**
 * Services in the tables: what it takes to load very many, to choose a backend for a new connection, and to decide about its
 * first packet.
 *
 * A choice is measured with 10 services and with 30,000, by clients that ask for the same 10 of them, in rounds that take
 * turns. With clients that ask for all of them in turn, each choice also finds nothing in the caches of the processor. The
 * times are CPU times.
 */
import { extract } from '../src/flow/extract.ts';
import { fields } from '../src/flow/fields.ts';
import { emptyKey, writeNumber, type FlowKey } from '../src/flow/key.ts';
import { formatIp, formatMac } from '../src/flow/types.ts';
import { decide } from '../src/pipeline/decide.ts';
import { createSimulation } from '../src/simulation.ts';
import type { Services } from '../src/table/services.ts';
import { gatewayMac } from '../src/table/topology.ts';
import { TCP_SYN } from '../src/wire/l4.ts';
import { tcp } from '../test/support/frames.ts';
import { manyServices, tupleTo } from '../test/support/many-services.ts';
import { bytesInUse } from '../test/support/heap.ts';
import { BLUE, chosenFor, serviceTable } from '../test/support/services.ts';

const [FEW, MANY] = [10, 30_000];
const ROUNDS = 25;
const CHOICES = 30_000;
const DECISIONS = 2000;
/** Of the first endpoint of a simulated host. */
const FIRST_PORT = 3;
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
  /** Of the whole decision about a first packet, the same. */
  readonly fewDecidedMicroseconds: number;
  readonly manyDecidedMicroseconds: number;
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
  const [fewDecidedMicroseconds, manyDecidedMicroseconds] = decisions();
  return {
    fewDecidedMicroseconds,
    manyDecidedMicroseconds,
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

/** Whole decisions about the first packets of connections to 10 services, with as many services, and with 30,000. */
function decisions(): [few: number, many: number] {
  const tables = [FEW, MANY].map((count) => {
    const host = createSimulation().host('a', '192.0.2.1');
    host.createNetwork('blue', BLUE, { subnets: ['10.0.0.0/16'] });
    host.attach({ name: 'web', network: 'blue', mac: '02:00:00:00:00:02', addresses: ['10.0.255.254'] });
    const asked = [...manyServices(FEW)].flatMap(({ backends }) => backends);
    for (const [n, { address }] of asked.entries()) {
      const mac = `02:00:00:00:01:${n.toString(16).padStart(2, '0')}`;
      host.attach({ name: `backend-${n}`, network: 'blue', mac, addresses: [formatIp(address)] });
    }
    for (const service of manyServices(count)) host.forwarding.setService(service);
    return host.forwarding.tables;
  });
  const keys = Array.from({ length: DECISIONS }, (_, nth) => firstPacket(nth));
  const rounds = Array.from({ length: ROUNDS }, () =>
    tables.map((all) => {
      const begin = cpuMicroseconds();
      for (const key of keys) {
        const { verdict } = decide(key, all);
        if (verdict !== 'connect') throw new Error(`the first packet: ${verdict}`);
      }
      return (cpuMicroseconds() - begin) / DECISIONS;
    }),
  );
  return [median(rounds.map(([few]) => few!)), median(rounds.map(([, many]) => many!))];
}

/** To one of the first 10 services. */
function firstPacket(nth: number): FlowKey {
  const { destination, destinationPort } = tupleTo(nth % FEW, nth);
  const ends = { srcMac: '02:00:00:00:00:02', dstMac: formatMac(gatewayMac(BLUE)), src: '10.0.255.254' };
  const key = emptyKey();
  const syn = { sourcePort: 1024 + nth, destinationPort, flags: TCP_SYN };
  extract(tcp({ ...ends, dst: formatIp(destination) }, syn), key);
  writeNumber(key, fields.in_port, FIRST_PORT);
  return key;
}

function cpuMicroseconds(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}
