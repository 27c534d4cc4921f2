/** What is said of hosts that cannot say what they have in force. */
import { someOf } from './name.ts';
import type { HostInForceReport } from './report.ts';

/** Undefined if all can say it. */
export function unknownText(hosts: readonly HostInForceReport[]): string | undefined {
  const unknown = hosts.filter(({ state }) => state === 'unknown');
  const [first] = unknown;
  return first && `${someOf(unknown.map(({ host }) => host))} cannot say it while ${first.why}`;
}
