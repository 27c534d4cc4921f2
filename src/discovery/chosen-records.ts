/** Which records of a name an answer has. It costs the same however many there are, since a headless service may have very many. */
import type { OwnRecord } from './resource-record.ts';

/** By list: its records of each type that was asked for. Lists that are kept with their names do not change. */
const byType = new WeakMap<readonly OwnRecord[], Map<string, readonly OwnRecord[]>>();

/** Those of a type. They are looked through once. @param type `ANY` for all */
export function ofType(records: readonly OwnRecord[], type: string): readonly OwnRecord[] {
  if (type === 'ANY') return records;
  let known = byType.get(records);
  if (!known) byType.set(records, (known = typesOf(records)));
  return known.get(type) ?? [];
}

function typesOf(records: readonly OwnRecord[]): Map<string, OwnRecord[]> {
  const types = new Map<string, OwnRecord[]>();
  for (const record of records) {
    const others = types.get(record.type);
    if (others) others.push(record);
    else types.set(record.type, [record]);
  }
  return types;
}

/**
 * So many of them, or all if there are no more, shuffled: Fisher and Yates, without a copy of the others.
 * @param randomBelow returns a random whole number below its argument
 */
export function drawn(
  records: readonly OwnRecord[],
  most: number,
  randomBelow: (limit: number) => number,
): readonly OwnRecord[] {
  /** By place: who was moved there. */
  const moved = new Map<number, OwnRecord>();
  const whoIsAt = (place: number): OwnRecord => moved.get(place) ?? records[place]!;
  return Array.from({ length: Math.min(records.length, most) }, (_, at) => {
    const other = records.length > 1 ? at + randomBelow(records.length - at) : at;
    const chosen = whoIsAt(other);
    moved.set(other, whoIsAt(at));
    return chosen;
  });
}
