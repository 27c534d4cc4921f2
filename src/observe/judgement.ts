/** What policies say, as reports have it (`model/talk-report.ts`). */
import { nameOf } from '../model/name.ts';
import type { JudgementReport } from '../model/talk-report.ts';
import { judgementText, portMatchText } from '../pipeline/policy-text.ts';
import { renderText } from '../pipeline/text.ts';
import type { Because, PolicyJudgement, RuleName } from '../table/policy/judgement.ts';
import type { PolicyDirection, PolicyName } from '../table/policy/policy.ts';

type BecauseReport = JudgementReport['because'];

export function reportJudgement(direction: PolicyDirection, judgement: PolicyJudgement): JudgementReport {
  const { verdict, because, nearest, rejects, staged } = judgement;
  return {
    ...{ direction, verdict, text: renderText(judgementText(judgement)), because: reportBecause(because), rejects },
    ...(verdict === 'deny' && {
      nearest: nearest
        ? {
            ...reportRule(nearest),
            differsIn: nearest.differsIn,
            ...(nearest.ports && { ports: nearest.ports.map(portMatchText) }),
          }
        : null,
    }),
    ...(staged && { staged: { verdict: staged.verdict, because: reportBecause(staged.because) } }),
  };
}

function reportBecause(because: Because): BecauseReport {
  switch (because.kind) {
    case 'rule':
      return { kind: 'rule', action: because.action, ...reportRule(because) };
    case 'isolated':
      return { kind: 'isolated', policies: because.policies.map(reportName), more: because.more };
    case 'no_rule':
      return { kind: 'no_rule' };
    default:
      return because satisfies never;
  }
}

function reportRule({ tier, policy, direction, index, source }: RuleName) {
  return {
    tier,
    policy: reportName(policy),
    rule: `spec.${direction}[${index}]`,
    ...(source !== undefined && { source }),
  };
}

function reportName({ kind, name, source }: PolicyName) {
  const full = kind === 'NetworkPolicy' ? fullName(name) : name;
  return { kind, name: full, ...(source !== undefined && { source }) };
}

/** `default/web` for `web`. */
export function fullName(id: string): string {
  const { name, namespace } = nameOf(id);
  return `${namespace}/${name}`;
}
