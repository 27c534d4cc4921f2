/** All scenarios of the load test, in the order in which they run. */
import { floods } from './flood.ts';
import type { Scenario } from './scenario.ts';

export const scenarios: readonly Scenario[] = [...floods];
