/** What `weft doctor` says of a store that several hosts share. */
import { heldText } from '../model/held.ts';
import type { CheckReport, SharedStoreReport } from '../model/report.ts';

/** @param waitsFor why nothing is known of the cluster yet; undefined if that is not so */
export function checkStore(store: SharedStoreReport, waitsFor: string | undefined): CheckReport[] {
  const { copyDamage, signs, held, lost, audit } = store;
  const checks: CheckReport[] = [reached(store, waitsFor === undefined)];
  if (copyDamage !== undefined) {
    const hint = 'if that happens again, see the disk that has it: the end of a process alone damages nothing';
    checks.push({ check: 'copy', result: 'warning', detail: copyDamage, hint });
  }
  if (held.length > 0) {
    checks.push({
      check: 'held',
      result: 'failed',
      detail: `the store is not what it was (${signs.join('; ')}), and what it lost or reverted stays in force: ${heldText(held)}`,
      hint: 'if its address or prefix is wrong, correct that; otherwise apply what should stay again, then put into force what the store says with `weft doctor --accept-store`',
    });
  }
  if (lost.length > 0) {
    checks.push({ check: 'given up', result: 'warning', detail: lost.join('; '), hint: 'attach or apply them again' });
  }
  if (audit.mismatches > 0) {
    checks.push({
      check: 'store audit',
      result: 'warning',
      detail: `${audit.mismatches} changes were not reported by the store, and are mended`,
      hint: 'update etcd: some versions lose events',
    });
  }
  return checks;
}

function reached(
  {
    reachable,
    why,
    since,
    refused,
    losses = [],
    takesNothing,
    notFollowed,
    revision,
    pending,
    cluster,
    audit,
  }: SharedStoreReport,
  isKnown: boolean,
): CheckReport {
  const check = 'store';
  if (refused !== undefined) {
    const hint = `what goes or changes here with that: ${heldText(losses)}`;
    return { check, result: 'failed', detail: refused, ...(losses.length > 0 && { hint }) };
  }
  if (notFollowed) {
    return {
      check,
      result: 'failed',
      detail: `it answers, and is not followed since ${notFollowed.since}: ${notFollowed.why}`,
      hint: 'what is known stays in force, and weft tries again; the log says more',
    };
  }
  const waiting = pending.length === 0 ? '' : `; other hosts do not know of ${pending.join(', ')} yet`;
  if (reachable && takesNothing !== undefined) {
    return {
      check,
      result: 'failed',
      detail: `it answers, and takes nothing that is written: ${takesNothing}${waiting}`,
      hint: 'what is known stays in force, this host keeps what it writes of its own, and weft tries again',
    };
  }
  if (reachable) {
    const text = `cluster ${cluster ?? 'not known yet'}, revision ${revision}, compared ${audit.runs} times`;
    return { check, result: 'ok', detail: text };
  }
  return {
    check,
    result: 'failed',
    detail: `cannot be reached (${why}, since ${since ?? 'the start'})${waiting}`,
    hint: isKnown
      ? 'what is known stays in force, and weft tries again'
      : 'this host knows nothing of the cluster yet, and forwards nothing: weft goes on when the store can be used',
  };
}
