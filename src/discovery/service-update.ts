/**
 * What the thread that answers is told of a service. A headless one may have thousands of backends, of which one changes at a
 * time: they cross as what is different from what was told before. And they cross packed, many in one piece of memory, because
 * it takes long to copy as many objects.
 *
 *   serviceUpdate(service, told)     what to tell, for the switch
 *   updated(before, update)          what that makes of what is known, for the thread
 *
 * Both keep backends in the order of the service.
 */
import { sameBytes } from '../flow/types.ts';
import type { Backend, Service, ServicePort } from '../table/service.ts';
import type { PackedBackends, ServiceUpdate, ZoneBackend, ZoneService } from './records.ts';

const ADDRESS_BYTES = 16;

/** @param told the same service as it was told last, if it was */
export function serviceUpdate(service: Service, told: Service | undefined): ServiceUpdate {
  const { id, vips, externalName, hasWildcard } = service;
  const [namespace = '', name = ''] = id.split('/');
  const named = namedOf(service);
  return {
    ...{ name, namespace, vips, externalName, hasWildcard },
    ports: named.ports.map((port) => ({ name: port.name, protocol: port.protocol, l4Port: port.l4Port })),
    replaced: differences(told && namedOf(told), named).map(({ at, count, by }) => ({
      at,
      count,
      by: packed(named, by),
    })),
  };
}

/** How many backends are told with it. */
export function backendsIn({ replaced }: ServiceUpdate): number {
  return replaced.reduce((sum, { by }) => sum + by.vnis.length, 0);
}

export interface Updated {
  readonly service: ZoneService;
  /** Where it differs from what was known, with the backends that came. */
  readonly replaced: readonly ReplacedPart<ZoneBackend>[];
}

/** @param before the same service as it is known, if it is */
export function updated(before: ZoneService | undefined, { ports, replaced, ...head }: ServiceUpdate): Updated {
  const backends = replaced.map(({ at, count, by }) => ({ at, count, by: unpacked(by) }));
  return {
    service: {
      ...head,
      ports: ports.map((port, column) => ({
        ...port,
        targets: withReplaced(
          before?.ports[column]?.targets ?? [],
          replaced.map(({ at, count, by }) => ({ at, count, by: [...by.targets[column]!] })),
        ),
      })),
      backends: withReplaced(before?.backends ?? [], backends),
    },
    replaced: backends,
  };
}

/** Some items in the place of others. */
export interface ReplacedPart<T> {
  /** The place of the first one that goes, in the list as it was. */
  readonly at: number;
  readonly count: number;
  readonly by: readonly T[];
}

/** @param replaced in the order of their places, which do not overlap */
export function withReplaced<T>(all: readonly T[], replaced: readonly ReplacedPart<T>[]): readonly T[] {
  if (replaced.length === 0) return all;
  const made: T[] = [];
  let from = 0;
  for (const { at, count, by } of replaced) {
    for (; from < at; from++) made.push(all[from]!);
    for (const one of by) made.push(one);
    from = at + count;
  }
  for (; from < all.length; from++) made.push(all[from]!);
  return made;
}

/** What of a service has names. */
interface Named {
  readonly ports: readonly ServicePort[];
  readonly backends: readonly Backend[];
  /** Which of these: those of a headless service that are ready. */
  readonly places: readonly number[];
}

function namedOf({ vips, ports, backends }: Service): Named {
  const places: number[] = [];
  const count = vips.length === 0 ? backends.length : 0;
  for (let at = 0; at < count; at++) if (backends[at]!.ready) places.push(at);
  return { ports: ports.filter(({ name }) => name !== ''), backends, places };
}

/**
 * Walks through both at once. That they are in one order keeps what is replaced small; it is right in any case.
 * @returns what is replaced, by places of those of after
 */
function differences(before: Named | undefined, after: Named): ReplacedPart<number>[] {
  const found: ReplacedPart<number>[] = [];
  const count = before?.places.length ?? 0;
  let open: { at: number; count: number; by: number[] } | undefined;
  let [from, to] = [0, 0];
  while (from < count || to < after.places.length) {
    const [was, is] = [before?.places[from], after.places[to]];
    const order = was === undefined ? 1 : is === undefined ? -1 : compared(before!.backends[was]!, after.backends[is]!);
    if (order === 0 && isSame(before!, was!, after, is!)) {
      open = undefined;
    } else {
      if (!open) found.push((open = { at: from, count: 0, by: [] }));
      if (order <= 0) open.count++;
      if (order >= 0) open.by.push(is!);
    }
    if (order <= 0) from++;
    if (order >= 0) to++;
  }
  return found;
}

function compared(a: Backend, b: Backend): number {
  if (a === b) return 0;
  if (a.endpoint === b.endpoint) return Buffer.compare(a.address, b.address);
  if (a.endpoint === undefined || b.endpoint === undefined) return a.endpoint === undefined ? 1 : -1;
  return a.endpoint < b.endpoint ? -1 : 1;
}

/** In all that is told. */
function isSame(before: Named, was: number, after: Named, is: number): boolean {
  const [one, other] = [before.backends[was]!, after.backends[is]!];
  const isSameBackend =
    one === other ||
    (one.vni === other.vni && one.hostname === other.hostname && sameBytes(one.address, other.address));
  if (!isSameBackend || before.ports.length !== after.ports.length) return false;
  return before.ports.every(({ targets }, at) => targets[was] === after.ports[at]!.targets[is]);
}

function packed({ ports, backends }: Named, places: readonly number[]): PackedBackends {
  const all = places.map((place) => backends[place]!);
  const addresses = new Uint8Array(all.length * ADDRESS_BYTES);
  for (const [at, { address }] of all.entries()) addresses.set(address, at * ADDRESS_BYTES);
  return {
    addresses,
    vnis: all.map(({ vni }) => vni),
    hostnames: all.map(({ hostname }) => hostname),
    targets: ports.map(({ targets }) => Uint16Array.from(places, (place) => targets[place]!)),
  };
}

function unpacked({ addresses, vnis, hostnames }: PackedBackends): ZoneBackend[] {
  return vnis.map((vni, at) => ({
    address: addresses.subarray(at * ADDRESS_BYTES, (at + 1) * ADDRESS_BYTES),
    vni,
    hostname: hostnames[at],
  }));
}
