/**
 * Equal decisions are one object. Flows from one place to another mostly differ only in their keys,
 * so a decision kept for each of them would be kept a thousand times. If a part differs, such as the
 * connection of each flow to the outside, the other parts are shared with the latest decision of its
 * kind.
 *
 * The tables hold the latest decisions by hash. They are bounded, and forgetting a decision only costs
 * a second copy. Decisions never change, so nobody notices that they are shared.
 */
import type { Action } from '../flow/action.ts';
import { fieldList } from '../flow/fields.ts';
import { sameRefusal } from '../flow/refusal.ts';
import { sameTreatment } from '../flow/treatment.ts';
import { sameBytes } from '../flow/types.ts';
import type { Effect } from '../pipeline/stage.ts';
import { sameText } from '../pipeline/text.ts';
import type { StageRecord, Decision } from '../pipeline/decide.ts';
import type { Excluded } from '../table/candidates.ts';
import { sameLocation } from '../table/fdb.ts';
import type { JudgedEnd } from '../table/policy/judgement.ts';

/** Powers of two. */
const SLOTS = 4096;
const KINDS = 256;

export class Decisions {
  readonly #latest = new Array<Decision | undefined>(SLOTS);
  /** The latest decision of each kind: from the same place, by the same fields. */
  readonly #alike = new Array<Decision | undefined>(KINDS);

  /** The decision that equals `decision`: a known one, or a new one that shares parts with known ones. */
  intern(decision: Decision): Decision {
    const slot = hash(decision, decision.consulted.length) & (SLOTS - 1);
    const known = this.#latest[slot];
    if (known && sameDecision(known, decision)) return known;
    const kind = hash(decision, 1) & (KINDS - 1);
    const alike = this.#alike[kind] ?? decision;
    const kept: Decision = {
      ...decision,
      actions: shared(decision.actions, alike.actions, sameAction),
      consulted: shared(decision.consulted, alike.consulted, Object.is),
      effects: shared(decision.effects, alike.effects, sameEffect),
      stages: shared(decision.stages, alike.stages, sameStage),
      judged: shared(decision.judged, alike.judged, sameJudged),
    };
    this.#latest[slot] = kept;
    this.#alike[kind] = kept;
    return kept;
  }
}

/** A list equal to `list`, with elements of `known` wherever those at the same position are equal. */
function shared<T>(list: readonly T[], known: readonly T[], isSame: (a: T, b: T) => boolean): readonly T[] {
  let isKnown = list.length === known.length;
  const elements = list.map((element, i) => {
    const other = known[i];
    if (other !== undefined && isSame(other, element)) return other;
    isKnown = false;
    return element;
  });
  return isKnown ? known : elements;
}

/** True if both say and do the same. */
function sameDecision(a: Decision, b: Decision): boolean {
  return (
    a.mask === b.mask &&
    a.reason === b.reason &&
    same(a.consulted, b.consulted, Object.is) &&
    sameActions(a.actions, b.actions) &&
    same(a.effects, b.effects, sameEffect) &&
    same(a.stages, b.stages, sameStage) &&
    same(a.judged, b.judged, sameJudged) &&
    // The service and how many there are: the stages have told them.
    same(a.refused?.excluded ?? [], b.refused?.excluded ?? [], sameExcluded)
  );
}

function sameJudged(a: JudgedEnd, b: JudgedEnd): boolean {
  return (
    a.judgement === b.judgement &&
    a.subject === b.subject &&
    a.target?.l4Port === b.target?.l4Port &&
    a.endpoint === b.endpoint &&
    sameBytes(a.address, b.address)
  );
}

function sameExcluded(a: Excluded, b: Excluded): boolean {
  return a.backend === b.backend && a.why === b.why && a.detail === b.detail;
}

export function sameActions(a: readonly Action[], b: readonly Action[]): boolean {
  return same(a, b, sameAction);
}

function sameAction(a: Action, b: Action): boolean {
  if (a === b) return true;
  switch (a.op) {
    case 'output':
      return b.op === 'output' && a.port === b.port;
    case 'encap':
      return b.op === 'encap' && a.vni === b.vni && sameBytes(a.vtep, b.vtep);
    case 'drop':
      return b.op === 'drop' && a.reason === b.reason;
    case 'refuse':
      return b.op === 'refuse' && a.reason === b.reason && sameRefusal(a.answer, b.answer);
    case 'mtu':
      return b.op === 'mtu' && a.bytes === b.bytes;
    case 'nat':
    case 'related':
      return b.op === a.op && a.slot === b.slot && a.generation === b.generation && a.reply === b.reply;
    case 'track':
      return (
        b.op === 'track' &&
        a.replies === b.replies &&
        a.replyFlow === b.replyFlow &&
        sameTreatment(a.treatment, b.treatment)
      );
    case 'balance':
      return b.op === 'balance' && a.table === b.table && a.owners.join() === b.owners.join();
    case 'clamp':
      return b.op === 'clamp' && a.mss === b.mss;
    case 'consume':
    case 'count':
    case 'echo':
      return b.op === a.op;
    case 'route':
      return b.op === 'route' && sameBytes(a.source, b.source) && sameBytes(a.destination, b.destination);
    default:
      return a satisfies never;
  }
}

function sameEffect(a: Effect, b: Effect): boolean {
  if (a.kind !== 'learn' || b.kind !== 'learn') return false;
  return a.vni === b.vni && sameBytes(a.mac, b.mac) && sameLocation(a.where, b.where);
}

function sameStage(a: StageRecord, b: StageRecord): boolean {
  return a.stage === b.stage && a.read === b.read && sameText(a.because, b.because);
}

function same<T>(a: readonly T[], b: readonly T[], isSame: (a: T, b: T) => boolean): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (!isSame(a[i]!, b[i]!)) return false;
  return true;
}

/** FNV-1a over the mask and the first `objects` consulted objects. */
function hash({ mask, consulted }: Decision, objects: number): number {
  let hash = 0x811c9dc5;
  for (const { offset } of fieldList) hash = Math.imul(hash ^ mask[offset]!, 0x01000193);
  for (let n = 0; n < objects && n < consulted.length; n++) {
    const object = consulted[n]!;
    for (let i = 0; i < object.length; i++) hash = Math.imul(hash ^ object.charCodeAt(i), 0x01000193);
  }
  return hash ^ (hash >>> 15);
}
