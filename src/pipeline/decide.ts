/**
 * decide: the one place where it is decided what happens to a flow.
 *
 *   ingress   which network is it in, and may it be sent from there?
 *   route     is it for the gateway, or from outside? the next hop, or an answer
 *   bridge    which port or VTEP is its destination behind? answer ARP and ND
 *   send      encapsulate what goes to other hosts, and send
 *
 * It has no side effects. The result carries everything that follows from it:
 * the actions, the mask of the fields that it used, the objects that it
 * consulted, and the effects that `control/` applies. So traffic, `weft trace`
 * and the revalidation of cached flows all run exactly this. It is kept with the
 * flow, for `weft why`, and so holds nothing of the key.
 */
import type { Action } from '../flow/action.ts';
import type { FieldName } from '../flow/fields.ts';
import type { FlowKey, FlowMask } from '../flow/key.ts';
import type { DropReason } from '../flow/reason.ts';
import { FlowView } from '../flow/view.ts';
import { bridge } from './bridge.ts';
import { ingress } from './ingress.ts';
import { route } from './route.ts';
import type { Opening } from '../table/connections.ts';
import type { ConnectionUse, Effect, NeighborName, Stage, StageContext, Tables } from './stage.ts';
import type { Text } from './text.ts';
import { send } from './send.ts';

const stages: readonly { readonly name: string; readonly run: Stage }[] = [
  { name: 'ingress', run: ingress },
  { name: 'route', run: route },
  { name: 'bridge', run: bridge },
  { name: 'send', run: send },
];

export interface StageRecord {
  readonly stage: string;
  /** The fields that this stage read. */
  readonly read: readonly FieldName[];
  readonly because: Text;
}

export interface Decision {
  readonly actions: readonly Action[];
  readonly mask: FlowMask;
  /** Names of the table entries that the decision depends on, present or absent. */
  readonly consulted: readonly string[];
  readonly effects: readonly Effect[];
  readonly stages: readonly StageRecord[];
  readonly verdict: 'forward' | 'drop' | 'consume' | 'wait' | 'connect';
  readonly reason: DropReason | undefined;
  /** Of the verdict `wait`, which has no actions: decide again when it is known. */
  readonly neighbor: NeighborName | undefined;
  /** Of the verdict `connect`, which has no actions: decide again when it is open. */
  readonly opening: Opening | undefined;
  /** Of a packet that is translated: the connection that it is of. */
  readonly connection: ConnectionUse | undefined;
  /** False where every frame needs its own answer. */
  readonly cacheable: boolean;
}

/** @param head the beginning of the frame, where there is one: what some decisions look at beyond the key */
export function decide(key: FlowKey, tables: Tables, head?: Uint8Array): Decision {
  const view = new FlowView(key, head);
  const context: StageContext = { tables, destinations: [] };
  const records: StageRecord[] = [];
  const effects: Effect[] = [];

  for (const { name, run } of stages) {
    const result = run(view, context);
    records.push({ stage: name, read: view.takeRead(), because: result.because });
    switch (result.kind) {
      case 'next':
        if (result.effects) effects.push(...result.effects);
        break;
      case 'drop':
        // What a refused frame claims is not believed: its effects are left out.
        return finish(view, records, {
          effects: result.answer ? [result.answer] : [],
          actions: [{ op: 'drop', reason: result.reason }],
          reason: result.reason,
        });
      case 'wait':
        return finish(view, records, { effects, actions: [], neighbor: result.neighbor });
      case 'connect':
        return finish(view, records, { effects, actions: [], opening: result.opening });
      case 'decide':
        if (result.effects) effects.push(...result.effects);
        return finish(view, records, { effects, actions: result.actions, connection: context.connection });
      default:
        result satisfies never;
    }
  }
  throw new Error('the last stage decides');
}

interface Outcome {
  readonly effects: readonly Effect[];
  readonly actions: readonly Action[];
  readonly reason?: DropReason;
  readonly neighbor?: NeighborName;
  readonly opening?: Opening;
  readonly connection?: ConnectionUse | undefined;
}

function finish(view: FlowView, records: readonly StageRecord[], outcome: Outcome): Decision {
  const { effects, actions, reason, neighbor, opening, connection } = outcome;
  const consumed = actions.length === 1 && actions[0]!.op === 'consume';
  return {
    actions,
    mask: view.mask,
    consulted: view.consulted,
    effects,
    stages: records,
    verdict: reason ? 'drop' : neighbor ? 'wait' : opening ? 'connect' : consumed ? 'consume' : 'forward',
    reason,
    neighbor,
    opening,
    connection,
    cacheable: !neighbor && !opening && !view.isOfOneFrame && effects.every(({ kind }) => kind === 'learn'),
  };
}
