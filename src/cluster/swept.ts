/** Which connections policies have ended because of a change, in what is reported of it. */
import type { ApplyReport } from '../model/report.ts';
import type { PolicyEventReport } from '../model/talk-report.ts';

/** What policies have ended while a change came into force. */
export interface Swept {
  readonly events: readonly PolicyEventReport[];
  /** How many connections there are beside those that `events` tell. */
  readonly more: number;
}

/** Tells them with the policy that decides, if that is one of them, else with the last one that has changed. */
export function withSwept(reports: readonly ApplyReport[], { events, more }: Swept): ApplyReport[] {
  const last = reports.findLastIndex(({ action }) => action !== 'unchanged');
  const at = (event: PolicyEventReport): number => {
    const names = policiesOf(event).map(({ kind, name }) => `${kind} ${name}`);
    const found = reports.findIndex(({ kind, name, namespace }) =>
      names.includes(`${kind} ${namespace === undefined ? name : `${namespace}/${name}`}`),
    );
    return found >= 0 ? found : Math.max(0, last);
  };
  const places = events.map(at);
  return reports.map((report, place) => {
    const swept = events.filter((_, n) => places[n] === place);
    const isLast = place === Math.max(...places);
    return { ...report, ...(swept.length > 0 && { swept }), ...(isLast && more > 0 && { sweptMore: more }) };
  });
}

/** The policies that decide. */
function policiesOf({ event, judgement: { because, staged } }: PolicyEventReport) {
  const what = event === 'staged' && staged ? staged.because : because;
  return what.kind === 'rule' ? [what.policy] : what.kind === 'isolated' ? what.policies : [];
}
