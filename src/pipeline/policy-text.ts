/** What policies say about a packet, in words. */
import { protocolName } from '../flow/connection.ts';
import type { Because, PolicyJudgement, NearestRule, RuleName } from '../table/policy/judgement.ts';
import type { PolicyName, PortMatch } from '../table/policy/policy.ts';
import { text, type Text } from './text.ts';

const LAST_PORT = 65_535;

/**
 * Why it is allowed or denied, what comes nearest to allowing it, and what staged policies would say. A flood of what is denied leaves
 * many decisions with one judgement, so they have its text in common.
 */
export function judgementText(judgement: PolicyJudgement): Text {
  let known = knownTexts.get(judgement);
  if (!known) knownTexts.set(judgement, (known = textOf(judgement)));
  return known;
}

const knownTexts = new WeakMap<PolicyJudgement, Text>();

function textOf({ verdict, because, nearest, staged }: PolicyJudgement): Text {
  const said = becauseText(because);
  const allowing = nearest ? nearestText(nearest) : verdict === 'deny' ? noneText(because) : undefined;
  const told = allowing ? text`${said}; ${allowing}` : said;
  if (!staged) return told;
  const then = staged.verdict === 'allow' ? 'allowed' : 'denied';
  return text`${told}; with what is staged it would be ${then}: ${becauseText(staged.because)}`;
}

function becauseText(because: Because): Text {
  switch (because.kind) {
    case 'rule':
      return text`${ruleText(because)} ${because.action === 'accept' ? 'accepts it' : 'denies it'}`;
    case 'isolated': {
      const { direction, policies, more } = because;
      const names = policies.map(policyText);
      const all = more === 0 ? names : [...names, `${more} more`];
      return text`isolated for ${direction} by ${all}, of which no rule accepts it`;
    }
    case 'no_rule':
      return text`no rule for ${because.direction} is about it`;
    default:
      return because satisfies never;
  }
}

/** `networkpolicy default/web, spec.ingress[0] (web.yaml:12)` */
function ruleText({ tier, policy, direction, index, source = policy.source }: RuleName): Text {
  const { kind, name } = policy;
  const where = source === undefined ? '' : ` (${source})`;
  const of = tier === 'network' ? '' : ` of tier ${tier}`;
  return text`${kind.toLowerCase()} ${name}${of}, spec.${direction}[${index}]${where},`;
}

function policyText({ kind, name, source }: PolicyName): Text {
  return text`${kind.toLowerCase()} ${name}${source === undefined ? '' : ` (${source})`}`;
}

/** What would have to be for it to be allowed, if there is no rule that is near to that. */
function noneText(because: Because): Text | undefined {
  if (because.kind === 'isolated') return text`they have no rule for such a peer or protocol`;
  if (because.kind === 'rule' && because.tier === 'baseline')
    return text`no networkpolicy selects it, which would be asked before`;
  return undefined;
}

function nearestText(nearest: NearestRule): Text {
  const { differsIn, ports } = nearest;
  if (differsIn === 'peer') return text`the nearest, ${ruleText(nearest)} is for other peers`;
  return text`the nearest, ${ruleText(nearest)} is for ${ports ? ports.map(portMatchText) : 'other ports'}`;
}

/** `tcp 80`, `udp 5060-5160`, `sctp`, `port http`. */
export function portMatchText(match: PortMatch): string {
  if (match.kind === 'name') return `port ${match.name}`;
  const { protocol, first, last } = match;
  const name = protocolName(protocol);
  if (first === 0 && last === LAST_PORT) return name;
  return `${name} ${first === last ? first : `${first}-${last}`}`;
}
