/** All scenarios of the load test, in the order in which they run. */
import { floods } from './flood.ts';
import { kills } from './kill.ts';
import { relist } from './relist.ts';
import { scale } from './scale.ts';
import { stalls } from './stalls.ts';
import type { Scenario } from './scenario.ts';

export const scenarios: readonly Scenario[] = [...kills, ...scale, ...relist, ...stalls, ...floods];
