/** Whether the circumstances of a measurement were such that its figure counts. */
import type { SystemResult } from './results.ts';

/** A paced sender that was slower than this, in percent of its rate, did not put the load on. */
const LEAST_OFFERED_PERCENT = 99;
/** What all else on the machine may do while CPU time is measured. */
const MOST_IDLE_CPUS = 0.2;

/** Why a figure does not count; null if it does. */
export function doubtOf(details: SystemResult['details']): string | null {
  const offered = details['offeredPercentOfRate']?.median ?? 100;
  if (offered < LEAST_OFFERED_PERCENT) return `only ${offered.toFixed(0)} % of the rate was sent`;
  const busy = details['idleCpus']?.median ?? 0;
  if (busy > MOST_IDLE_CPUS) return `${busy.toFixed(1)} CPUs were busy with something else`;
  return null;
}
