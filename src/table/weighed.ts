/** A choice of a backend by other weights than those of the service, as a flow hook gives them. */
import { tupleHash } from '../flow/balancing.ts';
import type { ProtocolTuple } from '../flow/connection.ts';
import { weighted } from './balancer.ts';
import type { Choice } from './service-choices.ts';

/**
 * Who is chosen then, which is always the same for one tuple.
 * @param weights one for each candidate; if none is more than 0, the choice stays
 */
export function weighedChoice(choice: Choice, weights: readonly number[], tuple: ProtocolTuple): Choice {
  const { candidates } = choice.selection;
  const weighing = candidates.flatMap((candidate, at) => {
    const weight = weights[at] ?? 0;
    return weight > 0 ? [{ ...candidate, weight }] : [];
  });
  if (weighing.length === 0) return choice;
  const { backend, target, pinned } = weighted(weighing, tupleHash(tuple, 0));
  return { ...choice, backend, l4Port: target + offsetOf(choice), pin: pinned.pin, by: 'hook' };
}

/** How far the port that was asked for is behind the first one of its range. */
export function offsetOf({ l4Port, pin, selection: { candidates } }: Choice): number {
  return l4Port - candidates.find(({ pinned }) => pinned.pin === pin)!.target;
}
