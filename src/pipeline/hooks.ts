/**
 * Hooks: whether programs of the operator's own have something against what begins a conversation. They are asked on the host of
 * its sender, or where a client outside comes in, before the policies are.
 *
 * 1. If there are none, everything passes. What keeps a link working does so anyway.
 * 2. Each hook is asked in turn. What it reads of the flow is what the decision depends on, in whole groups.
 * 3. The first that denies has the say. Policies are asked all the same about what all of them let pass.
 * 4. What they have set for the connection becomes part of its record when it is opened, so that all of its packets are treated
 *    like this, whatever hooks say later on.
 *
 * Judged is what the sender has sent: to a service, its address. Only who gets the packet is found out behind that: the backend that
 * was chosen. As with policies, an open connection does not depend on what hooks say.
 */
import { protocolName } from '../flow/connection.ts';
import { treatmentTexts, type Treatment } from '../flow/treatment.ts';
import { formatIp, linkLocalOf } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { nameOf } from '../model/name.ts';
import {
  hookGroups,
  hooksObject,
  MOST_BACKENDS,
  type HookGroup,
  type HookJudgement,
  type HookQuestion,
} from '../table/hooks.ts';
import type { Peer } from '../table/policies.ts';
import type { Identity } from '../table/policy/policy.ts';
import type { Choice } from '../table/service-choices.ts';
import { offsetOf, weighedChoice } from '../table/weighed.ts';
import { ETH_IPV4 } from '../wire/ethernet.ts';
import { hasPorts, IP_UDP } from '../wire/ipv4.ts';
import { chosenText } from './choice-text.ts';
import { peerOf } from './egress-policy.ts';
import type { PortOrigin } from './origin.ts';
import { isOfLink, notJudged, peerIn, peerOfBackend, stranger } from './policy.ts';
import { ofOneChoice, reject } from './routed.ts';
import { drop, next, type Balanced, type Drop, type StageResult } from './stage.ts';
import { text, type Text } from './text.ts';

/** Undefined if there are no hooks, or it does not come from a workload or from outside. */
export function hooks(view: FlowView, known: Balanced): StageResult<Balanced> | undefined {
  const { tables, origin, leg } = known;
  if (origin.kind !== 'port' && origin.kind !== 'outside') return undefined;
  view.consultUntilOpen(hooksObject);
  if (tables.hooks.isEmpty) return undefined;
  if (isOfLink(view, origin)) return next(notJudged, known);
  const question = new Question(view, known);
  const judgement = tables.hooks.judge(question);
  if (judgement.kind === 'allow') return next(allowedText(judgement, question.known), question.known);
  if (view.isOfOneConnection && leg?.kind === 'to_chosen') ofOneChoice(view, leg.choice);
  return refusalBy(judgement);

  function refusalBy(denial: Exclude<typeof judgement, { readonly kind: 'allow' }>): Drop {
    const { kind, hook } = denial;
    if (kind === 'failed') return drop('hook_failed', text`hook ${hook} denies what it cannot judge: ${denial.why}`);
    const because = text`hook ${hook} denies it: ${denial.reason}`;
    if (kind === 'deny') return drop('hook_denied', because);
    const error = view.number('ip_proto') === IP_UDP ? 'port_unreachable' : 'prohibited';
    return reject(view, origin, 'hook_denied', because, error);
  }
}

function allowedText(
  { by, failed, balancedBy, treatment }: Extract<HookJudgement, { readonly kind: 'allow' }>,
  { leg }: Balanced,
): Text {
  const passed = text`${by} ${by.length === 1 ? 'lets' : 'let'} it pass`;
  const isBalanced = balancedBy !== undefined && leg?.kind === 'to_chosen';
  const balanced = isBalanced ? text`${passed}; hook ${balancedBy}: ${chosenText(leg.choice)}` : passed;
  const allowed = treatment ? text`${balanced}, with ${treatmentTexts(treatment)}` : balanced;
  if (failed.length === 0) return allowed;
  return text`${allowed}, although ${failed.map(({ hook, why }) => text`hook ${hook} cannot judge it: ${why}`)}`;
}

/** The flow, as hooks see it. */
class Question implements HookQuestion {
  readonly #view: FlowView;
  known: Balanced;

  constructor(view: FlowView, known: Balanced) {
    this.#view = view;
    this.known = known;
  }

