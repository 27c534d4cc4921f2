/** All scenarios of the load test, in the order in which they run. */
import { real } from './cluster/real.ts';
import { simulated } from './cluster/simulated.ts';
import { watched } from './cluster/watched.ts';
import { floods } from './flood.ts';
import { kills } from './kill.ts';
import { policies } from './policies.ts';
import { relist } from './relist.ts';
import { scale } from './scale.ts';
import { stalls } from './stalls.ts';
import type { Scenario } from './scenario.ts';

export const scenarios: readonly Scenario[] = [
  ...kills,
  ...scale,
  ...real,
  ...simulated,
  ...watched,
  ...policies,
  ...relist,
  ...stalls,
  ...floods,
];
