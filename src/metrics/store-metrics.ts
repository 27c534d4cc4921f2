/** The store that several hosts share. A host that has its store for itself has none of these. */
import type { StatusReport } from '../model/report.ts';
import { counter, gauge, type Metric } from './metric.ts';

type Value = number | boolean | undefined;

/** Reads the report of the shared store, if there is one. */
const of =
  (read: (store: NonNullable<StatusReport['sharedStore']>) => Value) =>
  ({ status: { sharedStore } }: { readonly status: StatusReport }): Value =>
    sharedStore ? read(sharedStore) : undefined;

export const storeMetrics: readonly Metric[] = [
  gauge(
    'weft_store_reachable',
    '1 if the shared store answers; forwarding does not depend on it',
    of(({ reachable }) => reachable),
  ),
  gauge(
    'weft_store_since_timestamp_seconds',
    'Since when the shared store has been reachable, or not reachable',
    of(({ since }) => (since === undefined ? undefined : Date.parse(since) / 1000)),
  ),
  gauge(
    'weft_store_refused',
    '1 if nothing is taken from the shared store or written to it although it answers, or it has no space for what is written; weft status says why',
    of(({ refused, takesNothing }) => refused !== undefined || takesNothing !== undefined),
  ),
  gauge(
    'weft_store_not_followed',
    '1 if the shared store answers and has not been followed for half a minute; weft status says why',
    of(({ notFollowed }) => notFollowed !== undefined),
  ),
  gauge(
    'weft_store_revision',
    'Last revision of the shared store that is in force here',
    of(({ revision }) => revision),
  ),
  gauge(
    'weft_store_pending_records',
    'Resources of this host that the shared store does not have yet',
    of(({ pending }) => pending.length),
  ),
  gauge(
    'weft_store_lost_records',
    'Resources that this host wrote while the shared store was away, and that were given up',
    of(({ lost }) => lost.length),
  ),
  gauge(
    'weft_store_held_records',
    'What stays in force although the shared store has lost or reverted it, until weft doctor --accept-store',
    of(({ held }) => held.length),
  ),
  counter(
    'weft_store_audits_total',
    'How often all of the shared store was compared with what is known of it',
    of(({ audit }) => audit.runs),
  ),
  counter(
    'weft_store_audit_mismatches_total',
    'Changes of the shared store that it had not reported; has to stay 0',
    of(({ audit }) => audit.mismatches),
  ),
];
