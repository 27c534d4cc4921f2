/** Decides whether a measurement was made under conditions in which its figure counts. */
import type { SystemResult } from './results.ts';

/** A paced sender that reached less than this percentage of its rate did not apply the load. */
const LEAST_OFFERED_PERCENT = 99;
/** CPU time that everything else on the machine may use while CPU time is measured. */
const MOST_IDLE_CPUS = 0.2;

/** Why a figure does not count; null if it does. */
export function doubtOf(details: SystemResult['details']): string | null {
  const offered = details['offeredPercentOfRate']?.median ?? 100;
  if (offered < LEAST_OFFERED_PERCENT) return `only ${offered.toFixed(0)} % of the rate was sent`;
  const busy = details['idleCpus']?.median ?? 0;
  if (busy > MOST_IDLE_CPUS) return `${busy.toFixed(1)} CPUs were busy with something else`;
  return null;
}
