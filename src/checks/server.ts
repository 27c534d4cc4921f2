/** The health checks in the thread of weft's own sockets, from where the backends of this host are reached. */
import { HealthChecker } from '../health/checker.ts';
import { dial } from '../health/dial.ts';
import type { OpenServer } from '../internal/server.ts';
import type { CheckChange, CheckResult } from './messages.ts';

/** How many checks may be under way: what waits for an answer takes a socket each. Those of one service are 57 at most. */
const MOST_AT_ONCE = 512;
const RANDOM_STEPS = 2 ** 30;

const open: OpenServer = ({ after, randomBelow, tell }) => {
  const checker = new HealthChecker({
    ...{ dial, after, mostAtOnce: MOST_AT_ONCE },
    random: () => randomBelow(RANDOM_STEPS) / RANDOM_STEPS,
    onChange: (id, state, why) => {
      const result: CheckResult = { id, why: state === 'healthy' ? undefined : why };
      tell(result);
    },
  });
  return {
    told(piece) {
      for (const change of piece as readonly CheckChange[]) {
        if (change.kind === 'set') checker.set(change.target);
        else checker.remove(change.id);
      }
    },
  };
};

export default open;
