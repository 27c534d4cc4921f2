/** What the reports of what-if have in common. */
import { formatIp } from '../flow/types.ts';
import type { ClassChangeReport } from '../model/policy-report.ts';

/** An end of a connection or of a flow class. */
export function endReport({
  address,
  endpoint,
  isGone = false,
}: {
  readonly address: Uint8Array;
  readonly endpoint?: string | undefined;
  readonly isGone?: boolean | undefined;
}): ClassChangeReport['from'] {
  return {
    address: formatIp(address),
    ...(endpoint !== undefined && { endpoint }),
    ...(endpoint !== undefined && isGone && { gone: true as const }),
  };
}