  read(group: HookGroup): string {
    return valueOf(group, this.#view, this.known);
  }

  all(): string {
    const aside = this.#view.aside();
    return `[${hookGroups.map((group) => valueOf(group, aside, this.known)).join()}]`;
  }

  treat(treatment: Treatment): void {
    this.known = { ...this.known, treatment };
  }

  balance(weights: readonly number[]): void {
    const { leg } = this.known;
    if (leg?.kind !== 'to_chosen') return;
    const { protocol, tuple } = leg.subject;
    this.#view.forThisConnection();
    this.known = { ...this.known, leg: { ...leg, choice: weighedChoice(leg.choice, weights, { protocol, ...tuple }) } };
  }
}

function valueOf(group: HookGroup, view: FlowView, known: Balanced): string {
  const { origin, leg } = known;
  switch (group) {
    case 'protocol': {
      const ipVersion = view.number('eth_type') === ETH_IPV4 ? 4 : 6;
      return JSON.stringify([protocolName(view.number('ip_proto')), ipVersion]);
    }
    case 'source_address':
      return JSON.stringify(formatIp(view.bytes('ip_src')));
    case 'source_port':
      view.forThisConnection();
      return portOf(view, 'l4_src');
    case 'source_endpoint': {
      const { port, network } = origin.kind === 'port' ? origin : {};
      return JSON.stringify([...namesOf(port?.name), network?.name ?? null]);
    }
    case 'source_labels':
      return labelsOf(origin.kind === 'port' ? senderIdentity(view, known, origin) : undefined);
    case 'destination_address':
      return JSON.stringify(formatIp(view.bytes('ip_dst')));
    case 'destination_port':
      return portOf(view, 'l4_dst');
    case 'destination_endpoint':
      return JSON.stringify([...namesOf(receiver(view, known).endpoint), null]);
    case 'destination_labels':
      return labelsOf(receiver(view, known).identity);
    case 'service':
      return JSON.stringify(leg?.kind === 'to_chosen' ? leg.choice.selection.service.id : null);
    case 'mark':
      return String(known.treatment?.mark ?? 0);
    case 'backends':
      return `[${leg?.kind === 'to_chosen' ? backendsOf(view, known, leg.choice).join() : ''}]`;
    default:
      return group satisfies never;
  }
}

/** JSON of each. */
function backendsOf(view: FlowView, { tables }: Balanced, choice: Choice): readonly string[] {
  const { candidates } = choice.selection;
  if (candidates.length > MOST_BACKENDS) return [];
  const offset = offsetOf(choice);
  return candidates.map(({ backend, target, weight }) => {
    const { endpoint, identity } = peerOfBackend(view, tables, backend, true);
    const who = JSON.stringify([formatIp(backend.address), target + offset, [...namesOf(endpoint), null]]);
    return `${who.slice(0, -1)},${labelsOf(identity)},${weight}]`;
  });
}

function portOf(view: FlowView, field: 'l4_src' | 'l4_dst'): string {
  return hasPorts(view.number('ip_proto')) ? String(view.number(field)) : '0';
}

/** Its name and its namespace. @param id `shop/web` */
function namesOf(id: string | undefined): readonly [string | null, string | null] {
  if (id === undefined) return [null, null];
  const { name, namespace } = nameOf(id);
  return [name, namespace];
}

/** Of the workload behind the port, whatever address it sends from. */
function senderIdentity(view: FlowView, { tables }: Balanced, { port, network }: PortOrigin): Identity | undefined {
  const own = nameOf(port.name);
  for (const address of [...port.addresses, linkLocalOf(port.mac)]) {
    const { endpoint, identity } = peerIn(view, tables, network, address);
    const owner = endpoint === undefined ? undefined : nameOf(endpoint);
    if (owner?.name === own.name && owner.namespace === own.namespace) return identity;
  }
  return undefined;
}

function receiver(view: FlowView, known: Balanced): Peer {
  const { origin, leg } = known;
  if (leg?.kind === 'to_chosen') view.forThisConnection();
  return origin.kind === 'port' ? peerOf(view, known, origin, true) : stranger(view.bytes('ip_dst'));
}

/** There are few identities, and each is one object for as long as it is asked for. */
const labelTexts = new WeakMap<Identity, string>();
const NO_LABELS = '[{},{}]';

function labelsOf(identity: Identity | undefined): string {
  if (!identity) return NO_LABELS;
  const known = labelTexts.get(identity);
  if (known !== undefined) return known;
  const made = JSON.stringify([identity.labels, identity.namespaceLabels]);
  labelTexts.set(identity, made);
  return made;
}
